"""Files that are whole or not there: the one way to replace a file; and where a file is."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from dim_monai.errors import DataError


@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb"], *, durable: bool = True
) -> AbstractContextManager[BinaryIO]: ...
@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["w"], *, durable: bool = True
) -> AbstractContextManager[TextIO]: ...
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb", "w"], *, durable: bool = True
) -> AbstractContextManager[IO[Any]]:
    """Open a file whose content appears under `path` only once it is complete and on disk.

    The content goes to a temporary file in the same folder (a rename is atomic only within one
    file system), is flushed to the disk, and then takes the place of `path` in one step. If the
    block raises, the temporary file is removed and `path` is left as it was. A process that is
    killed may leave the hidden temporary file behind, never a half-written `path`.

    Args:
        path: the file to write or replace; its folder must exist.
        mode: "wb" for bytes; "w" for UTF-8 text whose line ends are written as they are given.
        durable: wait until the disk has it. False is for many files that can be made again and are
            verified whenever they are read: a power cut may leave one of them damaged.

    Returns:
        A context manager that yields the open file. The new file's permissions follow the umask.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.

    Example:
        >>> import pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> target = pathlib.Path(folder.name, "a.txt")
        >>> with atomic_write(target, "w") as file:
        ...     _ = file.write("whole")
        >>> target.read_text()
        'whole'
        >>> folder.cleanup()
    """
    return _replacing(Path(path), mode, durable)


@contextmanager
def _replacing(target: Path, mode: str, durable: bool) -> Iterator[IO[Any]]:
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    # 0o666 and not mkstemp's 0o600: the kernel then takes the user's umask off, as for any file.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        error.filename = str(target)  # the user knows that one
        raise
    try:
        with _as_file(descriptor, mode) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(target.parent)


def _as_file(descriptor: int, mode: str) -> IO[Any]:
    if mode == "wb":
        return os.fdopen(descriptor, "wb")
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


def require_writable(folder: Path) -> None:
    """Refuse, before work starts, a folder in which nothing could be written at its end.

    Nothing is left there. A folder that is missing is not made: the nearest one that exists counts.

    Raises:
        DataError: the system does not let this user write there.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise DataError(
            "folder cannot be written",
            file=folder,
            got=error.strerror,
            do="choose another folder, or ask for the right to write there",
        ) from error


def remove(first: Path, *others: Path) -> None:
    """Remove files of one folder that may be missing; on return they are gone from the disk, too.

    What is written after that is never found beside them, not even after a power cut.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in (first, *others):
        path.unlink(missing_ok=True)
    _sync_folder(first.parent)


def _sync_folder(folder: Path) -> None:
    """Put names that changed on disk; systems that cannot open a folder have no such step."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of what a user named, without ``~`` and ``..``; links stay."""
    return Path(os.path.abspath(Path(path).expanduser()))
