"""Validation during training, and which network is written at its end."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice
from monai.handlers import ValidationHandler as MonaiValidationHandler
from torch import nn

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import DataError
from dim_monai.handlers import DeployBest, TeacherEMA, ValidationHandler
from dim_monai.model_files import read_model
from tests.handlers.tiny import Record, equal, make_batch, make_network, make_trainer, state_of


class Judge:
    """An evaluator that gives the scores it is told to, after every epoch of the training."""

    def __init__(self, **scores: list[float]) -> None:
        self.engine = Engine(lambda engine, batch: None)
        self.scores = scores
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)
        self._times = 0

    def _judge(self, engine: Engine) -> None:
        engine.state.metrics = {f"{k}_dice": v[self._times] for k, v in self.scores.items()}
        self._times += 1

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.engine.run([None]))


def train(folder: Path, judge: Judge, epochs: int, *more: Any, **kwargs: Any) -> dict[str, Any]:
    """Train, and return the states of both networks after every epoch."""
    student = make_network(nn.BatchNorm2d)
    teacher = TeacherEMA(student, decay=0.5)
    deploy = DeployBest(
        str(folder / "models" / "model.pt"),
        str(folder / "results" / "run.json"),
        {"student": student, "teacher": teacher.network},
        judge.engine,
    )
    states = Record(
        lambda engine: {"student": state_of(student), "teacher": state_of(teacher.network)},
        Events.EPOCH_COMPLETED,
    )
    batches = [make_batch(seed) for seed in range(2)]
    handlers = [teacher, states, judge, deploy, *more]
    make_trainer(student, batches, *handlers, epochs=epochs, **kwargs).run()
    return {f"{k} {epoch}": v for epoch, s in enumerate(states.seen, 1) for k, v in s.items()}


def run_file(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results" / "run.json").read_text())
    return content


def deployed(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of both formats, each of which has the hash beside it."""
    models = folder / "models"
    assert {path.name for path in models.iterdir()} == {
        "model.pt",
        "model.safetensors",
        "model.sha256",
    }
    state = read_model(models / "model.pt")
    assert equal(state, read_model(models / "model.safetensors"))
    return state


@pytest.mark.parametrize(
    ("student", "teacher", "best", "dice"),
    [
        ([0.2, 0.5, 0.3], [0.1, 0.4, 0.45], "student 2", 0.5),
        ([0.2, 0.3, 0.4], [0.6, 0.4, 0.5], "teacher 1", 0.6),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "student 1", 0.0),  # the first of equals
        ([float("nan"), 0.1, 0.1], [float("nan"), 0.2, 0.1], "teacher 2", 0.2),
    ],
)
def test_the_better_of_student_and_teacher_at_its_best_is_deployed(
    tmp_path: Path, student: list[float], teacher: list[float], best: str, dice: float
) -> None:
    states = train(tmp_path, Judge(student=student, teacher=teacher), epochs=3)
    assert len({float(state["0.weight"].sum()) for state in states.values()}) == 6
    assert equal(deployed(tmp_path), states[best])
    run = run_file(tmp_path)
    name, epoch = best.split()
    assert (run["deployed"], run["step"]) == (name, 2 * int(epoch))
    assert run["validation_dice"] == dice
    assert (run["steps"], run["skipped_steps"], run["seed"]) == (6, 0, 0)
    assert [step for step, _ in run["validation"]["teacher_dice"]] == [2, 4, 6]
    assert "highest mean Dice" in run["rule"]


def test_without_a_validation_the_last_teacher_is_deployed_and_the_file_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = Judge(student=[], teacher=[])
    judge.attach = lambda engine: None  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, logger="dim_monai"):
        states = train(tmp_path, judge, epochs=2)
    assert equal(deployed(tmp_path), states["teacher 2"])
    run = run_file(tmp_path)
    assert (run["deployed"], run["step"]) == ("teacher", 4)
    assert run["rule"] == (
        "nothing was selected: no validation was made, so the last teacher is deployed"
    )
    assert "validation_dice" not in run
    assert "nothing was selected" in caplog.text


