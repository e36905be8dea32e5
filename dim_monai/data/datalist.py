"""Which case is in which list: the data list of a folder, read or drawn, and saved with the run.

A data list has four lists with the key names of MONAI data lists: ``labeled`` and ``unlabeled``
are trained on, ``validation`` selects the network, ``test`` is scored once. No image, case or
patient stands on two sides of training, validation and test.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, cast

from dim_monai.data.datalist_json import (
    DATALIST_NAME,
    ENTRY_KEYS,
    FACT_KEYS,
    HASH_KEYS,
    LISTS,
    UNKNOWN_DOMAIN,
    Entry,
    Fact,
    files_of,
    is_list_of,
    make_entry,
    parse_list,
    read_json,
    refuse_unknown_keys,
    shown,
)
from dim_monai.data.kinds import Kind, get_kind
from dim_monai.data.prepare.plain import match_plain
from dim_monai.data.prepare.split import NOTHING_SELECTED, draw, too_few
from dim_monai.errors import ConfigError, DataError
from dim_monai.files import atomic_write

__all__ = [
    "DATALIST_NAME",
    "ENTRY_KEYS",
    "FACT_KEYS",
    "HASH_KEYS",
    "LISTS",
    "SELECTED_ON_TEST",
    "UNKNOWN_DOMAIN",
    "Datalist",
    "Entry",
    "Fact",
    "TrainingData",
    "hashed",
    "load_saved_datalist",
    "open_datalist",
    "require_consistent",
    "save_datalist",
    "was_prepared",
]

SELECTED_ON_TEST = "selected on test data"
"""How the note begins that a data list of the reference protocol carries."""

_SIDES = {
    "labeled": "training",
    "unlabeled": "training",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class TrainingData:
    """What a training run may see: everything of a data list but its test cases."""

    labeled: tuple[Entry, ...]
    unlabeled: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def test(self) -> NoReturn:
        """Refuse: training, and choosing among trained networks, never sees a test case."""
        raise DataError(
            "the test list cannot be opened in training",
            do="score the test cases with the evaluation workflow, once, after training",
        )


@dataclass(frozen=True)
class Datalist:
    """The four lists of a data set, and how they were obtained.

    An entry is a dictionary of strings: ``image`` (absolute path of a file, or of the folder of
    one DICOM series), ``label`` (absolute path of a file; absent in ``unlabeled``), ``domain``
    (site, scanner or camera), ``case`` (its name, unique in its domain) and ``patient``. It holds
    no hash: MONAI takes every key of an item that begins with "image_" for metadata.

    Attributes:
        labeled: cases whose labels train the network.
        unlabeled: cases that train without a label.
        validation: labelled cases that select the network; may be empty.
        test: labelled cases that only the evaluation opens; may be empty.
        source: how the lists were obtained, in words.
        notes: what a reader of the results must know about the lists.
        facts: how the lists were made, by `FACT_KEYS`; empty unless they were prepared.
        sha256: of the files of an image or label, in the order of their names, by its path; empty
            unless they were prepared.
    """

    labeled: tuple[Entry, ...]
    unlabeled: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    test: tuple[Entry, ...]
    source: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def for_training(self) -> TrainingData:
        """Return the lists without the test cases."""
        lists = (self.labeled, self.unlabeled, self.validation)
        seen = {entry[key] for entries in lists for entry in entries for key in files_of(entry)}
        known = {path: digest for path, digest in self.sha256.items() if path in seen}
        return TrainingData(*lists, sha256=known)


def hashed(lists: Datalist | TrainingData, name: str) -> tuple[Entry, ...]:
    """Return the entries of one list with the hashes that are known, by `HASH_KEYS`."""
    entries: tuple[Entry, ...] = getattr(lists, name)
    return tuple(
        entry
        | {
            HASH_KEYS[key]: lists.sha256[entry[key]]
            for key in files_of(entry)
            if entry[key] in lists.sha256
        }
        for entry in entries
    )


def open_datalist(
    dataset_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    validation_fraction: float = 0.2,
    domain_of_plain: str = UNKNOWN_DOMAIN,
    kind: str = "volume",
) -> Datalist:
    """Return the data list of a folder; read its ``datalist.json`` or draw one. Write nothing.

    With a ``datalist.json`` the lists are taken from it (see `load_saved_datalist` for the format;
    paths may be relative to the folder) and the other arguments have no effect. Without one the
    folder holds ``images/[domain/]case`` and ``labels/[domain/]case``, a case being a NIfTI file or
    the folder of one DICOM series with a NIfTI label, or a photograph with a PNG or TIFF mask,
    whatever their suffixes. Then an image without a label is unlabelled, the test
    list is empty, and whole patients are drawn for validation: ``round(validation_fraction * n)``
    of the ``n`` labelled patients, at least one and never all, and none where ``n < 3``. The draw
    ranks patients by a SHA-256 of seed and name, so that it depends on neither the order of the
    file system nor the version of a random generator.

    A file name does not say who the patient is, and nothing is guessed from it: unless an entry of
    ``datalist.json`` gives ``patient``, each case is a patient of its own. Several visits of one
    patient need a ``datalist.json`` that says so.

    Args:
        dataset_dir: the folder of the data set; may be read-only.
        seed: of the draw in the plain layout.
        validation_fraction: of the labelled patients, in (0, 1); 0.2 is the usual fifth.
        domain_of_plain: domain of the cases that stand directly in ``images/``.
        kind: of the cases in the plain layout, "volume" or "photograph".

    Raises:
        ConfigError: ``validation_fraction`` is out of range, or there is no such kind.
        DataError: the folder, its ``datalist.json`` or its layout cannot be used.
    """
    if not 0 < validation_fraction < 1:
        raise ConfigError(
            "validation_fraction is out of range", got=validation_fraction, expected="in (0, 1)"
        )
    root = Path(os.path.abspath(dataset_dir))
    if not root.is_dir():
        raise DataError("data set folder not found", file=root, do="check dataset_dir")
    if (root / DATALIST_NAME).is_file():
        datalist = load_saved_datalist(root / DATALIST_NAME)
        reason = f"{DATALIST_NAME} lists no validation case"
    else:
        datalist = _draw(root, seed, validation_fraction, domain_of_plain, get_kind(kind))
        reason = too_few(len(datalist.labeled))
    said = any(note.startswith((NOTHING_SELECTED, SELECTED_ON_TEST)) for note in datalist.notes)
    if datalist.validation or said:
        return datalist
    return replace(datalist, notes=(*datalist.notes, f"{NOTHING_SELECTED}: {reason}"))


def save_datalist(
    path: str | os.PathLike[str], datalist: Datalist, *, relative_to: Path | None = None
) -> None:
    """Write ``datalist`` as JSON, atomically; `load_saved_datalist` returns an equal one.

    Args:
        path: the file to write or replace.
        datalist: with absolute paths.
        relative_to: the folder in which the file will stand; paths under the same top folder are
            written relative to it, so that data and list can be moved together. None writes
            absolute paths.
    """

    def named(entry: Entry) -> Entry:
        paths = {key: _relative(entry[key], relative_to) for key in files_of(entry)}
        return {**entry, **paths}

    document: dict[str, object] = dict(datalist.facts)
    document |= {name: [named(entry) for entry in hashed(datalist, name)] for name in LISTS}
    document |= {"source": datalist.source, "notes": list(datalist.notes)}
    with atomic_write(Path(path), "w") as stream:
        json.dump(document, stream, indent=2)
        stream.write("\n")


def was_prepared(path: Path) -> bool:
    """Whether ``path`` is a data list that says from which layout it was prepared."""
    try:
        return "layout" in read_json(path)
    except DataError:
        return False


def load_saved_datalist(path: str | os.PathLike[str]) -> Datalist:
    """Return the data list of a JSON file.

    The file holds an object with the lists ``labeled`` (required), ``unlabeled``, ``validation``
    and ``test``, and optionally ``source`` and ``notes``. Each entry is an object with ``image``,
    with ``label`` (in every list but ``unlabeled``), and optionally with ``domain`` (default
    "unknown"), ``case`` (default: the name of the image) and ``patient`` (default: domain/case).
    Relative paths start at the folder of the file. A prepared file also holds `FACT_KEYS`, and
    `HASH_KEYS` in its entries, which come back apart from them.

    Raises:
        DataError: the file is not such an object, names a file that does not exist, holds no
            labelled case, or puts an image, case or patient in two places.
    """
    path = Path(os.path.abspath(path))
    document = read_json(path)
    refuse_unknown_keys(document, (*LISTS, "source", "notes", *FACT_KEYS), path, "data list")
    lists = {name: parse_list(document, name, path) for name in LISTS}
    facts = {key: document[key] for key in FACT_KEYS if key in document}
    source, notes = document.get("source", path.name), document.get("notes", [])
    if not isinstance(source, str) or not is_list_of(notes, str):
        raise DataError(
            "malformed data list", file=path, expected='"source" a string, "notes" a list of them'
        )
    for key, fact in facts.items():
        if not isinstance(fact, Fact) or (isinstance(fact, float) and not math.isfinite(fact)):
            raise DataError(
                "malformed data list",
                file=path,
                got=f"{key} {shown(fact)}",
                expected=f'"{key}" a text or number',
            )
    datalist = Datalist(
        **{name: tuple(map(_without_hashes, entries)) for name, entries in lists.items()},
        source=source,
        notes=tuple(cast(list[str], notes)),
        facts=cast(dict[str, Fact], facts),
        sha256={
            entry[key]: entry[HASH_KEYS[key]]
            for entries in lists.values()
            for entry in entries
            for key in files_of(entry)
            if HASH_KEYS[key] in entry
        },
    )
    require_consistent(datalist, path)
    return datalist


def require_consistent(datalist: Datalist, file: Path) -> None:
    """Refuse lists that no workflow could use.

    Args:
        datalist: the lists.
        file: where they come from, for messages.

    Raises:
        DataError: a case, image or label stands twice, a label is an image, a patient is on two
            sides, a name cannot be part of a path, or there is no labelled case.
    """
    lists: dict[str, tuple[Entry, ...]] = {name: getattr(datalist, name) for name in LISTS}
    images: dict[str, str] = {}
    cases: dict[tuple[str, str], str] = {}
    patients: dict[str, str] = {}
    for name in LISTS:
        for index, entry in enumerate(lists[name]):
            where = f"{name}[{index}]"
            _require_path_names(entry)
            image = os.path.realpath(entry["image"])  # two links to one image are one image
            if (first := images.setdefault(image, where)) != where:
                raise DataError(
                    "image listed twice", file=entry["image"], got=f"{first} and {where}"
                )
            key = (entry["domain"], entry["case"])
            if (first := cases.setdefault(key, where)) != where:
                raise DataError(
                    "two cases of one domain have the same name",
                    file=entry["image"],
                    got=f"{shown('/'.join(key))[1:-1]} as {first} and {where}",
                    do=f'give one of them another "case" in {DATALIST_NAME}',
                )
            first = patients.setdefault(entry["patient"], where)
            if _SIDES[first.partition("[")[0]] != _SIDES[name]:
                raise DataError(
                    "patient on both sides of a split",
                    file=entry["image"],
                    got=f"{shown(entry['patient'])[1:-1]} as {first} and {where}",
                    expected="all cases of a patient in training, in validation or in test",
                )
    _require_own_labels(lists, images)
    if not lists["labeled"]:
        raise DataError(
            "no labelled case",
            file=file,
            got=", ".join(f"{len(lists[name])} {name}" for name in LISTS),
            expected="at least one image with a label to train on",
        )


def _require_own_labels(lists: Mapping[str, tuple[Entry, ...]], images: Mapping[str, str]) -> None:
    """Refuse a label that is an image, or of two: of photographs nothing else tells it."""
    labels: dict[str, str] = {}
    for name in LISTS:
        for index, entry in enumerate(lists[name]):
            if "label" not in entry:
                continue
            label, where = os.path.realpath(entry["label"]), f"{name}[{index}]"
            if label in images:
                what, got = "label that is an image", f"image of {images[label]}, label of {where}"
            elif (first := labels.setdefault(label, where)) != where:
                what, got = "label listed twice", f"{first} and {where}"
            else:
                continue
            do = f"give each image a label of its own in {DATALIST_NAME}"
            raise DataError(what, file=entry["label"], got=got, do=do)


def _require_path_names(entry: Entry) -> None:
    for name in (entry["domain"], entry["case"]):  # both become parts of the paths of results
        if name in {".", ".."} or set("/\\") & set(name) or not name.isprintable():
            raise DataError(
                "name cannot be used in a path", file=entry["image"], got=shown(name),
                do="rename it; without control characters, and in UTF-8",
            )  # fmt: skip


def _draw(
    root: Path, seed: int, validation_fraction: float, domain_of_plain: str, kind: Kind
) -> Datalist:
    labelled, unlabelled = [], []
    for name, (image, label) in _plain_cases(root, kind).items():
        domain = name.rpartition("/")[0] or domain_of_plain
        if label is not None:
            labelled.append(make_entry(image=str(image), domain=domain, label=str(label)))
        else:
            unlabelled.append(make_entry(image=str(image), domain=domain))
    for entry in [*labelled, *unlabelled]:
        _require_path_names(entry)  # before the draw, which wants names that are characters
    drawn = draw((entry["patient"] for entry in labelled), validation_fraction, seed)
    datalist = Datalist(
        labeled=tuple(entry for entry in labelled if entry["patient"] not in drawn),
        unlabeled=tuple(unlabelled),
        validation=tuple(entry for entry in labelled if entry["patient"] in drawn),
        test=(),
        source=f"drawn from images and labels, {seed=}, {validation_fraction=}",
    )
    require_consistent(datalist, root)
    return datalist


def _plain_cases(root: Path, kind: Kind) -> dict[str, tuple[Path, Path | None]]:
    """Return image and label of every case of the plain layout, by ``[domain/]case``."""
    image_dir, label_dir = root / "images", root / "labels"
    if not image_dir.is_dir():
        close = difflib.get_close_matches("images", sorted(os.listdir(root)), n=1)
        raise DataError(
            "not a data set folder",
            file=root,
            expected=f"{DATALIST_NAME}, or the folders images and labels",
            do=f"rename {close[0]} to images?" if close else "check dataset_dir",
        )
    labels = (
        Path(folder, file)
        for folder, _, files in os.walk(label_dir, followlinks=True)
        for file in files
        if not file.startswith(".")
    )
    return match_plain(kind.find(image_dir), image_dir, labels, label_dir, kind)


def _without_hashes(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key not in HASH_KEYS.values()}


def _relative(path: str, folder: Path | None) -> str:
    if folder is None or Path(path).parts[:2] != folder.parts[:2]:
        return path
    return Path(os.path.relpath(path, folder)).as_posix()
