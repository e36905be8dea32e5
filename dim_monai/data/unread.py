"""Images in formats that are not read: which lie in a folder, and which a label may belong to.

Their names decide; nothing is opened.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from dim_monai.data.kinds import Kind


def unread_images(root: Path, cases: Iterable[Path], kind: Kind) -> dict[Path, list[Path]]:
    """Return the images at or below a folder whose format is not read, sorted, by their folder.

    Hidden files and folders are none. What cannot be walked is passed over, because `Kind.find`
    refuses it.

    Args:
        root: the folder; of one file nothing is returned.
        cases: the images that are read.
        kind: of the cases.
    """
    return unread_among(_files(root), cases, kind)


def unread_among(
    files: Iterable[Path], cases: Iterable[Path], kind: Kind
) -> dict[Path, list[Path]]:
    """Return which of the files are images in a format that is not read, by their folder.

    One beside a case of its name is left out: it has been converted.

    Args:
        files: in the order in which they are returned.
        cases: the files that are read.
        kind: of the cases.
    """
    converted = {path.parent / kind.case_name(path) for path in cases}
    unread: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in files:
        name = unread_name(path, kind)
        if name is not None and path.parent / name not in converted:
            unread[path.parent].append(path)
    return dict(unread)


def _files(root: Path) -> Iterator[Path]:
    for place, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files))


def unread_image(folder: Path, name: str, kind: Kind) -> Path | None:
    """Return the image of that name, without suffix, in a format that is not read, if any."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((path for path in files if unread_name(path, kind) == name), None)


def unread_name(path: Path, kind: Kind) -> str | None:
    """Return the name of such an image without suffix, None of any other or of a hidden file."""
    if path.name.startswith("."):
        return None
    # The longest first: x.img.gz is x.
    for suffix in sorted(kind.unread, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None
