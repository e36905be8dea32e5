"""A training that is killed goes on where it was, and ends with the bits of one that was not."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dim_monai.errors import CheckpointError, DimError
from tests.bundles.examples import Example, copy_bundle, demo_set, small_set, start

REPOSITORY = Path(__file__).resolve().parents[2]

# Sends itself a signal in the middle of a step. SIGKILL ends it without a word, as a power
# cut or the kernel does; SIGINT is a person's Ctrl-C.
KILLED = """
import json, os, signal, sys
from monai.engines.utils import IterationEvents
from pathlib import Path
from tests.bundles.examples import start

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
bundle, step, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings = json.loads(sys.argv[4])
workflow = start(bundle, "train.yaml", **settings)
trainer = workflow.parser.get_parsed_content("train#trainer")
trainer.add_event_handler(
    IterationEvents.BACKWARD_COMPLETED,
    lambda: os.kill(os.getpid(), number) if trainer.state.iteration == step else None,
)
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


def kill(
    bundle: Path, folder: Path, step: int, settings: dict[str, Any], number: int = signal.SIGKILL
) -> None:
    given = json.dumps({**settings, **places(folder)})
    command = [sys.executable, "-c", KILLED, str(bundle), str(step), str(int(number)), given]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr


def train(bundle: Path, folder: Path, settings: dict[str, Any], **more: Any) -> None:
    start(bundle, "train.yaml", **settings, **places(folder), **more).run()


@pytest.fixture(scope="module")
def whole(bundle: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of six steps without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train(bundle, folder, settings)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_six_steps_are_three_an_end_and_three(
    bundle: Path,
    settings: dict[str, Any],
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    kill(bundle, tmp_path, 4, settings, number)
    assert not (tmp_path / "model.pt").exists()
    caplog.set_level(logging.INFO, "dim_monai")
    train(bundle, tmp_path, settings)
    assert "going on after step 3 of 6 with the interrupted run in " in caplog.text
    for name in ("model.pt", "student.pt", "teacher.pt", "training_log.csv", "metrics.csv"):
        assert (whole / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_of_other_settings_or_data_is_not_continued(
    example: Example,
    bundle: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kill(bundle, tmp_path, 3, settings)
    left = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises((DimError, RuntimeError)) as refused:
        train(bundle, tmp_path, {**settings, "learning_rate": 0.5})
    assert_refused(refused, "another config")
    demo = demo_set(tmp_path_factory, example.kind)
    other = small_set(tmp_path / "other", demo, labeled=1, unlabeled=1, validation=1)
    with pytest.raises((DimError, RuntimeError)) as refused:
        train(bundle, tmp_path, {**settings, "dataset_dir": str(other)})
    assert_refused(refused, "another data")
    assert sorted((tmp_path / "checkpoints").iterdir()) == left
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
