"""A whole data set, checked: its lists, every case of every list, and what lies unused beside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.classes import absent_classes, empty_validation
from dim_monai.data.checks.ends import hidden_ends
from dim_monai.data.checks.equal import equal_images
from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.gate import Progress, inspect_all
from dim_monai.data.checks.hashes import missing_hashes
from dim_monai.data.checks.lists import read_lists
from dim_monai.data.checks.result import Checked
from dim_monai.data.checks.sample import choose
from dim_monai.data.checks.summary import summarise_domains
from dim_monai.data.checks.unused import unused_labels
from dim_monai.data.kinds import get_kind
from dim_monai.data.labels import LabelMapping


def check_dataset(
    path: str | os.PathLike[str],
    mapping: LabelMapping | None = None,
    *,
    kind: str = "volume",
    pictures: int = 0,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Checked:
    """Return everything that is wrong with a data set, not only the first; change nothing.

    What training refuses is a fault here. The test cases are checked too.

    Args:
        path: a folder with a ``datalist.json`` or with ``images`` and ``labels``; a data list; or
            any folder or file with cases, which are then checked as inference reads them.
        mapping: which label values form which class; None allows every small integer.
        kind: "volume" or "photograph".
        pictures: how many cases of each domain a contact sheet is to show.
        progress: told after each case how many are done, and of how many.
        threads: that read; what is found does not depend on it.

    Raises:
        ConfigError: there is no such kind.
        DataError: there is nothing at ``path``, or no case.
    """
    known = get_kind(kind)
    lists = read_lists(Path(os.path.abspath(path)), known)
    entries = [entry for entry, _ in lists.cases]
    found = [*lists.found, *missing_hashes(entries)]
    read, samples = [], []
    inspected = inspect_all(
        lists.cases,
        mapping,
        kind,
        pictures=choose(entries, pictures),
        progress=progress,
        threads=threads,
    )
    for entry, case in zip(entries, inspected, strict=True):
        found += case.found
        read += [(entry, case.facts)] if case.facts is not None else []
        samples += [case.sample] if case.sample is not None else []
    cases = [facts for _, facts in read]
    found += [*absent_classes(cases, mapping), *empty_validation(cases)]
    found += [*_orientations(cases), *hidden_ends(cases)]
    found += equal_images(read, known)
    found += unused_labels(entries, known, {f.file or "" for f in found if f.code == "D008"})
    return Checked(
        path=os.path.abspath(path),
        kind=kind,
        source=lists.source,
        notes=lists.notes,
        faults=tuple(fault for fault in found if not fault.is_remark),
        remarks=tuple(fault for fault in found if fault.is_remark),
        cases=tuple(cases),
        domains=tuple(summarise_domains(cases)),
        samples=tuple(samples),
        class_names=() if mapping is None else mapping.class_names,
    )


def _orientations(cases: Sequence[CaseFacts]) -> list[Fault]:
    stored = [case.orientation for case in cases]
    kinds = sorted(set(stored))
    if len(kinds) < 2:
        return []
    got = ", ".join(f"{axes} ({stored.count(axes)})" for axes in kinds)
    return [
        Fault(
            "R001",
            "images are stored in several orientations",
            None,
            got=got,
            do="nothing to do: each is turned to RAS when it is read",
        )
    ]
