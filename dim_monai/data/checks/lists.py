"""The lists of a data set as they stand: every contradiction is told, and what is left is read.

Training stops at the first error of a data list. Here the same errors are faults like others, so
that one run tells all of them. What training accepts is taken as training reads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dim_monai.data.checks.entries import parse_entries
from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.folders import pair_folders
from dim_monai.data.checks.unused import unused_images
from dim_monai.data.datalist import (
    DATALIST_NAME,
    LISTS,
    Datalist,
    Entry,
    hashed,
    load_saved_datalist,
    open_datalist,
)
from dim_monai.data.datalist_json import make_entry
from dim_monai.data.kinds import Kind
from dim_monai.errors import DataError


@dataclass(frozen=True)
class Lists:
    """The cases of a data set, and what is wrong with its lists.

    Attributes:
        cases: each with the name of its list.
        source: how the lists were obtained, in words.
        notes: what the data list says about them.
        found: faults and remarks.
    """

    cases: tuple[tuple[Entry, str], ...]
    source: str
    notes: tuple[str, ...] = ()
    found: tuple[Fault, ...] = ()


def read_lists(path: Path, kind: Kind) -> Lists:
    """Return the lists of a data set, whatever is wrong with them.

    Args:
        path: absolute; a data list, a data set folder, or any folder or file with cases.
        kind: of the cases.

    Raises:
        DataError: there is nothing at ``path``, or no case.
    """
    if path.is_dir() and (path / DATALIST_NAME).is_file():
        path = path / DATALIST_NAME
    if path.is_file() and path.suffix.lower() == ".json":
        return _lists(lambda: load_saved_datalist(path), lambda: parse_entries(path), path)
    if (path / "images").is_dir():
        lists = _lists(
            lambda: open_datalist(path, kind=kind.name), lambda: pair_folders(path, kind), path
        )
        entries = [entry for entry, _ in lists.cases]
        unused = unused_images(path / "images", entries, kind)
        return replace(lists, found=(*lists.found, *unused))
    cases = tuple((_entry(case, path), "unlabeled") for case in kind.find(path))
    remark = Fault(
        "R004",
        "no data list: checked as for inference",
        str(path),
        expected=f"for a training, {DATALIST_NAME} or the folders images and labels",
        do="dim-monai prepare writes a data list",
    )
    unused = unused_images(path, [entry for entry, _ in cases], kind)
    return Lists(cases, "the cases of a folder", found=(remark, *unused))


Parsed = tuple[Mapping[str, list[Entry]], list[Fault]]


def _lists(strict: Callable[[], Datalist], lenient: Callable[[], Parsed], path: Path) -> Lists:
    try:
        lists = strict()
    except DataError as error:
        entries, found = lenient()
        # Whatever training refuses is told, even if the lenient way has no word for it.
        if not any(fault.what == error.what for fault in found):
            found.insert(0, Fault.of("D001", error, str(path)))
        cases = tuple((entry, name) for name in LISTS for entry in entries.get(name, []))
        return Lists(cases, path.name, found=tuple(found))
    cases = tuple((entry, name) for name in LISTS for entry in hashed(lists, name))
    return Lists(cases, lists.source, lists.notes)


def _entry(case: Path, root: Path) -> Entry:
    domain = os.path.relpath(case.parent, root) if case != root else "."
    given = {} if domain == "." else {"domain": domain}
    return make_entry(image=str(case), **given)
