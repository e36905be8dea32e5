"""A training that is ended goes on where it was, and ends with the bits of one that was not."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from dim_monai.checkpoints import Checkpoints
from dim_monai.errors import CheckpointError, DimError
from tests.bundles.examples import PROSTATE, Example, copy_bundle, demo_set, small_set, start

REPOSITORY = Path(__file__).resolve().parents[2]

# Ends itself in the middle of a step, by a signal or an error. SIGKILL ends it without a word, as a
# power cut or the kernel does; SIGTERM is a scheduler's and SIGINT a person's way to stop it.
# "between" is in the second pass, while the weights are those of the climb.
ENDED = """
import json, os, signal, sys, torch
from monai.engines.utils import IterationEvents
from pathlib import Path
from ignite.engine import Events
from tests.bundles.examples import start

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
bundle, step, moment, how, notes = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5], sys.argv[5]
errors = {"MemoryError": MemoryError(), "RuntimeError": RuntimeError("out of memory")}
workflow = start(bundle, "train.yaml", **json.loads(sys.argv[6]))
trainer = workflow.parser.get_parsed_content("train#trainer")
evaluate = trainer.evaluate

def note(name):
    if trainer.state.iteration == step:
        torch.save(trainer.network.state_dict(), Path(notes, name))

def end():
    if trainer.state.iteration == step:
        if how in errors:
            raise errors[how]
        os.kill(os.getpid(), signal.Signals[how])

def second_pass(*args, **options):
    terms = evaluate(*args, **options)
    if moment == "between" and args:
        note("climb.pt")
        end()
    return terms

trainer.evaluate = second_pass
trainer.add_event_handler(Events.ITERATION_STARTED, lambda: note("before.pt"))
trainer.add_event_handler(
    IterationEvents.BACKWARD_COMPLETED, lambda: end() if moment == "after" else None
)
workflow.run()
"""

# A loader process kills itself at the first case it comes to once there is a checkpoint.
LOADER_DIES = """
import json, os, signal, sys
from pathlib import Path
from monai.transforms import Lambdad
from dim_monai.bundle import show_cause_last
from tests.bundles.examples import start

bundle, note, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
workflow = start(bundle, "train.yaml", **settings)
show_cause_last()
loader = workflow.parser.get_parsed_content("train#dataloader")
held = [
    (case.slices["image"], entry["image"])
    for stream in loader.streams.values()
    for case, entry in zip(stream.cases, stream.data, strict=True)
]

def case_of(image):
    (name,) = (name for held, name in held if 0 <= image.data_ptr() - held.data_ptr() < held.nbytes)
    return name

def die(image):
    if any(Path(settings["output_dir"], "checkpoints").glob("*.pt")) and not note.exists():
        note.write_text(case_of(image))
        os.kill(os.getpid(), signal.SIGKILL)
    return image

