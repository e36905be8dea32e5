"""Where the time of a step goes, and the least that it can take on this machine."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from speed_ours import Ours, Row, Size
from torch.utils.flop_counter import FlopCounterMode

from dim_monai.handlers import TrainingLog

Clock = Callable[[], float]


def wait(device: torch.device) -> None:
    """Let the device come to the end of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def counted_flop(step: Any) -> int:
    """Return the floating-point operations of convolutions and products in one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def product_rate(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """Return the operations per second that a large matrix product reaches, the best of ten."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        start = clock()
        torch.mm(a, b)
        wait(device)
        seconds.append(clock() - start)
    return 2 * size**3 / min(seconds)


class Probe:
    """Notes the time at which a step comes to its events; one is attached first, one last."""

    def __init__(self, device: torch.device, position: str, clock: Clock) -> None:
        self.device, self.position, self.clock = device, position, clock
        self.times: dict[str, float] = {}

    def attach(self, engine: Any) -> None:
        """Listen to the events of a step."""
        events = {
            "start": Events.ITERATION_STARTED,
            "forward": IterationEvents.FORWARD_COMPLETED,
            "backward": IterationEvents.BACKWARD_COMPLETED,
            "model": IterationEvents.MODEL_COMPLETED,
        }
        for name, event in events.items():
            engine.add_event_handler(event, self.note, name)

    def note(self, name: str) -> None:
        """Note the time."""
        wait(self.device)
        self.times[f"{name} {self.position}"] = self.clock()


def parts_of_a_step(
    size: Size, row: Row, device: torch.device, steps: int, clock: Clock
) -> dict[str, float]:
    """Return the median seconds of each part of a step."""
    first, last = Probe(device, "first", clock), Probe(device, "last", clock)
    folder = tempfile.TemporaryDirectory()
    ours = Ours(size, row, device, first, last, TrainingLog(str(Path(folder.name, "log.csv"))))
    ours.trainer.fire_event(Events.STARTED)
    teacher, network = ours.trainer.teacher, ours.trainer.network
    asked = {"teacher": 0.0, "begun": 0.0}

    def ask(*_: object) -> None:
        wait(device)
        asked["begun"] = clock()

    def answer(*_: object) -> None:
        wait(device)
        asked["teacher"] = clock() - asked["begun"]

    def student(*_: object) -> None:
        if "student" not in first.times:
            first.note("student")
            first.times["student"] = first.times["student first"]

    teacher.register_forward_pre_hook(ask)
    teacher.register_forward_hook(answer)
    network.register_forward_pre_hook(student)
    collected: dict[str, list[float]] = {}
    for turn in range(steps + 2):
        first.times.clear()
        ours.step()
        wait(device)
        end = clock()
        if turn < 2:
            continue
        at = first.times | last.times
        parts = {
            "teacher": asked["teacher"],
            "mixing and targets": at["student"] - at["start first"] - asked["teacher"],
            "student and loss": at["forward first"] - at["student"],
            "backward": at["backward first"] - at["forward first"],
            "climb and second pass": at["backward last"] - at["backward first"],
            "optimizer": at["model first"] - at["backward last"],
            "EMA": at["model last"] - at["model first"],
            "log": end - at["model last"],
        }
        for name, value in parts.items():
            collected.setdefault(name, []).append(value)
    folder.cleanup()
    return {name: statistics.median(values) for name, values in collected.items()}
