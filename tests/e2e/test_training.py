"""A training from the user's folder to the deployed network: what it reads, writes and says."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dim_monai.data.kinds import get_kind
from dim_monai.model_files import read_classes
from dim_monai.report.run import read_training_log
from dim_monai.report.scores import read_scores_csv
from tests.bundles.examples import (
    PROSTATE,
    Example,
    copy_bundle,
    demo_set,
    last_terms,
    small_set,
    start,
    tree,
)

STEPS = 10  # as many as TrainingLog averages


@pytest.fixture(scope="module")
def trained(example: Example, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The bundle's own folders, a read-only data set and the log of a training with both."""
    bundle = copy_bundle(tmp_path_factory.mktemp("bundle") / example.name, example)
    dataset = tmp_path_factory.mktemp("data") / "set"
    demo = demo_set(tmp_path_factory, example.kind)
    small_set(dataset, demo, labeled=1, unlabeled=3, validation=2)
    before = tree(bundle)
    with read_only(dataset), Log() as log:
        settings = {**example.tiny, "steps_per_epoch": STEPS, "dataset_dir": str(dataset)}
        workflow = start(bundle, "train.yaml", **settings)
        workflow.run()
        workflow.finalize()
    classes = tuple(workflow.parser["label_classes"])
    return SimpleNamespace(
        bundle=bundle, dataset=dataset, before=before, log=log.text, classes=classes
    )


class Log(logging.Handler):
    """Keeps what dim_monai says; pytest's own capture ends with each test."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.logger = logging.getLogger("dim_monai")

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"

    def __enter__(self) -> Log:
        self.level_before = self.logger.level
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level_before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Forbid writing below a folder (root may all the same, hence the comparison)."""
    before = tree(folder)
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)
    assert tree(folder) == before


def test_results_go_to_eval_and_weights_to_models(trained: SimpleNamespace) -> None:
    after = tree(trained.bundle)
    assert {name: after[name] for name in trained.before} == trained.before
    new = sorted(after.keys() - trained.before.keys())
    results = [".lock", "cache/checks.json", "cache/hashes.json"]  # no images: they fit into memory
    results += [
        "config.json",
        "datalist.json",
        "metrics.csv",
        "report.html",
        "run.json",
        "student.pt",
    ]
    results += ["teacher.pt", "training_log.csv"]
    assert [name for name in new if "tensorboard" not in name] == [
        *(f"eval/{name}" for name in results),
        *(f"models/model.{end}" for end in ("pt", "safetensors", "sha256")),  # and nothing else
    ]
    assert all(name.startswith("eval/") for name in new if "tensorboard" in name)


def test_the_log_says_what_is_seen_and_where_the_network_lies(trained: SimpleNamespace) -> None:
    assert "cases: 1 labelled, 3 unlabelled, 2 for validation" in trained.log
    assert f"model: {trained.bundle / 'models' / 'model.pt'}" in trained.log


def test_the_network_is_a_bare_state_dict_of_finite_weights(trained: SimpleNamespace) -> None:
    weights = torch.load(trained.bundle / "models" / "model.pt", weights_only=True)
    plain = load_file(trained.bundle / "models" / "model.safetensors")
    assert read_classes(trained.bundle / "models" / "model.safetensors") == trained.classes
    assert weights.keys() == plain.keys()
    assert all(torch.equal(weights[name], plain[name]) for name in weights)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert all(value.isfinite().all() for value in weights.values())


