"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError


class TeacherEMA:
    """Keep a teacher that follows the student after every step and shares no storage with it.

    ``teacher <- m * teacher + (1 - m) * student`` with ``m = min(1 - 1/(t + 1), decay)`` at update
    t = 0, 1, ...: the first update copies the student, the average then lengthens until ``decay``
    (as in the code of MiDSS). Floating-point buffers (running statistics) are averaged by the same
    rule, other buffers copied. The teacher is always in evaluation mode.

    Ignite's ``EMAHandler`` has no such start, and by default lets teacher and student share their
    buffers; hence this handler.

    Args:
        network: the student, bare (not wrapped for several devices); the teacher begins as a copy.
        decay: limit of m; 0.99 averages over about 100 steps.

    Attributes:
        network: the teacher.
        updates: number of updates so far.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ConfigError("decay of the teacher", got=decay, expected="0 <= decay < 1")
        self.decay = decay
        self.updates = 0
        self.student = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Give the trainer its teacher and follow the student after every step."""
        engine.teacher = self.network
        engine.parts["teacher"] = self
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.update)

    @torch.no_grad()
    def update(self) -> None:
        """Move the teacher toward the student."""
        momentum = min(1 - 1 / (self.updates + 1), self.decay)
        self.updates += 1
        averaged, followed = [], []
        for teacher, student in zip(_tensors(self.network), _tensors(self.student), strict=True):
            if teacher.is_floating_point():
                averaged.append(teacher)
                followed.append(student.detach())
            else:
                teacher.copy_(student)
        torch._foreach_mul_(averaged, momentum)
        torch._foreach_add_(averaged, followed, alpha=1 - momentum)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and number of updates, for a checkpoint."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def _tensors(network: nn.Module) -> list[Tensor]:
    """Return all weights and buffers; one that several layers share is listed, and moved, once."""
    return [*network.parameters(), *network.buffers()]