weak = workflow.parser.get_parsed_content("train#weak_augmentation")
weak.transforms = (Lambdad("image", die), *weak.transforms)
workflow.run()
"""


@pytest.fixture(scope="module")
def bundle(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundle") / example.name, example)


@pytest.fixture(scope="module")
def settings(example: Example, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """DiM with a second pass from the third of six steps on; a checkpoint after every step."""
    dataset = tmp_path_factory.mktemp("data") / "set"
    demo = demo_set(tmp_path_factory, example.kind)
    small_set(dataset, demo, labeled=1, unlabeled=2, validation=1)
    steps = {"max_epochs": 2, "steps_per_epoch": 3, "checkpoint_interval": 1}
    return {**example.tiny, **steps, "sharpness_start": 0.3, "dataset_dir": str(dataset)}


def places(folder: Path) -> dict[str, str]:
    return {"output_dir": str(folder), "model_file": str(folder / "model.pt")}


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def end(
    bundle: Path,
    folder: Path,
    step: int,
    settings: dict[str, Any],
    how: str = "SIGKILL",
    moment: str = "after",
) -> None:
    notes = folder.parent / f"{folder.name} notes"
    notes.mkdir()
    given = json.dumps({**settings, **places(folder)})
    done = run_script(ENDED, bundle, step, moment, how, notes, given)
    expected = -signal.Signals[how] if how.startswith("SIG") else 1
    assert done.returncode == expected, done.stderr


def train(bundle: Path, folder: Path, settings: dict[str, Any], **more: Any) -> None:
    start(bundle, "train.yaml", **settings, **places(folder), **more).run()


@pytest.fixture(scope="module")
def whole(bundle: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of six steps without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train(bundle, folder, settings)
    return folder


def require_the_same_results(whole: Path, folder: Path) -> None:
    models = ("model.pt", "model.safetensors", "model.sha256", "student.pt", "teacher.pt")
    for name in (*models, "training_log.csv", "metrics.csv"):
        assert (whole / name).read_bytes() == (folder / name).read_bytes(), name
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_six_steps_are_three_an_end_and_three(
    bundle: Path,
    settings: dict[str, Any],
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    folder = tmp_path / "run"
    end(bundle, folder, 4, settings, how)
    assert not (folder / "model.pt").exists()
    caplog.set_level(logging.INFO, "dim_monai")
    train(bundle, folder, settings)
    assert "going on after step 3 of 6 with the interrupted run in " in caplog.text
    require_the_same_results(whole, folder)


@pytest.mark.parametrize("val_interval", [1, 2, 9])  # of two epochs
def test_a_training_whose_final_scores_fail_is_scored_without_another_step(
    bundle: Path, settings: dict[str, Any], tmp_path: Path, val_interval: int
) -> None:
    settings = {**settings, "val_interval": val_interval}
    train(bundle, tmp_path / "whole", settings)
    folder = tmp_path / "run"
    workflow = start(bundle, "train.yaml", **settings, **places(folder))

    def fail() -> None:
        raise OSError("no space left on device")

    workflow.parser.get_parsed_content("evaluate#evaluator").run = fail
    with pytest.raises((OSError, RuntimeError)):
        workflow.run()
    assert not (folder / "metrics.csv").exists()
    (folder / "model.pt").write_bytes(b"another training writes its model here meanwhile")
    again = start(bundle, "train.yaml", **settings, **places(folder))
    trainer, made = again.parser.get_parsed_content("train#trainer"), []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: made.append(1))
    again.run()
    assert made == []
    require_the_same_results(tmp_path / "whole", folder)
    runs = [json.loads((f / "run.json").read_text()) for f in (tmp_path / "whole", folder)]
    for run in runs:
        assert run.pop("training_minutes") > 0
    assert runs[0] == runs[1]


def test_a_run_goes_on_with_another_budget_of_memory(
    bundle: Path, settings: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    end(bundle, folder, 4, settings)
    train(bundle, folder, settings, cache_memory_gb=0)
    assert len(list((folder / "cache").rglob("*.safetensors"))) == 3  # the cases of training
    require_the_same_results(whole, folder)


@pytest.mark.parametrize("example", [PROSTATE], indirect=True)  # as in every bundle
@pytest.mark.parametrize("how", ["SIGTERM", "MemoryError", "RuntimeError"])
def test_weights_of_the_climb_are_in_no_file_whatever_ends_the_second_pass(
    bundle: Path, settings: dict[str, Any], whole: Path, tmp_path: Path, how: str
) -> None:
    folder, notes = tmp_path / "run", tmp_path / "run notes"
    end(bundle, folder, 4, settings, how, "between")
    before, climb = (torch.load(notes / f"{n}.pt", weights_only=True) for n in ("before", "climb"))
    assert any(not torch.equal(before[name], climb[name]) for name in before)
    state = Checkpoints(folder / "checkpoints").newest()
    assert state is not None
    assert state["engine"]["iteration"] == 3
    assert all(torch.equal(before[name], state["network"][name]) for name in before)
    written = {path.name for path in folder.rglob("*.pt") if path.parent.name != "checkpoints"}
    assert written == set()
    train(bundle, folder, settings)
    require_the_same_results(whole, folder)


@pytest.mark.parametrize("example", [PROSTATE], indirect=True)  # as in every bundle
def test_a_loader_process_that_is_killed_names_the_case_and_the_run_goes_on_without_it(
    bundle: Path, settings: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    folder, note = tmp_path / "run", tmp_path / "case"
    with_workers = {**settings, **places(folder), "train#dataloader#num_workers": 2}
    done = run_script(LOADER_DIES, bundle, note, json.dumps(with_workers))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    said = "DataError: a loader process died while it prepared a case: "
    assert last.startswith(f"{said}{note.read_text()}; "), last
    assert any((folder / "checkpoints").glob("*.pt"))
    train(bundle, folder, settings)  # of which "how many processes load" is no part
    require_the_same_results(whole, folder)


def test_a_run_of_other_settings_or_data_is_not_continued(
    example: Example,
    bundle: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    end(bundle, tmp_path, 3, settings)
    files = (*tmp_path.iterdir(), *(tmp_path / "checkpoints").iterdir())
    left = {path: path.read_bytes() for path in files if path.is_file()}
    with pytest.raises((DimError, RuntimeError)) as refused:
        train(bundle, tmp_path, {**settings, "learning_rate": 0.5})
    assert_refused(refused, "another config")
    demo = demo_set(tmp_path_factory, example.kind)
    other = small_set(tmp_path / "other", demo, labeled=1, unlabeled=1, validation=1)
    with pytest.raises((DimError, RuntimeError)) as refused:
        train(bundle, tmp_path, {**settings, "dataset_dir": str(other)})
    assert_refused(refused, "another data")
    assert {path: path.read_bytes() for path in left} == left  # its settings and its log, too
    train(bundle, tmp_path, {**settings, "learning_rate": 0.5}, resume=False)
    assert (tmp_path / "model.pt").is_file()


def test_insisting_on_a_run_that_is_not_there_is_an_error(
    bundle: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises((DimError, RuntimeError)) as refused:
        train(bundle, tmp_path, settings, resume=True)
    assert_refused(refused, "no interrupted run")


def assert_refused(refused: pytest.ExceptionInfo[BaseException], why: str) -> None:
    """MONAI wraps what an expression of a config raises."""
    error: BaseException | None = refused.value
    while error is not None and not isinstance(error, CheckpointError):
        error = error.__cause__ or error.__context__
    assert why in str(error)