def test_validations_that_score_nothing_select_nothing(tmp_path: Path) -> None:
    """Of truths that are all empty MONAI's mean Dice is 0, which is no score."""
    judge, truth = Judge(student=[0.0] * 2, teacher=[0.0] * 2), torch.zeros(1, 4, 4)
    for name in ("student_dice", "teacher_dice"):
        metric = MeanDice(output_transform=lambda _: ([torch.ones(1, 4, 4)], [truth]))
        metric.attach(judge.engine, name)
    judge.engine.add_event_handler(
        Events.COMPLETED, lambda: scored.append(judge.engine.state.metrics["student_dice"])
    )
    scored: list[float] = []
    states = train(tmp_path / "empty", judge, epochs=2)
    assert scored == [0.0, 0.0]
    assert equal(deployed(tmp_path / "empty"), states["teacher 2"])
    assert run_file(tmp_path / "empty")["rule"] == (
        "nothing was selected: no validation case shows a structure, "
        "so the last teacher is deployed"
    )

    judge = Judge(student=[0.0] * 2, teacher=[0.0] * 2)
    truth = torch.ones(1, 4, 4)  # a 0 that was scored counts
    for name in ("student_dice", "teacher_dice"):
        metric = MeanDice(output_transform=lambda _: ([torch.zeros(1, 4, 4)], [truth]))
        metric.attach(judge.engine, name)
    states = train(tmp_path / "missed", judge, epochs=2)
    assert equal(deployed(tmp_path / "missed"), states["student 1"])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_training_leaves_an_older_model_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(b"an older model")

    class Interrupt:
        def attach(self, engine: SemiSupervisedTrainer) -> None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), self)

        def __call__(self) -> None:
            raise error("stop")

    with pytest.raises(error, match="stop"):
        train(tmp_path, Judge(student=[0.5, 0.6], teacher=[0.5, 0.6]), 2, Interrupt())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["model.pt"]
    assert (tmp_path / "models" / "model.pt").read_bytes() == b"an older model"


@pytest.mark.parametrize("name", ["models", "results"])
def test_a_training_that_could_not_write_its_end_is_not_built(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()  # no folder
    network = make_network(nn.BatchNorm2d)
    deploy = DeployBest(
        str(tmp_path / "models" / "model.pt"),
        str(tmp_path / "results" / "run.json"),
        {"teacher": network},
        Engine(lambda engine, batch: None),
    )
    with pytest.raises(DataError, match="folder cannot be written") as caught:
        make_trainer(network, [make_batch(0)], deploy)
    assert caught.value.file == str(tmp_path / name)


def test_a_model_that_cannot_be_written_whole_does_not_replace_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(b"an older model")

    def half(weights: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        train(tmp_path, Judge(student=[0.5], teacher=[0.6]), epochs=1)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.pt"]
    assert (tmp_path / "models" / "model.pt").read_bytes() == b"an older model"


# --- the handler


def evaluator(cases: int) -> SupervisedEvaluator:
    images = [{"image": torch.zeros(1, 1, 8, 8), "label": torch.zeros(1, 1, 8, 8)}] * cases
    return SupervisedEvaluator(device="cpu", val_data_loader=images, network=make_network())


def validations(handler: MonaiValidationHandler, epochs: int = 4) -> list[int]:
    """Train and return the epochs after which the validator ran."""
    seen: list[int] = []
    trainer = make_trainer(make_network(), [make_batch(0)], handler, epochs=epochs)
    validator = handler.validator
    assert validator is not None
    validator.add_event_handler(Events.STARTED, lambda: seen.append(trainer.state.epoch))
    trainer.run()
    return seen


def test_validation_comes_at_its_interval() -> None:
    assert validations(ValidationHandler(interval=2, validator=evaluator(1))) == [2, 4]


@pytest.mark.parametrize(
    ("interval", "epochs", "validated"), [(2, 5, [2, 4, 5]), (9, 4, [4]), (1, 1, [1])]
)
def test_the_last_network_is_validated_once(
    interval: int, epochs: int, validated: list[int]
) -> None:
    handler = ValidationHandler(interval=interval, validator=evaluator(1))
    assert validations(handler, epochs) == validated


def test_a_validation_counts_by_steps_too() -> None:
    handler = ValidationHandler(interval=3, validator=evaluator(1), epoch_level=False)
    assert validations(handler, epochs=4) == [3, 4]  # one step an epoch


def test_the_validation_at_the_end_comes_before_the_choice(tmp_path: Path) -> None:
    network = make_network()
    judge = evaluator(1)
    judge.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: judge.state.metrics.update(student_dice=0.5)
    )
    deploy = DeployBest(
        str(tmp_path / "m.pt"), str(tmp_path / "run.json"), {"student": network}, judge, "student"
    )
    handlers = [ValidationHandler(interval=9, validator=judge), deploy]
    make_trainer(network, [make_batch(0)], *handlers, epochs=2).run()
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["step"], run["validation_dice"]) == (2, 0.5)


def test_a_validation_that_failed_does_not_take_the_next_one_with_it() -> None:
    handler = ValidationHandler(interval=1, validator=evaluator(2))
    trainer = make_trainer(make_network(), [make_batch(0)], handler)
    assert handler.validator is not None
    cases = []

    def fail_once() -> None:
        cases.append(handler.validator.state.iteration)
        if len(cases) == 2:
            raise KeyboardInterrupt

    handler.validator.add_event_handler(Events.ITERATION_COMPLETED, fail_once)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    handler(trainer)
    assert cases == [1, 2, 1, 2]


def test_without_a_case_there_is_no_validation() -> None:
    assert validations(ValidationHandler(interval=2, validator=evaluator(0))) == []
