"""The files of a source folder, listed once: links stay inside, loops end, nothing is missed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dim_monai.errors import DataError


@dataclass(frozen=True)
class Tree:
    """A source folder and every file at or below it that is not hidden.

    Attributes:
        root: the folder, absolute.
        paths: of the files, relative to ``root``, sorted.
    """

    root: Path
    paths: tuple[Path, ...]

    def folders(self) -> dict[Path, list[Path]]:
        """Return the files of each folder that directly holds some, all relative to ``root``."""
        found: dict[Path, list[Path]] = {}
        for path in self.paths:
            found.setdefault(path.parent, []).append(path)
        return found

    def some(self, test: Callable[[Path], bool]) -> bool:
        """Whether ``test`` holds for the relative path of some file."""
        return any(map(test, self.paths))


def list_tree(root: Path) -> Tree:
    """Return the files of a folder; write nothing.

    A link is followed if it leads to a place inside ``root``. A folder that is reached on several
    ways is listed once, by the first of them: folders before links to folders, then by name.

    Raises:
        DataError: no such folder; a folder that cannot be read; a link that leads out of ``root``
            or to nothing, whose files would be missed.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise DataError("source folder not found", file=root, do="check the path")
    files = _walk(root, Path(os.path.realpath(root)), set())
    return Tree(root, tuple(sorted(path.relative_to(root) for path in files)))


def _walk(folder: Path, boundary: Path, seen: set[str]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in seen:
        return
    seen.add(here)
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(
            "folder cannot be read", file=folder, got=error.strerror, do="check its permissions"
        ) from error
    below = []
    for path in (folder / name for name in names):
        if path.is_symlink():
            _require_inside(path, boundary)
        if path.is_dir():
            below.append(path)
        elif path.is_file():
            yield path
    for path in sorted(below, key=lambda path: (path.is_symlink(), path.name)):
        yield from _walk(path, boundary, seen)


def _require_inside(link: Path, boundary: Path) -> None:
    target = Path(os.path.realpath(link))
    if os.path.exists(link) and target.is_relative_to(boundary):
        return
    raise DataError(
        "link that cannot be followed",
        file=link,
        got="a link out of the source folder" if os.path.exists(link) else "a link to nothing",
        expected=f"links that stay inside {boundary}",
        do="put what it should lead to in its place, or take it out",
    )
