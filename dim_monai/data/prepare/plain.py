"""The plain layout: a folder of images, a folder of labels, and the same names in both."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from dim_monai.data.kinds import Kind
from dim_monai.data.unread import unread_image
from dim_monai.errors import DataError


def match_plain(
    images: Iterable[Path], image_dir: Path, labels: Iterable[Path], label_dir: Path, kind: Kind
) -> dict[str, tuple[Path, Path | None]]:
    """Return image and label of every case, by its name in the layout, ``[domain/]case``.

    Args:
        images: the images at or below ``image_dir``.
        image_dir: the folder of the images.
        labels: all files at or below ``label_dir``; those that are no labels are let be, unless
            they stand where the label of a case is expected.
        label_dir: the folder of the labels; need not exist.
        kind: what the images are.

    Raises:
        DataError: an image at the wrong depth, two files for one case, a label without an image,
            or a label in another format.
    """
    named = _by_name(images, image_dir, kind)
    for name, path in named.items():
        if path == image_dir or name.count("/") > 1:
            expected = f"{image_dir.name}/case or {image_dir.name}/domain/case"
            raise DataError("image at the wrong depth", file=path, expected=expected)
    cases = {name.rpartition("/")[2] for name in named}
    labels = sorted(labels)
    for path in labels:
        parts = path.relative_to(label_dir).parts
        if not kind.is_label(path) and cases & {*parts[:-1], path.stem}:
            raise DataError("label in another format", file=path, expected=kind.labels)
    found = _by_name((path for path in labels if kind.is_label(path)), label_dir, kind)
    for name, path in found.items():
        if name not in named:
            raise without_image(path, name, image_dir, named, kind)
    return {name: (path, found.get(name)) for name, path in sorted(named.items())}


def without_image(
    label: Path, name: str, image_dir: Path, images: Mapping[str, Path], kind: Kind
) -> DataError:
    """Return the error of a label that has no image; it names the one that was probably meant.

    Args:
        label: its file.
        name: of its case in the layout, ``[domain/]case``.
        image_dir: the folder of the images.
        images: those that are read, by name.
        kind: what the images are.
    """
    place = image_dir / name
    unread = unread_image(place.parent, place.name, kind)
    close = difflib.get_close_matches(name, images, n=1)
    do = f"the closest image is {images[close[0]]}" if close else None
    return DataError(
        "label without image",
        file=label,
        got=None if unread is None else f"{unread}, whose format is not read",
        expected=f"{kind.files} as {image_dir.name}/{name}",
        do=do if unread is None else f"convert it to {kind.convert_to}",
    )


def _by_name(paths: Iterable[Path], tree: Path, kind: Kind) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        folder = path.parent.relative_to(tree) if path != tree else Path()
        name = (folder / kind.case_name(path)).as_posix()
        if (first := named.setdefault(name, path)) != path:
            raise DataError(
                "two files for one case", file=path, got=f"also {first}", do="rename one of them"
            )
    return named