def test_its_config_trains_the_same_network_again(trained: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copy(trained.bundle / "eval" / "config.json", tmp_path)  # it may stand anywhere
    places = {"output_dir": str(tmp_path), "model_file": str(tmp_path / "model.pt")}
    start(trained.bundle, str(tmp_path / "config.json"), **places).run()
    first = trained.bundle / "models" / "model.pt"
    assert (tmp_path / "model.pt").read_bytes() == first.read_bytes()


def test_every_validation_case_is_scored_once(example: Example, trained: SimpleNamespace) -> None:
    listed = json.loads((trained.dataset / "datalist.json").read_text())["validation"]
    scores = read_scores_csv(trained.bundle / "eval" / "metrics.csv")
    name = get_kind(example.kind).case_name
    cases = [name(e["image"]) for e in listed for _ in example.scored]
    assert [row.case for row in scores] == cases
    assert [row.score.class_name for row in scores] == example.scored * len(listed)
    assert {row.split for row in scores} == {"validation"}


def test_the_choice_follows_the_validation(trained: SimpleNamespace) -> None:
    run = json.loads((trained.bundle / "eval" / "run.json").read_text())
    curves = {name: run["validation"][f"{name}_dice"] for name in ("student", "teacher")}
    best = {name: max(dice for _, dice in curve) for name, curve in curves.items()}
    assert run["validation_dice"] == max(best.values()) == best[run["deployed"]]


def test_every_term_has_a_curve_in_the_table_and_in_tensorboard(trained: SimpleNamespace) -> None:
    terms = {"supervised", "labelled_in_box", "unlabelled_in_box", "symmetric", "f_divergence"}
    log = read_training_log(trained.bundle / "eval" / "training_log.csv")
    assert log.keys() > terms | {"loss", "learning_rate"}
    assert all([step for step, _ in curve] == [STEPS] for curve in log.values())
    curves = set()
    for file in (trained.bundle / "eval" / "tensorboard").iterdir():
        events = EventAccumulator(str(file))
        events.Reload()
        curves |= set(events.Tags()["scalars"])
    assert curves >= terms | {"loss", "learning_rate"}


def five_labelled(tmp_path_factory: pytest.TempPathFactory, example: Example) -> list[list[Path]]:
    """Return image and label of five cases of the demo set."""
    demo = demo_set(tmp_path_factory, example.kind)
    lists = json.loads((demo / "datalist.json").read_text())
    entries = lists["labeled"] + lists["validation"]
    return [[demo / entry[key] for key in ("image", "label")] for entry in entries[:5]]


def test_two_labelled_cases_train_supervised_and_select_nothing(
    example: Example,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle, dataset = copy_bundle(tmp_path / example.name, example), tmp_path / "set"
    for kind in ("images", "labels"):
        (dataset / kind).mkdir(parents=True)
    for image, label in five_labelled(tmp_path_factory, example)[:2]:
        (dataset / "images" / image.name).symlink_to(image)
        (dataset / "labels" / label.name).symlink_to(label)
    caplog.set_level(logging.INFO, "dim_monai")
    workflow = start(bundle, "train.yaml", **example.tiny, dataset_dir=str(dataset))
    assert workflow.check_properties() == []
    workflow.run()

    assert "no unlabelled case: this training is supervised" in caplog.text
    assert "no validation case: nothing is selected" in caplog.text
    assert last_terms(workflow).keys() == {"supervised"}
    run = json.loads((bundle / "eval" / "run.json").read_text())
    assert run["rule"].startswith("nothing was selected")
    assert run["step"] == example.tiny["steps_per_epoch"]
    assert "validation_dice" not in run
    assert "nothing was selected" in (bundle / "eval" / "report.html").read_text()
    last = workflow.parser.get_parsed_content("teacher").network.state_dict()
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(weights[name], last[name].cpu()) for name in last)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    example: Example, trained: SimpleNamespace, tmp_path: Path
) -> None:
    first = torch.load(trained.bundle / "models" / "model.pt", weights_only=True)
    for seed, same in ((0, True), (1, False)):
        places = {"output_dir": str(tmp_path), "model_file": str(tmp_path / f"{seed}.pt")}
        settings = {**example.tiny, **places, "dataset_dir": str(trained.dataset), "seed": seed}
        settings["steps_per_epoch"] = STEPS
        start(trained.bundle, "train.yaml", **settings).run()
        again = torch.load(tmp_path / f"{seed}.pt", weights_only=True)
        assert all(torch.equal(first[name], again[name]) for name in first) == same


def test_evaluation_keeps_to_the_split_of_the_training(
    example: Example,
    trained: SimpleNamespace,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    """A label that is added later must not turn a case that trained the network into a test."""
    dataset = tmp_path / "set"
    for kind in ("images", "labels"):
        (dataset / kind).mkdir(parents=True)
    cases = five_labelled(tmp_path_factory, example)
    for number, (image, label) in enumerate(cases):
        shutil.copy(image, dataset / "images")
        if number < 3:
            shutil.copy(label, dataset / "labels")
    places = {
        "dataset_dir": str(dataset),
        "output_dir": str(tmp_path / "out"),
        "model_file": str(tmp_path / "model.pt"),
    }
    start(trained.bundle, "train.yaml", **example.tiny, **places).run()
    validated = [row.case for row in read_scores_csv(tmp_path / "out" / "metrics.csv")]
    for _, label in cases[3:]:
        shutil.copy(label, dataset / "labels")
    start(trained.bundle, "train.yaml", "evaluate.yaml", **example.tiny, **places).run()
    assert [row.case for row in read_scores_csv(tmp_path / "out" / "metrics.csv")] == validated


@pytest.mark.parametrize("example", [PROSTATE], indirect=True)  # as in every bundle
@pytest.mark.filterwarnings("default")  # of the client and of the database beneath it
def test_mlflow_tracks_a_training(
    example: Example, trained: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'tracking' is not installed")
    places = {"output_dir": str(tmp_path / "out"), "model_file": str(tmp_path / "model.pt")}
    settings = {**example.tiny, **places, "dataset_dir": str(trained.dataset), "tracking": "mlflow"}
    monkeypatch.chdir(tmp_path)  # where the client makes a database of its own when it is reset
    uri = mlflow.get_tracking_uri()
    try:
        workflow = start(trained.bundle, "train.yaml", **settings)
        workflow.run()
        workflow.finalize()
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlruns.db'}")
        (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
        runs = client.search_runs([experiment.experiment_id])
        assert any("loss" in run.data.metrics for run in runs)
    finally:
        mlflow.end_run()
        mlflow.set_tracking_uri(uri)
