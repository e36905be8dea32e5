"""The training log: what stands in the file, and that the file is closed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import Tensor

from dim_monai.handlers import SharpnessAware, TeacherEMA, TrainingLog
from dim_monai.methods import MiDSS
from dim_monai.report.run import read_training_log
from tests.handlers.tiny import Record, make_batch, make_network, make_trainer

STEPS, INTERVAL = 7, 3
LINES = [(3, slice(0, 3)), (6, slice(3, 6)), (7, slice(6, 7))]  # the last one: what is left over


def test_the_file_holds_the_means_of_every_interval(tmp_path: Path) -> None:
    network = make_network()
    log = TrainingLog(str(tmp_path / "new" / "log.csv"), INTERVAL)
    outputs = Record(lambda engine: (engine.state.output[0], dict(engine.state.diagnostics)))
    batches = [make_batch(seed) for seed in range(STEPS)]
    handlers = [TeacherEMA(network), SharpnessAware(), log, outputs]
    trainer = make_trainer(network, batches, *handlers, method=MiDSS(threshold=0.5), lr=0.2)
    trainer.run()

    curves = read_training_log(log.path)
    terms = ["supervised", "labelled_in_box", "unlabelled_in_box", "symmetric"]
    assert set(curves) == {
        *("loss", *terms, "gradient_norm", "coverage", "agreement", "learning_rate"),
        *("unlabelled_weight", "teacher_trust"),
    }
    series = {
        "loss": [float(output["loss"]) for output, _ in outputs.seen],
        "gradient_norm": [float(output["gradient_norm"]) for output, _ in outputs.seen],
        "teacher_trust": [float(numbers["teacher_trust"]) for _, numbers in outputs.seen],
        "learning_rate": [0.2] * STEPS,
    } | {term: [float(output["terms"][term]) for output, _ in outputs.seen] for term in terms}
    for name, values in series.items():
        assert [step for step, _ in curves[name]] == [step for step, _ in LINES]
        means = [np.mean(values[part]) for _, part in LINES]
        np.testing.assert_allclose([value for _, value in curves[name]], means, rtol=1e-5)
    # What was logged last can also be read by other handlers.
    np.testing.assert_allclose(trainer.state.metrics["loss"], series["loss"][-1], rtol=1e-6)


def test_the_learning_rate_is_the_one_that_the_step_was_made_with(tmp_path: Path) -> None:
    """Whichever comes first, the schedule or the log."""
    log = TrainingLog(str(tmp_path / "log.csv"), 1)
    network = make_network()
    trainer = make_trainer(network, [make_batch(seed) for seed in range(3)], lr=0.4)
    schedule = torch.optim.lr_scheduler.StepLR(trainer.optimizer, step_size=1, gamma=0.5)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
    log.attach(trainer)
    trainer.run()
    curve = read_training_log(log.path)["learning_rate"]
    np.testing.assert_allclose(curve, [(1, 0.4), (2, 0.2), (3, 0.1)])


def test_the_file_is_plain_csv_and_a_new_training_begins_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("what an older training left\n")
    trainer = make_trainer(make_network(), [make_batch(0)] * 2, TrainingLog(str(path), 1))
    for _ in range(2):
        trainer.run()
        with path.open(newline="") as file:
            header, *lines = csv.reader(file)
        assert header == ["step", "name", "value"]
        assert [line[:2] for line in lines if line[1] == "loss"] == [["1", "loss"], ["2", "loss"]]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_is_raised_and_what_was_logged_stays(
    tmp_path: Path, error: type[BaseException]
) -> None:
    calls: list[int] = []

    def breaks(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise error("no more")
        return logits.square().mean(dim=(1, 2, 3))

    log = TrainingLog(str(tmp_path / "log.csv"), 2)
    trainer = make_trainer(make_network(), [make_batch(0)] * 9, log, loss_function=breaks)
    with pytest.raises(error, match="no more"):
        trainer.run()
    assert [step for step, _ in read_training_log(log.path)["loss"]] == [2, 4]
    assert log._file is not None
    assert log._file.closed


def test_the_bar_reaches_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    log = TrainingLog(str(tmp_path / "log.csv"), INTERVAL)
    make_trainer(make_network(), [make_batch(0)] * STEPS, log).run()
    assert f"{STEPS}/{STEPS}" in capsys.readouterr().err
