"""Images and labels side by side: ``x_t2.nii.gz`` and ``x_seg.nii.gz``, ``y.jpg`` and its mask."""

from __future__ import annotations

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

LABEL_SUFFIXES = ("_segmentation", "_seg", "_labels", "_label", "_lab", "_mask", "_gt")


def holds(tree: Tree) -> bool:
    """Whether an image or volume is named as a label and stands beside another one."""
    labels = {path.parent for path in tree.paths if _is_label(path)}
    return tree.some(
        lambda path: (
            kind_of_file(path) is not None and not _is_label(path) and path.parent in labels
        )
    )


def find(tree: Tree) -> Found:
    """Return the images of the tree; a folder below the top is a domain.

    The label of ``base + label suffix`` is that of the image ``base`` or ``base_word``; the word is
    the same for all images of the tree and no part of the name of the case.

    Raises:
        DataError: no case, volumes and photographs together, a label without an image or with
            several, two files for one case, a case at the wrong depth, images of another word.
    """
    paths = [path for path in tree.paths if kind_of_file(path) is not None]
    kind = only_kind((k for path in paths if (k := kind_of_file(path))), tree.root)
    for path in paths:
        if len(path.parts) > 2:
            raise DataError(
                "image at the wrong depth", file=tree.root / path, expected="case or domain/case"
            )
    images = _by_name((path for path in paths if not _is_label(path)), tree, kind)
    labels = _by_name((path for path in paths if _is_label(path)), tree, kind)
    label_of: dict[str, Path] = {}
    words: dict[str, Path] = {}
    for name, label in labels.items():
        base = _without_suffix(name)
        image = _image_of(base, images, tree.root / label)
        note_once(label_of, image, label, tree.root)
        words.setdefault(image[len(base) :], images[image])
    word = _only_word(words, tree)
    cases = []
    for name, path in sorted(images.items()):
        if not name.endswith(word):
            raise DataError(
                "image of another name", file=tree.root / path, expected=f"a name with {word!r}"
            )
        domain, _, case = name.removesuffix(word).rpartition("/")
        file, label_path = tree.root / path, label_of.get(name)
        cases.append(
            FoundCase(
                image=file,
                domain=domain or UNKNOWN_DOMAIN,
                case=case,
                pixels=read_pixels(kind, file),
                label=tree.root / label_path if label_path else None,
            )
        )
    return Found(tuple(cases), kind)


def _is_label(path: Path) -> bool:
    kind = kind_of_file(path)
    return kind is not None and kind.case_name(path).lower().endswith(LABEL_SUFFIXES)


def _without_suffix(name: str) -> str:
    longest = max((s for s in LABEL_SUFFIXES if name.lower().endswith(s)), key=len)
    return name[: -len(longest)]


def _by_name(paths: Iterable[Path], tree: Tree, kind: Kind) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        note_once(named, (path.parent / kind.case_name(path)).as_posix(), path, tree.root)
    return named


def _image_of(base: str, images: Iterable[str], label: Path) -> str:
    """Return the name of the one image ``base`` or ``base_word``."""
    found = [
        name
        for name in sorted(images)
        if name == base or (name.startswith(f"{base}_") and "_" not in name[len(base) + 1 :])
    ]
    if len(found) == 1:
        return found[0]
    raise DataError(
        "label of several images" if found else "label without image",
        file=label,
        got=", ".join(found) or None,
        expected=f"one image {base} or {base}_word",
        do="keep one image a case in this folder" if found else None,
    )


def _only_word(words: dict[str, Path], tree: Tree) -> str:
    if len(words) > 1:
        raise DataError(
            "images of several kinds",
            file=tree.root,
            got=" and ".join(path.as_posix() for _, path in sorted(words.items())),
            expected="the same word at the end of every image, or none",
        )
    return next(iter(words), "")
