"""Which case is in which list: the data list of a folder, read or drawn, and saved with the run.

A data list has four lists with the key names of MONAI data lists: ``labeled`` and ``unlabeled``
are trained on, ``validation`` selects the network, ``test`` is scored once. No image, case or
patient stands on two sides of training, validation and test.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn, cast

from dim_monai.dicom.series import case_name, find_cases, is_nifti
from dim_monai.errors import ConfigError, DataError
from dim_monai.files import atomic_write

Entry = dict[str, str]

LISTS = ("labeled", "unlabeled", "validation", "test")
ENTRY_KEYS = ("image", "label", "domain", "case", "patient")
DATALIST_NAME = "datalist.json"
UNKNOWN_DOMAIN = "unknown"

_SIDES = {
    "labeled": "training",
    "unlabeled": "training",
    "validation": "validation",
    "test": "test",
}
_NOT_SELECTED = "nothing was selected"
_PATIENTS_FOR_VALIDATION = 3  # with two, one case would train and one would select: both too thin


@dataclass(frozen=True)
class TrainingData:
    """What a training run may see: everything of a data list but its test cases."""

    labeled: tuple[Entry, ...]
    unlabeled: tuple[Entry, ...]
    validation: tuple[Entry, ...]

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

    An entry is a dictionary of strings: ``image`` (absolute path of a NIfTI file or of the folder
    of one DICOM series), ``label`` (absolute path of a NIfTI file; absent in ``unlabeled``),
    ``domain`` (site or scanner), ``case`` (its name, unique in its domain) and ``patient``.

    Attributes:
        labeled: cases whose labels train the network.
        unlabeled: cases that train without a label.
        validation: labelled cases that select the network; may be empty.
        test: labelled cases that only the evaluation opens; may be empty.
        source: how the lists were obtained, in words.
        notes: what a reader of the results must know about the lists.
    """

    labeled: tuple[Entry, ...]
    unlabeled: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    test: tuple[Entry, ...]
    source: str
    notes: tuple[str, ...] = ()

    def for_training(self) -> TrainingData:
        """Return the lists without the test cases."""
        return TrainingData(self.labeled, self.unlabeled, self.validation)


