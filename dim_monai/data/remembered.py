"""What was found out about files at an earlier start, so that 10,000 of them need not be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dim_monai.errors import DataError
from dim_monai.files import atomic_write


class Remembered:
    """Results by key, in a JSON file that outlives the process.

    A key holds the identity of the files a result comes from (`dim_monai.data.identity`): that of a
    changed file is another key, under which nothing is found. Keys are hashes, so that the file
    tells no path and no name. A file that cannot be read or is damaged holds nothing: everything is
    found out again. Of several processes that write, the last one's results stay.

    Args:
        folder: of the file, made readable by its owner alone; None remembers nothing.
        name: of the file.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, name: str) -> None:
        self._file = None if folder is None else Path(folder, name)
        self._known = _read(self._file)
        self._found: dict[str, Any] = {}

    def recall(self, key: str) -> Any:
        """Return the result of an earlier start, None if there is none."""
        return self._known.get(key)

    def note(self, key: str, result: Any) -> None:
        """Keep a result, which JSON can hold, until `save`."""
        self._found[key] = result

    def save(self) -> None:
        """Write what was noted, if anything was.

        Raises:
            DataError: the file cannot be written.
        """
        if self._file is None or not self._found:
            return
        self._known |= self._found
        self._found = {}
        try:
            make_private(self._file.parent)
            with atomic_write(self._file, "w") as stream:
                json.dump(self._known, stream)
        except OSError as error:
            raise DataError(
                "cache folder cannot be written",
                file=self._file,
                got=error.strerror or error,
                do="make room, or give another folder with --cache_dir",
            ) from error


def make_private(folder: Path) -> None:
    """Make a folder that nobody but its owner can read; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of which a damaged character or number is one
        return {}
    return known if isinstance(known, dict) else {}
