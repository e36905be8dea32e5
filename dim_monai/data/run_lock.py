"""One training in a folder at a time: two would mix their files, and neither could be repeated."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from dim_monai.errors import DataError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
"""Stays in the folder: a file that is removed and made anew would be two files for a moment."""


@dataclass
class _Held:
    """The lock of this process; one that was forked off has the number of its parent here."""

    descriptor: int
    folder: str
    pid: int


_held: list[_Held] = []  # at most one: a process makes one training at a time


def lock_run(folder: Path) -> None:
    """Keep trainings of other processes out of a folder, until `unlock_run` or the process ends.

    The kernel holds the lock and frees it however the process ends. A process that begins its next
    training frees the lock of its last one, which may have failed. Windows has no such lock and
    some network drives refuse it: there nobody is kept out, and on the latter a warning says so.

    Args:
        folder: of the training; there already.

    Raises:
        DataError: a training of another process is running in the folder.
        OSError: the file of the lock cannot be opened.
    """
    if sys.platform == "win32":
        return
    import fcntl

    for held in [held for held in _held if held.pid == os.getpid()]:
        unlock_run(Path(held.folder))
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise DataError(
                "a training is running in this folder",
                file=folder,
                do="wait until it has ended, or give another --output_dir",
            ) from error
        logger.warning(
            "%s cannot be locked (%s): start no other training there", folder, error.strerror
        )
        return
    _held[:] = [_Held(descriptor, os.path.realpath(folder), os.getpid())]


def unlock_run(folder: Path) -> None:
    """Let others train in a folder again, if this process has locked it."""
    if sys.platform == "win32":
        return
    import fcntl

    for held in list(_held):
        if held.pid == os.getpid() and held.folder == os.path.realpath(folder):
            fcntl.flock(held.descriptor, fcntl.LOCK_UN)  # workers of a loader may have it open, too
            os.close(held.descriptor)
            _held.remove(held)
