"""An nnU-Net folder: ``imagesTr/x_0000.nii.gz``, ``labelsTr/x.nii.gz``, ``imagesTs``.

Isensee et al., Nature Methods 2021: the last four digits of an image are the number of its channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dim_monai.data.datalist import UNKNOWN_DOMAIN
from dim_monai.data.kinds import Kind
from dim_monai.data.prepare.found import (
    Found,
    FoundCase,
    kind_of_file,
    note_once,
    only_kind,
    read_pixels,
)
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import DataError

DATASET_NAME = Path("dataset.json")
TRAINING, LABELS, TEST = Path("imagesTr"), Path("labelsTr"), Path("imagesTs")
CHANNEL = re.compile(r"_\d{4}$")
FIRST = "_0000"


def holds(tree: Tree) -> bool:
    """Whether a label ``x`` has an image ``x_0000``, beside a ``dataset.json``.

    The image of a label has its very name in a folder of the Decathlon.
    """
    images = {kind.case_name(path) for path, kind in _files(tree, TRAINING)}
    labels = (kind.case_name(path) for path, kind in _files(tree, LABELS))
    return DATASET_NAME in tree.paths and any(f"{name}{FIRST}" in images for name in labels)


def find(tree: Tree) -> Found:
    """Return the images of ``imagesTr``, with their labels, and of ``imagesTs``, which have none.

    Raises:
        DataError: an image of a second channel or without the number of one, two files for one
            case, a label without an image, volumes and photographs together.
    """
    files = [*_files(tree, TRAINING), *_files(tree, TEST)]
    kind = only_kind((kind for _, kind in files), tree.root)
    images = _by_name(((_case_name(path, kind, tree), path) for path, _ in files), tree)
    found = _files(tree, LABELS)
    labels = _by_name(((kind.case_name(path), path) for path, kind in found), tree)
    for name, label in labels.items():
        if name not in images or TRAINING not in images[name].parents:
            raise DataError(
                "label without image",
                file=tree.root / label,
                expected=f"an image {name}{FIRST} in {TRAINING}",
            )
    cases = [
        FoundCase(
            image=(image := tree.root / path),
            domain=UNKNOWN_DOMAIN,
            case=name,
            pixels=read_pixels(kind, image),
            label=tree.root / labels[name] if name in labels else None,
        )
        for name, path in sorted(images.items())
    ]
    tested = sum(TEST in path.parents for path in images.values())
    notes: tuple[str, ...] = ()
    if tested:
        notes = (f"the {tested} images of {TEST} count as unlabelled, whatever labelsTs holds",)
    return Found(tuple(cases), kind, notes)


def _files(tree: Tree, folder: Path) -> list[tuple[Path, Kind]]:
    below = (path for path in tree.paths if path.parent == folder)
    return [(path, kind) for path in below if (kind := kind_of_file(path)) is not None]


def _case_name(path: Path, kind: Kind, tree: Tree) -> str:
    name = kind.case_name(path)
    if not name.endswith(FIRST):
        several = CHANNEL.search(name)
        raise DataError(
            "several channels of one case" if several else "image without the number of a channel",
            file=tree.root / path,
            expected=f"images of one channel, whose names end with {FIRST}",
            do="copy the folder with the one channel that is to be used" if several else None,
        )
    return name.removesuffix(FIRST)


def _by_name(named: Iterable[tuple[str, Path]], tree: Tree) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        note_once(found, name, path, tree.root)
    return found
