"""Which file a result was made from: a change is noticed without reading the file again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

from dim_monai.data.datalist_json import files_of

FileIdentity = list[str | int]


def identity_of(path: str | os.PathLike[str]) -> list[FileIdentity]:
    """Return path, size, times of change in ns and inode of a file, or of all files of a series.

    Of the two times the second (``st_ctime``) is the system's own: a file that was written in place
    and given its old date back is another one.

    Args:
        path: a file, or the folder of a DICOM series, whose hidden files do not count.

    Raises:
        OSError: there is none.
    """
    place = os.path.abspath(path)
    if not os.path.isdir(place):
        return [_identity(place, os.stat(place))]
    with os.scandir(place) as found:
        files = [entry for entry in found if entry.name[0] != "." and entry.is_file()]
    return [_identity(entry.path, entry.stat()) for entry in sorted(files, key=lambda e: e.name)]


def entry_identity(entry: Mapping[str, str]) -> dict[str, object]:
    """Return the entry of a data list together with the identity of its files.

    Raises:
        OSError: a file is missing.
    """
    return {**entry, "files": {key: identity_of(entry[key]) for key in files_of(entry)}}


def key_of(*parts: object) -> str:
    """Return the SHA-256 of anything that JSON can hold: a name that tells nothing of it."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _identity(path: str, found: os.stat_result) -> FileIdentity:
    return [path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
