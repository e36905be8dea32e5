"""A Medical Segmentation Decathlon folder: ``dataset.json`` says what is what.

Antonelli et al., Nature Communications 2022: ``imagesTr``, ``labelsTr`` and ``imagesTs``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dim_monai.data.datalist import UNKNOWN_DOMAIN
from dim_monai.data.prepare import nnunet
from dim_monai.data.prepare.found import Found, FoundCase, kind_of_file, only_kind, read_pixels
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import DataError


def holds(tree: Tree) -> bool:
    """Whether there is a ``dataset.json`` at the top that is not nnU-Net's."""
    return nnunet.DATASET_NAME in tree.paths and not nnunet.holds(tree)


def find(tree: Tree) -> Found:
    """Return the cases of ``dataset.json``: ``training`` has labels, ``test`` has none.

    Raises:
        DataError: a malformed ``dataset.json``, a file that it names and that is not in the
            folder, an image that it names twice.
    """
    document = _read(tree.root / nnunet.DATASET_NAME)
    if not {"training", "test"} & document.keys():
        raise _malformed(
            tree,
            'the lists "training" and "test"; or names as nnU-Net has them, imagesTr/x_0000.nii.gz '
            "with labelsTr/x.nii.gz",
            got=f"the keys {', '.join(document)}" if document else "no key",
            do="list the files, or put them into the folders images and labels without it",
        )
    listed: dict[Path, Path | None] = {}
    for entry in _entries(document, "training", tree):
        if not isinstance(entry, dict) or "image" not in entry:
            raise _malformed(tree, 'each of "training" an object with "image" and "label"')
        label = _file(entry["label"], tree) if "label" in entry else None
        _list_once(listed, _file(entry["image"], tree), label)
    unlabelled = _entries(document, "test", tree)
    for entry in unlabelled:
        image = entry.get("image") if isinstance(entry, dict) else entry
        _list_once(listed, _file(image, tree), None)
    kind = only_kind((k for path in listed if (k := kind_of_file(path))), tree.root)
    cases = [
        FoundCase(image, UNKNOWN_DOMAIN, kind.case_name(image), read_pixels(kind, image), label)
        for image, label in sorted(listed.items())
    ]
    notes: tuple[str, ...] = ()
    if unlabelled:
        notes = (f"the {len(unlabelled)} test images come without labels and count as unlabelled",)
    return Found(tuple(cases), kind, notes)


def _read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("dataset.json cannot be read", file=path, got=error) from error
    if not isinstance(document, dict):
        raise DataError("malformed dataset.json", file=path, expected="an object")
    return document


def _entries(document: dict[str, object], name: str, tree: Tree) -> list[object]:
    entries = document.get(name, [])
    if not isinstance(entries, list):
        raise _malformed(tree, f'"{name}" a list')
    return entries


def _file(named: object, tree: Tree) -> Path:
    if not isinstance(named, str):
        raise _malformed(tree, "paths as strings")
    path = Path(os.path.normpath(named))
    if path not in tree.paths:
        raise DataError(
            "file of dataset.json is not in the folder",
            file=tree.root / path,
            expected="a path inside the folder, relative to it",
            do=f"mend {tree.root / nnunet.DATASET_NAME}",
        )
    return tree.root / path


def _list_once(listed: dict[Path, Path | None], image: Path, label: Path | None) -> None:
    if image in listed:
        raise DataError("image listed twice", file=image, do=f"mend {nnunet.DATASET_NAME}")
    listed[image] = label


def _malformed(tree: Tree, expected: str, **said: str) -> DataError:
    file = tree.root / nnunet.DATASET_NAME
    return DataError("malformed dataset.json", file=file, expected=expected, **said)
