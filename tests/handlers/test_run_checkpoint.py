"""An interrupted training that goes on ends with the bits of one that was not interrupted."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.checkpoints import Checkpoints
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import CheckpointError, ConfigError
from dim_monai.files import atomic_write
from dim_monai.handlers import (
    FDivergence,
    RunCheckpoint,
    SharpnessAware,
    TeacherEMA,
    TrainingLog,
)
from dim_monai.handlers.run_checkpoint import end_run, random_state, set_random_state
from dim_monai.methods import MiDSS
from tests.handlers.tiny import (
    BothKinds,
    RawBatch,
    Record,
    equal,
    make_batch,
    make_network,
    state_of,
)

EPOCHS, LENGTH = 3, 4
STEPS = EPOCHS * LENGTH


class Batches:
    """Batch t is a function of t, as that of the two-stream loader; its iterator draws a number."""

    def __init__(self) -> None:
        self.first = 0

    def __len__(self) -> int:
        return LENGTH

    def __iter__(self) -> Iterator[RawBatch]:
        torch.rand(1)
        step = self.first
        while True:
            yield make_batch(step)
            step += 1

    def start_at(self, step: int) -> None:
        self.first = step


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class InterruptAt:
    """Raises once at an event of a step, in the middle of whatever the step is about to do."""

    def __init__(self, step: int, event: Any = Events.ITERATION_STARTED) -> None:
        self.step, self.event, self.done = step, event, False

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        engine.add_event_handler(self.event, self)

    def __call__(self, engine: SemiSupervisedTrainer) -> None:
        if engine.state.iteration == self.step and not self.done:
            self.done = True
            raise Interrupted


Make = Callable[[nn.Module], list[Any]]


def plain(network: nn.Module) -> list[Any]:
    return [TeacherEMA(network)]


def dim(network: nn.Module) -> list[Any]:
    divergence = FDivergence(interval=2, weight=0.5)
    return [TeacherEMA(network), divergence, SharpnessAware(rho=0.1, start=0.4)]


def with_critic(network: nn.Module) -> list[Any]:
    return [TeacherEMA(network), FDivergence(estimator="variational", interval=3)]


def features(network: nn.Module) -> list[Any]:
    return [TeacherEMA(network), FDivergence(compare="features", layer="2", interval=2)]


METHODS: dict[str, tuple[Make, Callable[[], Any]]] = {
    "teacher and dropout": (plain, BothKinds),
    "DiM": (dim, lambda: MiDSS(threshold=0.5, ramp_length=0.5, amplitude_width=0.2)),
    "critic": (with_critic, BothKinds),
    "features": (features, BothKinds),
}


def training(
    folder: Path, name: str = "DiM", *more: Any, resume: bool | str = "auto", **options: Any
) -> tuple[SemiSupervisedTrainer, nn.Module]:
    """A training with every kind of state, and its teacher."""
    torch.manual_seed(0)
    make, method = METHODS[name]
    network = make_network(nn.BatchNorm2d, dropout=0.3)
    handlers = make(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=STEPS)
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=Batches(),
        network=network,
        optimizer=optimizer,
        method=method(),
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
    checkpoint = RunCheckpoint(
        str(folder / "checkpoints"),
        resume=resume,
        parts={"schedule": schedule},
        **{"interval": 1, **options},
    )
    log = TrainingLog(str(folder / "log.csv"), interval=3)
    for handler in (*handlers, log, *more, checkpoint):
        handler.attach(trainer)
    return trainer, handlers[0].network


def results(folder: Path, trainer: SemiSupervisedTrainer, teacher: nn.Module) -> Sequence[Any]:
    return state_of(trainer.network), state_of(teacher), (folder / "log.csv").read_text()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("step", [2, 5, 6, LENGTH + 1, STEPS])
def test_the_bits_are_those_of_a_run_that_was_not_interrupted(
    tmp_path: Path, name: str, step: int
) -> None:
    whole = training(tmp_path / "whole", name)
    whole[0].run()
    broken, _ = training(tmp_path / "broken", name, InterruptAt(step))
    with pytest.raises(Interrupted):
        broken.run()
    torch.rand(17)  # a new process has another random state
    rest = training(tmp_path / "broken", name, resume=True)
    rest[0].run()
    expected, got = results(tmp_path / "whole", *whole), results(tmp_path / "broken", *rest)
    assert equal(expected[0], got[0])
    assert equal(expected[1], got[1])
    assert expected[2] == got[2]
    assert rest[0].state.iteration == STEPS


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("event", [Events.ITERATION_STARTED, IterationEvents.BACKWARD_COMPLETED])
@pytest.mark.parametrize("step", [4, 7])  # the newest checkpoint is of 2, of 6
def test_the_same_trainer_goes_on_as_a_new_one_does(
    tmp_path: Path, name: str, event: Any, step: int
) -> None:
    """As in a notebook: interrupted, and run again."""
    whole = training(tmp_path / "whole", name)
    whole[0].run()
    broken = training(tmp_path / "broken", name, InterruptAt(step, event), interval=2)
    steps = Record(lambda engine: engine.state.iteration)
    steps.attach(broken[0])
    with pytest.raises(Interrupted):
        broken[0].run()
    torch.rand(17)
    broken[0].run()
    assert steps.seen[-1] == STEPS
    expected, got = results(tmp_path / "whole", *whole), results(tmp_path / "broken", *broken)
    assert equal(expected[0], got[0])
    assert equal(expected[1], got[1])
    assert expected[2] == got[2]


def test_a_training_interrupted_between_the_two_passes_loses_only_that_step(
    tmp_path: Path,
) -> None:
    """At BACKWARD_COMPLETED the second pass has moved the weights and brought them back."""
    whole = training(tmp_path / "whole")
    whole[0].run()
    broken, _ = training(tmp_path / "broken")
    evaluate, passes = broken.evaluate, []

    def fail_in_the_second_pass(*args: Any, **options: Any) -> Any:
        passes.append(broken.state.iteration)
        if passes.count(9) == 2:
            raise Interrupted
        return evaluate(*args, **options)

    broken.evaluate = fail_in_the_second_pass  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        broken.run()
    state = Checkpoints(tmp_path / "broken" / "checkpoints").newest()
    assert state is not None
    assert state["engine"]["iteration"] == 8
    rest = training(tmp_path / "broken")
    rest[0].run()
    assert equal(state_of(whole[0].network), state_of(rest[0].network))


def train_in_a_process(folder: Path, lifetime: float) -> None:
    """Begin or go on, make a step, live on for a part of its processor time; then a signal comes.

    At the latest it comes after the third step, however fast the others are. Both networks are left
    beside the folder by a training that is done before that.
    """
    torch.set_num_threads(1)  # as in the process of the tests: other sums have other bits
    trainer, teacher = training(folder)
    ends: list[float] = []

    @trainer.on(Events.ITERATION_STARTED)
    def _note_the_start() -> None:
        ends[:] = ends or [time.process_time()]

    @trainer.on(Events.ITERATION_COMPLETED)
    def _set_the_timer_once() -> None:
        ends.append(time.process_time())
        if len(ends) == 2:
            signal.setitimer(signal.ITIMER_PROF, lifetime * (ends[1] - ends[0]))
        elif len(ends) == 4:
            signal.raise_signal(signal.SIGPROF)

    trainer.run()
    networks = [state_of(trainer.network), state_of(teacher)]
    with atomic_write(folder.with_suffix(".pt"), "wb") as file:  # the signal may come here
        torch.save(networks, file)


def test_a_training_terminated_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Each process makes a step, and none to some more; then a signal ends it wherever it is.

    The signal is of a timer of the process, so that a busy machine changes nothing. The process is
    a new one: a fork shares the lock of the progress bars, and one that dies with it leaves every
    later training of the tests waiting.
    """
    new = multiprocessing.get_context("spawn")
    path = Record(lambda engine: state_of(engine.network))
    whole = training(tmp_path / "whole", "DiM", path)
    whole[0].run()
    draw, folder, stopped = np.random.default_rng(0), tmp_path / "broken", 0
    while not folder.with_suffix(".pt").exists():
        lifetime = draw.uniform(0.01, 1)
        process = new.Process(target=train_in_a_process, args=(folder, lifetime))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGPROF)
        stopped += process.exitcode != 0
        state = Checkpoints(folder / "checkpoints").newest()
        if state is not None:
            assert equal(state["network"], path.seen[state["engine"]["iteration"] - 1])
    assert stopped > 2
    student, teacher = torch.load(folder.with_suffix(".pt"), weights_only=True)
    expected = results(tmp_path / "whole", *whole)
    assert equal(expected[0], student)
    assert equal(expected[1], teacher)
    assert expected[2] == (folder / "log.csv").read_text()


