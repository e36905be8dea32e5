"""Every config and every overlay trains, evaluates and segments from one end to the other."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from dim_monai.data.kinds import get_kind
from dim_monai.data.photograph import read_mask, read_photograph
from dim_monai.errors import CheckpointError
from dim_monai.handlers import SharpnessAware
from dim_monai.methods import Supervised
from dim_monai.metrics import SCORE_NAMES
from dim_monai.report.scores import columns
from tests.bundles.examples import (
    EXAMPLES,
    PROSTATE,
    Example,
    Task,
    demo_set,
    last_terms,
    small_set,
    start,
)

METHODS = PROSTATE.methods  # the same in every bundle
TASKS = {f"{e.name}: {task}": (e, e.tasks[task]) for e in EXAMPLES for task in e.tasks}


def get(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def train(
    bundle: Path, dataset: Path, output_dir: Path, *overlays: str, **settings: Any
) -> ConfigWorkflow:
    places = {
        "dataset_dir": str(dataset),
        "output_dir": str(output_dir),
        "model_file": str(output_dir / "model.pt"),
    }
    workflow = start(bundle, "train.yaml", *overlays, **settings, **places)
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    return workflow


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def require_complete_training(workflow: ConfigWorkflow, output_dir: Path) -> dict[str, Any]:
    """Check what every training must leave, and return the terms of its last step."""
    trainer = get(workflow, "train#trainer")
    assert trainer.state.iteration == 2
    assert trainer.state.skipped_steps == 0
    terms = last_terms(workflow)
    assert all(math.isfinite(value) for value in terms.values())

    run = json.loads((output_dir / "run.json").read_text())
    deployed = {"student": get(workflow, "network"), "teacher": get(workflow, "teacher").network}
    weights = torch.load(output_dir / "model.pt", weights_only=True)
    trained = deployed[run["deployed"]].state_dict()
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name].cpu()) for name in weights)

    report = (output_dir / "report.html").read_text()
    for case in {row["case"] for row in read_table(output_dir / "metrics.csv")}:
        assert case in report
    return terms


@pytest.mark.parametrize("overlay", METHODS)
def test_a_method_does_what_its_overlay_says(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path, overlay: str
) -> None:
    workflow = train(bundle, dataset, tmp_path, overlay, **example.tiny)
    terms = require_complete_training(workflow, tmp_path)
    assert "supervised" in terms
    assert ("f_divergence" in terms) == workflow.parser["use_divergence"]
    if isinstance(get(workflow, "method"), Supervised):
        assert terms.keys() == {"supervised"}
    else:
        assert terms.keys() > {"supervised"}
    # A disabled component is None, which is not hung on the engine.
    sharp = [h for h in get(workflow, "train#handlers") if isinstance(h, SharpnessAware)]
    assert len(sharp) == workflow.parser["use_sharpness"]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_evaluates_and_segments_with_one_overlay(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str
) -> None:
    example, task = TASKS[name]
    demo = demo_set(tmp_path_factory, example.kind)
    dataset = small_set(tmp_path / "set", demo, labeled=1, unlabeled=3, validation=1, test=3)
    bundle, settings = example.folder, {**example.tiny, **task.settings}
    trained = train(bundle, dataset, tmp_path, *task.overlays, **settings)
    terms = require_complete_training(trained, tmp_path)
    assert terms.keys() >= {"supervised", "labelled_in_box", "unlabelled_in_box", "f_divergence"}
    assert_table(tmp_path / "metrics.csv", example, task, ["validation"])

    places = {"output_dir": str(tmp_path), "model_file": str(tmp_path / "model.pt")}
    files = ("train.yaml", "evaluate.yaml", *task.overlays)
    evaluation = start(bundle, *files, **settings, dataset_dir=str(dataset), **places)
    evaluation.run()
    assert_table(tmp_path / "metrics.csv", example, task, ["validation", "test", "test", "test"])

    image = json.loads((dataset / "datalist.json").read_text())["test"][0]["image"]
    places |= {"output_dir": str(tmp_path / "masks"), "dataset_dir": image}
    tiny = {**example.network, **task.settings}
    start(bundle, "inference.yaml", *task.overlays, kind="inference", **tiny, **places).run()
    (mask,) = (tmp_path / "masks").iterdir()
    found, shape = read_both(example, mask, Path(image))
    assert found.shape == shape
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= set(range(get(trained, "labels").num_classes))


def read_both(example: Example, mask: Path, image: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return a mask and the shape of its image."""
    if example.kind == "photograph":
        return read_mask(mask), read_photograph(image).shape[:2]
    return np.asarray(nib.load(mask).dataobj), nib.load(image).shape


def assert_table(path: Path, example: Example, task: Task, splits: list[str]) -> None:
    rows = read_table(path)
    ratio = {"disc", "cup"} <= set(task.scored)
    expected = columns(SCORE_NAMES[get_kind(example.kind).unit])
    assert set(expected) <= set(rows[0])
    assert ("vcdr" in rows[0]) == ratio
    assert [row["split"] for row in rows[:: len(task.scored)]] == splits
    assert [row["class"] for row in rows] == task.scored * len(splits)


def test_a_training_goes_on_from_the_weights_of_another(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    first = train(bundle, dataset, tmp_path / "first", **example.tiny)
    weights = torch.load(tmp_path / "first" / "model.pt", weights_only=True)
    start_from = str(tmp_path / "first" / "model.pt")
    # No step is large enough to leave them.
    settings = {**example.tiny, "learning_rate": 1e-12, "start_from": start_from}
    second = train(bundle, dataset, tmp_path / "second", **settings)
    for network in (get(second, "network"), get(second, "teacher").network):
        state = network.state_dict()
        assert all(torch.allclose(weights[name], state[name], atol=1e-7) for name in weights)
    fresh = get(first, "network").state_dict()
    assert fresh.keys() == weights.keys()


def test_weights_of_another_network_stop_a_training_that_leaves_all_as_it_was(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.csv").write_text("of an earlier run")
    with pytest.raises(RuntimeError) as caught:
        train(
            bundle,
            dataset,
            tmp_path / "out",
            **example.tiny,
            start_from=str(tmp_path / "other.pt"),
        )
    assert isinstance(caught.value.__cause__, CheckpointError)
    assert "of another network" in str(caught.value.__cause__)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.csv"]
