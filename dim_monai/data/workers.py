"""Which item a loader process was busy with when it died."""

from __future__ import annotations

import re
import time
from multiprocessing import active_children
from os import getpid

import torch
from torch.utils.data import get_worker_info

_NOBODY = 0
_IDLE = -1

_PATIENCE_S = 5.0
"""After which PyTorch itself looks for processes that have ended."""


class WorkerNotes:
    """What each loader process works on, in memory that it shares with the training.

    A process that the kernel kills, for lack of memory as a rule, cannot say what it was doing; its
    last note can.

    Args:
        num_workers: loader processes; with 0 nothing is noted.
    """

    def __init__(self, num_workers: int) -> None:
        # Of each process: its id, the number of the stream and that of the item in it.
        self._notes = torch.zeros(num_workers, 3, dtype=torch.int64)
        self._notes.share_memory_()  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Forget the processes of an earlier iteration; to be called before others start."""
        self._notes.zero_()

    def begin(self, stream: int, item: int) -> None:
        """Note, in a loader process, what it begins with."""
        if (worker := get_worker_info()) is not None:
            self._notes[worker.id] = torch.tensor([getpid(), stream, item])

    def end(self) -> None:
        """Note, in a loader process, that it is done with it."""
        if (worker := get_worker_info()) is not None:
            self._notes[worker.id, 1:] = _IDLE

    def of_the_dead(self, error: BaseException) -> tuple[int, int] | None:
        """Return the stream and item at which a loader process died.

        Args:
            error: what the iteration failed with, or whatever was done meanwhile: PyTorch's word of
                a death, which names the process, may have caused it. The connection to a dying
                process breaks a moment before that.

        Returns:
            None if no process died, or none while it was at an item.
        """
        try:
            return self._died_at(error)
        except RuntimeError as told:  # by the handler of a signal, once for each iteration
            return self._died_at(told)

    def _died_at(self, error: BaseException) -> tuple[int, int] | None:
        dead = _told(error)
        if not dead and isinstance(error, OSError | EOFError):
            dead = self._gone()
        for process, stream, item in self._notes.tolist():
            if process in dead and item != _IDLE:
                return stream, item
        return None

    def _gone(self) -> set[int]:
        """Return the processes that have ended, once there is one."""
        noted = set(self._notes[:, 0].tolist()) - {_NOBODY}
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if gone := noted - {child.pid for child in active_children()}:
                return gone
            time.sleep(0.01)
        return set()


def _told(error: BaseException | None) -> set[int]:
    """Return the processes that died according to PyTorch."""
    found: set[int] = set()
    while error is not None:
        if listed := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error)):
            found |= {int(number) for number in listed[1].split(",")}
        error = error.__cause__ or error.__context__
    return found
