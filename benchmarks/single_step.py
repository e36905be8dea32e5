"""A step of a trainer by itself, for those who measure one."""

from __future__ import annotations

from typing import Any

from ignite.engine import Events

from dim_monai.engine import SemiSupervisedTrainer


def make_step(trainer: SemiSupervisedTrainer, batch: Any) -> None:
    """Make a step with its handlers, outside of Ignite's loop; the iteration is the caller's."""
    trainer.fire_event(Events.ITERATION_STARTED)
    trainer._iteration(trainer, batch)
    trainer.fire_event(Events.ITERATION_COMPLETED)
