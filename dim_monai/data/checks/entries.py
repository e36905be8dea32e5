"""A data list that contradicts itself: all its faults, and the entries that can be read anyway."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dim_monai.data.checks.faults import Fault, no_labelled_case
from dim_monai.data.datalist_json import ENTRY_KEYS, LISTS, Entry, files_of, make_entry, read_json
from dim_monai.errors import DataError

SIDES = {
    "labeled": "training",
    "unlabeled": "training",
    "validation": "validation",
    "test": "test",
}
"""List -> the side of the split that it is on. No patient may stand on two."""

Placed = tuple[str, Entry]
"""Where an entry stands, such as ``test[3]``, and the entry."""


def parse_entries(file: Path) -> tuple[Mapping[str, list[Entry]], list[Fault]]:
    """Return the entries that can be read, by list, and what is wrong with the others.

    Args:
        file: a data list that `load_saved_datalist` refuses.
    """
    found: list[Fault] = []
    lists: dict[str, list[Entry]] = {name: [] for name in LISTS}
    placed: list[Placed] = []
    document = _read(file)
    for name in LISTS:
        raw = [] if document is None else document.get(name, [])
        for index, item in enumerate(raw if isinstance(raw, list) else ()):
            entry = _parse(item, name, f"{name}[{index}]", file, found)
            if entry is not None:
                lists[name].append(entry)
                placed.append((f"{name}[{index}]", entry))
    if document is not None and not lists["labeled"]:
        found.append(no_labelled_case())
    return lists, [*found, *contradictions(placed)]


def contradictions(placed: Sequence[Placed]) -> Iterator[Fault]:
    """Yield each image, label or name that stands twice, and each patient on two sides."""
    images, labels, cases, patients = (defaultdict[str, list[Placed]](list) for _ in range(4))
    for where, entry in placed:
        images[os.path.realpath(entry["image"])].append((where, entry))
        if "label" in entry:
            labels[os.path.realpath(entry["label"])].append((where, entry))
        cases[f"{entry['domain']}/{entry['case']}"].append((where, entry))
        patients[entry["patient"]].append((where, entry))
    for twice in images.values():
        if len(twice) > 1:
            yield Fault("D004", "image listed twice", twice[1][1]["image"], got=_places(twice))
    yield from _shared_labels(images, labels)
    for name, twice in cases.items():
        if len(twice) > 1:
            yield Fault(
                "D005",
                "two cases of one domain have the same name",
                twice[1][1]["image"],
                got=f"{name} as {_places(twice)}",
                do='give one of them another "case"',
            )
    for patient, several in patients.items():
        first = SIDES[several[0][0].partition("[")[0]]
        for where, entry in several:
            if SIDES[where.partition("[")[0]] != first:
                yield Fault(
                    "D006",
                    "patient on both sides of a split",
                    entry["image"],
                    got=f"{patient} as {several[0][0]} and {where}",
                    expected="all cases of a patient in training, in validation or in test",
                )


def _shared_labels(
    images: Mapping[str, Sequence[Placed]], labels: Mapping[str, Sequence[Placed]]
) -> Iterator[Fault]:
    do = "give each image a label of its own"
    for path, several in labels.items():
        file = several[-1][1]["label"]
        if path in images:
            got = f"image of {_places(images[path])}, label of {_places(several)}"
            yield Fault("D002", "label that is an image", file, got=got, do=do)
        elif len({os.path.realpath(entry["image"]) for _, entry in several}) > 1:
            yield Fault("D002", "label listed twice", file, got=_places(several), do=do)


def _places(several: Sequence[Placed]) -> str:
    return " and ".join(where for where, _ in several)


def _read(file: Path) -> dict[str, object] | None:
    """Return the object, or None where there is none: the strict reader says why."""
    try:
        return read_json(file)
    except DataError:
        return None


def _parse(raw: object, name: str, where: str, file: Path, found: list[Fault]) -> Entry | None:
    """Return an entry with the files that are there, or None where no image can be opened."""

    def fault(what: str, **said: str | None) -> None:
        found.append(Fault("D002", what, str(file), **said))

    if not isinstance(raw, dict):
        fault(f"malformed {where}", expected="an object")
        return None
    for key in sorted(set(raw) - set(ENTRY_KEYS), key=str):
        fault(f"unknown key in {where}", got=repr(key), expected=f"one of {', '.join(ENTRY_KEYS)}")
    given: dict[str, str] = {}
    for key in (key for key in ENTRY_KEYS if key in raw):
        if isinstance(raw[key], str) and raw[key]:
            given[key] = raw[key]
        else:
            fault(f"malformed {where}", got=f"{key} {raw[key]!r}", expected="a string")
    if "image" not in raw:
        fault(f"{where} has no image", do='give its path as "image"')
    if name != "unlabeled" and "label" not in raw:
        fault(
            f"{where} has no label",
            got=given.get("image"),
            do='give its path as "label", or list the case under "unlabeled"',
        )
    if name == "unlabeled" and "label" in raw:
        fault(
            f"{where} has a label",
            got=given.pop("label", None),
            do='list the case under "labeled", or take the label out: it would not be used',
        )
    for key in files_of(given):
        path = file.parent / given.pop(key)
        if path.exists() if key == "image" else path.is_file():
            given[key] = os.path.abspath(path)
        else:
            what = f"{key} of {where} does not exist"
            found.append(Fault("D003", what, str(path), do=f"mend {file}"))
    return make_entry(**given) if "image" in given else None
