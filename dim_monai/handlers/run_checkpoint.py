"""Runs that can be interrupted: checkpoints on the way, and going on from the newest."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events

from dim_monai.checkpoints import Checkpoints
from dim_monai.data.run_lock import unlock_run
from dim_monai.distributed import meet, rank
from dim_monai.engine import SemiSupervisedTrainer, Stateful, bare
from dim_monai.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

SCHEMA = 2
"""Version of what a checkpoint holds; another one is refused."""


class RunCheckpoint:
    """Write the whole state of a training now and then, and go on from it.

    Stored are student, optimizer, gradient scaler, step and every random state, whatever handlers
    have put into ``engine.parts`` (teacher, divergence, choice of the network, log), and ``parts``.
    The loader needs no state of its own: its batches are a function of seed and step. On the CPU
    an interrupted run therefore ends with the bits of one that was not.

    A checkpoint is written after every epoch and every ``interval`` steps, never in the middle of a
    step and never because of an exception: weights that a second pass has moved are in no file.
    A SIGTERM ends the process at once, as it does without us: there is nothing to do on the way
    out, and a rank that waits for another could not do it. With several ranks the first one writes,
    and all go on from that: what a rank remembers of its own must be the same on all of them.
    The last checkpoints stay when the training completes: what comes after it, such as the final
    scores, may fail, and the same run then goes on there. :func:`end_run` removes them.

    To be attached after every handler that has a state.

    Args:
        folder: of the checkpoints.
        resume: "auto" goes on with an interrupted run of the same ``identity`` and begins where
            there is none; True insists on one; False removes it and begins anew.
        identity: what must be equal for a run to be the same, by name: digests of config and data.
        parts: further things with a state, by name, such as the learning rate schedule.
        interval: steps between two checkpoints, besides those after epochs; 0 for those alone.

    Raises:
        ConfigError: ``resume`` is none of the three.
        CheckpointError: when the training starts: an interrupted run of another identity, or none
            where ``resume`` is True. While it runs: a checkpoint cannot be written.
    """

    def __init__(
        self,
        folder: str,
        *,
        resume: bool | str = "auto",
        identity: Mapping[str, str] | None = None,
        parts: Mapping[str, Stateful] | None = None,
        interval: int = 0,
    ) -> None:
        if resume not in (True, False, "auto"):
            raise ConfigError("resume", got=repr(resume), expected="true, false or auto")
        self._checkpoints = Checkpoints(folder)
        self.resume = resume
        self.identity = dict(identity or {})
        self.parts = dict(parts or {})
        self.interval = interval
        self._random: dict[str, Any] | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Restore before the training starts; write on the first rank only."""
        engine.parts.update(self.parts)
        engine.restore = self.restore
        engine.add_event_handler(Events.STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_STARTED, self._restore_random)
        if rank() > 0:
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if self.interval:
            every = Events.ITERATION_COMPLETED(every=self.interval)
            engine.add_event_handler(every, self._within_epoch)

    def restore(self, engine: SemiSupervisedTrainer) -> bool:
        """Put the trainer into the state of the newest checkpoint, if there is one.

        Returns:
            Whether no step is left to make.
        """
        state = self._choose()
        meet()  # The first rank may be done with the run before another has read its checkpoint.
        if state is None:
            return False
        bare(engine.network).load_state_dict(state["network"])
        engine.optimizer.load_state_dict(state["optimizer"])
        engine.scaler.load_state_dict(state["scaler"])
        for name, part in engine.parts.items():
            part.load_state_dict(state["parts"][name])
        engine.load_state_dict(state["engine"])
        engine.state.skipped_steps, engine.skipped_in_a_row = state["skipped"]
        engine.seconds_before = state["seconds"]
        self._start_loader(engine)
        # Restored when the first step begins: making the iterator of a loader draws a number.
        self._random = state["random"]
        steps = engine.state.max_epochs * engine.state.epoch_length
        done: int = engine.state.iteration
        if done == steps:
            logger.info("all %d steps of the run in %s were made", steps, self._checkpoints.folder)
            return True
        logger.info(
            "going on after step %d of %d with the interrupted run in %s",
            done,
            steps,
            self._checkpoints.folder,
        )
        return False

    def _start_loader(self, engine: SemiSupervisedTrainer) -> None:
        start_at = getattr(engine.data_loader, "start_at", None)
        if start_at is None:
            raise ConfigError(
                "the loader cannot begin in the middle of a training",
                got=type(engine.data_loader).__name__,
                expected="a loader with start_at(step), such as TwoStreamLoader",
            )
        start_at(engine.state.iteration)

    def _choose(self) -> dict[str, Any] | None:
        if self.resume is False:
            if rank() == 0:
                self._checkpoints.clear()
            return None
        if rank() == 0:
            self._checkpoints.sweep()
        return self.interrupted()

    def interrupted(self) -> dict[str, Any] | None:
        """Return the state of the run to go on with, None if there is none; nothing is removed.

        Raises:
            CheckpointError: as when the training starts.
        """
        state = self._checkpoints.newest()
        if state is None:
            if self.resume is True:
                raise CheckpointError(
                    "there is no interrupted run to resume",
                    file=self._checkpoints.folder,
                    expected="a checkpoint that verifies",
                    do="leave out --resume True, or give the --output_dir of the interrupted run",
                )
            return None
        self._require_same(state)
        return state

    def _require_same(self, state: dict[str, Any]) -> None:
        stored = {"schema": state.get("schema"), **state.get("identity", {})}
        present = {"schema": SCHEMA, **self.identity}
        other = sorted(k for k in stored.keys() | present.keys() if stored.get(k) != present.get(k))
        if other:
            raise CheckpointError(
                "the interrupted run in this folder is another one",
                file=self._checkpoints.folder,
                got=f"another {', '.join(other)}",
                expected="the same as now",
                do="repeat its settings and data, give a new --output_dir, or begin anew with "
                "--resume False, which removes it",
            )

    def _within_epoch(self, engine: SemiSupervisedTrainer) -> None:
        # At the end of an epoch the validation is still to come.
        if engine.state.iteration % engine.state.epoch_length:
            self._save(engine)

    def _save(self, engine: SemiSupervisedTrainer) -> None:
        state = {
            "schema": SCHEMA,
            "identity": self.identity,
            "engine": dict(engine.state_dict()),
            "network": bare(engine.network).state_dict(),
            "optimizer": engine.optimizer.state_dict(),
            "scaler": engine.scaler.state_dict(),
            "skipped": [engine.state.skipped_steps, engine.skipped_in_a_row],
            "seconds": engine.seconds_before + time.monotonic() - self._started,
            "parts": {name: part.state_dict() for name, part in engine.parts.items()},
            "random": random_state(),
        }
        self._checkpoints.save(engine.state.iteration, state)

    def _start_clock(self) -> None:
        self._started = time.monotonic()

    def _restore_random(self) -> None:
        if self._random is not None:
            set_random_state(self._random)
            self._random = None


def require_same_run(folder: str, identity: Mapping[str, str], resume: bool | str = "auto") -> None:
    """Refuse to go on with another run, before anything that it left is replaced.

    Args:
        folder: of its checkpoints.
        identity: as of :class:`RunCheckpoint`.
        resume: as of :class:`RunCheckpoint`; False refuses nothing.

    Raises:
        ConfigError: ``resume`` is none of the three.
        CheckpointError: an interrupted run of another identity, or none where ``resume`` is True.
    """
    run = RunCheckpoint(folder, resume=resume, identity=identity)
    if resume is not False:
        run.interrupted()


def end_run(folder: str) -> None:
    """Remove the checkpoints of a run of which nothing is left to do, on the first rank.

    The folder above them is free for another training then.

    Args:
        folder: of its checkpoints, in that of the run.
    """
    if rank() == 0:
        Checkpoints(folder).clear()
        unlock_run(Path(folder).parent)


def random_state() -> dict[str, Any]:
    """Return the state of every global generator as tensors, numbers and containers of them."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`random_state` gave."""
    random.setstate(state["python"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    # There may be fewer devices now than there were.
    for device, generator in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(generator, device)
