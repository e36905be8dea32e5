"""A folder of checkpoints in which the newest whole one is found, whatever happened."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from dim_monai.errors import CheckpointError
from dim_monai.files import atomic_write

logger = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that stay: should the disk lose the newest, there is one before it."""

_NAME = re.compile(r"step_(\d{9})\.pt")
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


class Checkpoints:
    """Checkpoints of one run, ``step_<number>.pt`` with their SHA-256 beside them.

    Each file is whole or not there (:func:`dim_monai.files.atomic_write`), and counts only if its
    bytes have the hash beside it. The hash is written first: a process killed between the two
    leaves a hash without a file, and the checkpoint before is the newest. Older ones go after that.

    Args:
        folder: of the files; made when the first is written.
        kept: checkpoints that stay.
    """

    def __init__(self, folder: str | Path, kept: int = KEPT) -> None:
        self.folder = Path(folder)
        self.kept = kept

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after ``step`` and return its file; then remove the oldest.

        Args:
            step: optimizer steps made so far.
            state: tensors, numbers, strings and containers of them: what ``weights_only`` loads.

        Raises:
            CheckpointError: it cannot be written, as on a full disk; the earlier ones stay.
        """
        path = self.folder / f"step_{step:09d}.pt"
        content = io.BytesIO()
        torch.save(state, content)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(_hash_file(path), "w") as text:
                text.write(hashlib.sha256(content.getbuffer()).hexdigest() + "\n")
            with atomic_write(path, "wb") as file:
                file.write(content.getbuffer())
        except OSError as error:
            if not path.exists():
                with suppress(OSError):
                    _hash_file(path).unlink()
            raise CheckpointError(
                "checkpoint cannot be written",
                file=path,
                got=error.strerror or str(error),
                do="make room, then start again: the run goes on from the checkpoint before",
            ) from error
        for old in self._files()[self.kept :]:
            _remove(old)
        return path

    def newest(self) -> dict[str, Any] | None:
        """Return the newest state that verifies, None if there is none.

        Those that do not verify are passed over with a warning that names them.
        """
        for path in self._files():
            problem, state = _read(path)
            if problem is None:
                return state
            logger.warning("checkpoint passed over: %s; %s", path, problem)
        return None

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if nothing else is in it."""
        for path in self._files():
            _remove(path)
        self.sweep()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def sweep(self) -> None:
        """Remove what killed processes left: temporary files, and hashes without a checkpoint.

        To be called while nobody writes.
        """
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            orphan = path.suffix == ".sha256" and not path.with_suffix("").exists()
            if orphan or _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _hash_file(path).unlink(missing_ok=True)


def _read(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Return what is wrong with a checkpoint, None if nothing is, and its state."""
    try:
        content = path.read_bytes()
        stated = _hash_file(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}", {}
    if hashlib.sha256(content).hexdigest() != stated:
        return "its content differs from its hash", {}
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        return f"it cannot be loaded: {error}", {}
    return (None, state) if isinstance(state, dict) else ("it holds no state of a run", {})