def test_without_an_interval_the_epoch_is_repeated(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", interval=0)
    whole[0].run()
    broken, _ = training(tmp_path / "broken", "DiM", InterruptAt(2 * LENGTH), interval=0)
    with pytest.raises(Interrupted):
        broken.run()
    (file,) = (tmp_path / "broken" / "checkpoints").glob("*.pt")
    assert file.name == f"step_{LENGTH:09d}.pt"
    rest = training(tmp_path / "broken", interval=0)
    rest[0].run()
    expected, got = results(tmp_path / "whole", *whole), results(tmp_path / "broken", *rest)
    assert equal(expected[0], got[0])
    assert expected[2] == got[2]


@pytest.mark.parametrize("interval", [0, 1])
def test_a_completed_training_is_not_made_again_and_writes_its_results_again(
    tmp_path: Path, interval: int
) -> None:
    first = training(tmp_path, interval=interval)
    first[0].run()
    expected = results(tmp_path, *first)
    (tmp_path / "log.csv").unlink()
    made = Record(lambda engine: engine.state.iteration)
    again = training(tmp_path, "DiM", made, interval=interval)
    again[0].run()
    got = results(tmp_path, *again)
    assert made.seen == []
    assert equal(expected[0], got[0])
    assert equal(expected[1], got[1])
    assert expected[2] == got[2]
    assert again[0].state.iteration == STEPS


def test_of_a_run_that_is_ended_nothing_is_left_to_go_on_with(tmp_path: Path) -> None:
    made = Record(lambda engine: engine.state.iteration)
    for _ in range(2):  # the second begins anew and is no continuation
        training(tmp_path, "DiM", made)[0].run()
        end_run(str(tmp_path / "checkpoints"))
        assert not (tmp_path / "checkpoints").exists()
    assert made.seen == [*range(1, STEPS + 1)] * 2
    with pytest.raises(CheckpointError, match="no interrupted run"):
        training(tmp_path, resume=True)[0].run()


def interrupt(folder: Path, **options: Any) -> None:
    with pytest.raises(Interrupted):
        training(folder, "DiM", InterruptAt(6), **options)[0].run()


def test_another_run_in_the_folder_is_refused_and_stays(tmp_path: Path) -> None:
    interrupt(tmp_path, identity={"config": "a", "data": "b"})
    other = training(tmp_path, identity={"config": "a", "data": "c"})[0]
    with pytest.raises(CheckpointError, match=r"another data;.*--resume False"):
        other.run()
    assert other.state.iteration == 0
    training(tmp_path, identity={"config": "a", "data": "b"}, resume=True)[0].run()


def test_a_run_that_begins_anew_removes_the_interrupted_one(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    whole[0].run()
    interrupt(tmp_path / "a", identity={"config": "a"})
    anew = training(tmp_path / "a", identity={"config": "b"}, resume=False)
    anew[0].run()
    expected, got = results(tmp_path / "whole", *whole), results(tmp_path / "a", *anew)
    assert equal(expected[0], got[0])
    assert expected[2] == got[2]


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    whole[0].run()
    interrupt(tmp_path / "a")
    newest = max((tmp_path / "a" / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-50])
    rest = training(tmp_path / "a", resume=True)
    rest[0].run()
    assert equal(state_of(whole[0].network), state_of(rest[0].network))


def test_a_loader_that_cannot_begin_later_is_refused(tmp_path: Path) -> None:
    interrupt(tmp_path)
    trainer, _ = training(tmp_path)
    trainer.data_loader = [make_batch(0)] * LENGTH
    with pytest.raises(ConfigError, match="begin in the middle"):
        trainer.run()


def test_an_unknown_wish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resume"):
        RunCheckpoint(str(tmp_path), resume="maybe")


def test_fewer_devices_take_the_generators_that_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, Tensor] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: taken.update({device: state})
    )
    states = [torch.tensor([1]), torch.tensor([2])]
    set_random_state({**random_state(), "cuda": states})
    assert taken == {0: states[0]}