def open_datalist(
    dataset_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    validation_fraction: float = 0.2,
    domain_of_plain: str = UNKNOWN_DOMAIN,
) -> Datalist:
    """Return the data list of a folder; read its ``datalist.json`` or draw one. Write nothing.

    With a ``datalist.json`` the lists are taken from it (see `load_saved_datalist` for the format;
    paths may be relative to the folder) and the other arguments have no effect. Without one the
    folder holds ``images/[domain/]case`` and ``labels/[domain/]case.nii.gz``, a case being a NIfTI
    file or the folder of one DICOM series. Then an image without a label is unlabelled, the test
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

    Raises:
        ConfigError: ``validation_fraction`` is out of range.
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
        datalist = _draw(root, seed, validation_fraction, domain_of_plain)
        reason = (
            f"{len(datalist.labeled)} labelled patients are too few for a validation set, "
            f"which takes {_PATIENTS_FOR_VALIDATION}"
        )
    if datalist.validation or any(note.startswith(_NOT_SELECTED) for note in datalist.notes):
        return datalist
    return replace(datalist, notes=(*datalist.notes, f"{_NOT_SELECTED}: {reason}"))


def save_datalist(path: str | os.PathLike[str], datalist: Datalist) -> None:
    """Write ``datalist`` as JSON, atomically; `load_saved_datalist` returns an equal one."""
    with atomic_write(Path(path), "w") as stream:
        json.dump(asdict(datalist), stream, indent=2)
        stream.write("\n")


def load_saved_datalist(path: str | os.PathLike[str]) -> Datalist:
    """Return the data list of a JSON file.

    The file holds an object with the lists ``labeled`` (required), ``unlabeled``, ``validation``
    and ``test``, and optionally ``source`` and ``notes``. Each entry is an object with ``image``,
    with ``label`` (in every list but ``unlabeled``), and optionally with ``domain`` (default
    "unknown"), ``case`` (default: the name of the image) and ``patient`` (default: domain/case).
    Relative paths start at the folder of the file.

    Raises:
        DataError: the file is not such an object, names a file that does not exist, holds no
            labelled case, or puts an image, case or patient in two places.
    """
    path = Path(os.path.abspath(path))
    document = _read_json(path)
    _refuse_unknown_keys(document, (*LISTS, "source", "notes"), path, "data list")
    lists = {name: _parse_list(document, name, path) for name in LISTS}
    _refuse_contradictions(lists, path)
    source, notes = document.get("source", path.name), document.get("notes", [])
    if not isinstance(source, str) or not _is_list_of(notes, str):
        raise DataError(
            "malformed data list", file=path, expected='"source" a string, "notes" a list of them'
        )
    return Datalist(**lists, source=source, notes=tuple(cast(list[str], notes)))


def _read_json(path: Path) -> dict[str, object]:
    def refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise DataError("repeated key in data list", file=path, got=", ".join(repeated))
        return dict(pairs)

    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, object_pairs_hook=refuse_repeated_keys)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError("malformed JSON", file=path, got=f"{error.msg} at {where}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("data list cannot be read", file=path, got=error) from error
    if not isinstance(document, dict):
        raise DataError("malformed data list", file=path, expected="an object with four lists")
    return document


def _parse_list(document: Mapping[str, object], name: str, file: Path) -> tuple[Entry, ...]:
    raw = document.get(name, [])
    if not _is_list_of(raw, dict):
        raise DataError("malformed data list", file=file, expected=f'"{name}" a list of objects')
    entries = cast(list[dict[str, object]], raw)
    return tuple(
        _parse_entry(entry, name, f"{name}[{index}]", file) for index, entry in enumerate(entries)
    )


def _parse_entry(raw: Mapping[str, object], name: str, where: str, file: Path) -> Entry:
    _refuse_unknown_keys(raw, ENTRY_KEYS, file, where)
    for key, value in raw.items():
        if not isinstance(value, str) or not value:
            raise DataError(
                f"malformed {where}", file=file, got=f"{key} {value!r}", expected="a string"
            )
    entry = cast(Mapping[str, str], raw)
    paths = {key: file.parent / entry[key] for key in ("image", "label") if key in entry}
    if "image" not in paths:
        raise DataError(f"{where} has no image", file=file, do='give its path as "image"')
    if name != "unlabeled" and "label" not in paths:
        raise DataError(
            f"{where} has no label",
            file=file,
            got=entry["image"],
            do='give its path as "label", or list the case under "unlabeled"',
        )
    if name == "unlabeled" and "label" in paths:
        raise DataError(
            f"{where} has a label",
            file=file,
            got=entry["label"],
            do='list the case under "labeled", or take the label out: it would not be used',
        )
    for key, path in paths.items():
        if not (path.exists() if key == "image" else path.is_file()):
            raise DataError(f"{key} of {where} does not exist", file=path, do=f"mend {file}")
    return _entry(**{**entry, **{key: os.path.abspath(path) for key, path in paths.items()}})


def _entry(*, image: str, domain: str = UNKNOWN_DOMAIN, **given: str) -> Entry:
    """Complete an entry; the key order is that of ``ENTRY_KEYS``."""
    case = given.get("case", case_name(image))
    for name in (domain, case):  # both become parts of the paths of results
        if name in {".", ".."} or set("/\\") & set(name) or not name.isprintable():
            raise DataError("name cannot be used in a path", file=image, got=repr(name))
    complete = {"patient": f"{domain}/{case}", **given}
    complete |= {"image": image, "domain": domain, "case": case}
    return {key: complete[key] for key in ENTRY_KEYS if key in complete}


def _refuse_unknown_keys(found: Iterable[str], known: Sequence[str], file: Path, what: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise DataError(
                f"unknown key in {what}",
                file=file,
                got=repr(key),
                expected=f"one of {', '.join(known)}",
                do=f"did you mean {close[0]!r}?" if close else None,
            )


def _refuse_contradictions(lists: Mapping[str, Sequence[Entry]], file: Path) -> None:
    """Refuse an image or a case that stands twice, a patient on two sides, no labelled case."""
    images: dict[str, str] = {}
    cases: dict[tuple[str, str], str] = {}
    patients: dict[str, str] = {}
    for name in LISTS:
        for index, entry in enumerate(lists[name]):
            where = f"{name}[{index}]"
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
                    got=f"{'/'.join(key)} as {first} and {where}",
                    do=f'give one of them another "case" in {DATALIST_NAME}',
                )
            first = patients.setdefault(entry["patient"], where)
            if _SIDES[first.partition("[")[0]] != _SIDES[name]:
                raise DataError(
                    "patient on both sides of a split",
                    file=entry["image"],
                    got=f"{entry['patient']} as {first} and {where}",
                    expected="all cases of a patient in training, in validation or in test",
                )
    if not lists["labeled"]:
        raise DataError(
            "no labelled case",
            file=file,
            got=", ".join(f"{len(lists[name])} {name}" for name in LISTS),
            expected="at least one image with a label to train on",
        )


def _draw(root: Path, seed: int, validation_fraction: float, domain_of_plain: str) -> Datalist:
    images, labels = _plain_files(root)
    labelled, unlabelled = [], []
    for name, image in sorted(images.items()):
        domain = name.rpartition("/")[0] or domain_of_plain
        if name in labels:
            labelled.append(_entry(image=str(image), domain=domain, label=str(labels[name])))
        else:
            unlabelled.append(_entry(image=str(image), domain=domain))
    ranked = sorted(
        {entry["patient"] for entry in labelled},
        key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest(),
    )
    count = 0
    if len(ranked) >= _PATIENTS_FOR_VALIDATION:
        count = min(max(1, round(validation_fraction * len(ranked))), len(ranked) - 1)
    drawn = set(ranked[:count])
    lists: dict[str, tuple[Entry, ...]] = {
        "labeled": tuple(entry for entry in labelled if entry["patient"] not in drawn),
        "unlabeled": tuple(unlabelled),
        "validation": tuple(entry for entry in labelled if entry["patient"] in drawn),
        "test": (),
    }
    _refuse_contradictions(lists, root)
    source = f"drawn from images and labels, {seed=}, {validation_fraction=}"
    return Datalist(**lists, source=source, notes=())


def _plain_files(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return images and labels of the plain layout, each by its name, ``[domain/]case``."""
    image_dir, label_dir = root / "images", root / "labels"
    if not image_dir.is_dir():
        close = difflib.get_close_matches("images", sorted(os.listdir(root)), n=1)
        raise DataError(
            "not a data set folder",
            file=root,
            expected=f"{DATALIST_NAME}, or the folders images and labels",
            do=f"rename {close[0]} to images?" if close else "check dataset_dir",
        )
    images = _by_name(find_cases(image_dir), image_dir)
    for name, path in images.items():
        if path == image_dir or name.count("/") > 1:
            raise DataError(
                "image at the wrong depth", file=path, expected="images/case or images/domain/case"
            )
    found = sorted(
        Path(folder, file)
        for folder, _, files in os.walk(label_dir, followlinks=True)
        for file in files
        if not file.startswith(".")
    )
    cases = {case_name(name) for name in images}
    for path in found:
        parts = path.relative_to(label_dir).parts
        if not is_nifti(path) and cases & {*parts[:-1], path.stem}:
            raise DataError("label that is not NIfTI", file=path, expected=".nii.gz or .nii")
    labels = _by_name([path for path in found if is_nifti(path)], label_dir)
    for name, path in labels.items():
        if name not in images:
            close = difflib.get_close_matches(name, images, n=1)
            raise DataError(
                "label without image",
                file=path,
                expected=f"images/{name}.nii.gz, or a folder images/{name} with a DICOM series",
                do=f"the closest image is {images[close[0]]}" if close else None,
            )
    return images, labels


def _by_name(paths: Iterable[Path], tree: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        folder = path.parent.relative_to(tree) if path != tree else Path()
        name = (folder / case_name(path)).as_posix()
        if (first := named.setdefault(name, path)) != path:
            raise DataError("two files for one case", file=path, got=f"also {first}")
    return named


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
