"""A folder of one's own: images and labels in two folders, or side by side by their suffixes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dim_monai.data.datalist import UNKNOWN_DOMAIN
from dim_monai.data.kinds import PHOTOGRAPH, VOLUME, Kind
from dim_monai.data.prepare import pairs
from dim_monai.data.prepare.dicom import series_in, series_pixels
from dim_monai.data.prepare.found import (
    Found,
    FoundCase,
    kind_of_file,
    only_kind,
    read_pixels,
)
from dim_monai.data.prepare.plain import match_plain
from dim_monai.data.prepare.tree import Tree
from dim_monai.dicom.series import MASK_SUFFIXES, is_nifti
from dim_monai.errors import DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
LABEL_FOLDERS = ("labels", "label", "masks", "mask")


def holds_folders(tree: Tree) -> bool:
    """Whether there are folders of images and of labels, at the top or in one folder a domain."""
    return any(_label_dirs(tree, image_dir) for image_dir in _image_dirs(tree))


def find(tree: Tree) -> Found:
    """Return the images of the folder, each with its label where it has one.

    Either ``[domain/]images/[domain/]case`` with ``[domain/]labels/[domain/]case`` (see
    `IMAGE_FOLDERS` and `LABEL_FOLDERS` for other names that are understood), or pairs side by
    side, see `pairs.find`. A case is a volume, a folder with a DICOM series, or a photograph.

    Raises:
        DataError: no case, volumes and photographs together, a label without an image, two files
            for one case, a case at the wrong depth.
    """
    image_dirs = _image_dirs(tree)
    if not image_dirs:
        return pairs.find(tree)
    kind = only_kind((k for d in image_dirs for k in _kinds(tree, d)), tree.root)
    cases = [case for image_dir in image_dirs for case in _cases(tree, image_dir, kind)]
    return Found(tuple(cases), kind)


def _image_dirs(tree: Tree) -> list[Path]:
    """Return the image folders, relative: the one at the top, or one in each domain."""
    above = {up for path in tree.paths for up in path.parents}
    named = (up for up in above if up.name.lower() in IMAGE_FOLDERS and len(up.parts) <= 2)
    taken = {*IMAGE_FOLDERS, *LABEL_FOLDERS}
    return sorted(up for up in named if up.parent.name.lower() not in taken)


def _label_dirs(tree: Tree, image_dir: Path) -> list[Path]:
    above = {up for path in tree.paths for up in path.parents}
    return sorted(
        up
        for up in above
        if up.name.lower() in LABEL_FOLDERS
        and up.parent == image_dir.parent
        and len(up.parts) == len(image_dir.parts)
    )


def _kinds(tree: Tree, image_dir: Path) -> list[Kind]:
    below = [path for path in tree.paths if image_dir in path.parents]
    kinds = [kind for path in below if (kind := kind_of_file(path))]
    return kinds or [VOLUME for folder in {p.parent for p in below} if _is_series(tree, folder)]


def _is_series(tree: Tree, folder: Path) -> bool:
    return bool(series_in(tree.root / folder))


def _cases(tree: Tree, image_dir: Path, kind: Kind) -> list[FoundCase]:
    label_dirs = _label_dirs(tree, image_dir)
    if len(label_dirs) > 1:
        raise DataError(
            "several folders of labels",
            file=tree.root / image_dir,
            got=", ".join(folder.as_posix() for folder in label_dirs),
            expected=f"one of {', '.join(LABEL_FOLDERS)}",
        )
    label_dir = label_dirs[0] if label_dirs else image_dir.parent / LABEL_FOLDERS[0]
    images = _images(tree, image_dir, kind)
    labels = [tree.root / path for path in tree.paths if label_dir in path.parents]
    matched = match_plain(images, tree.root / image_dir, labels, tree.root / label_dir, kind)
    above = image_dir.parent.as_posix() if image_dir.parent.parts else ""
    cases = []
    for name, (image, label) in matched.items():
        below, _, case = name.rpartition("/")
        if above and below:
            expected = f"{above}/{image_dir.name}/case"
            raise DataError("image at the wrong depth", file=image, expected=expected)
        domain = above or below or UNKNOWN_DOMAIN
        if image.is_dir():
            cases.append(_series_case(image, domain, case, label))
        else:
            cases.append(FoundCase(image, domain, case, read_pixels(kind, image), label))
    return cases


def _series_case(image: Path, domain: str, case: str, label: Path | None) -> FoundCase:
    found = series_in(image)
    if len(found) > 1:
        raise DataError(
            "folder holds several DICOM series",
            file=image,
            got=f"{len(found)} series",
            expected="one, because its label has the name of the folder",
            do="give each series a folder of its own",
        )
    headers = found[0].headers
    return FoundCase(
        image=image,
        domain=domain,
        case=case,
        pixels=partial(series_pixels, headers),
        label=label,
        files=tuple(header.file for header in headers),
        shared=not found[0].alone,
    )


def _images(tree: Tree, image_dir: Path, kind: Kind) -> list[Path]:
    below = [path for path in tree.paths if image_dir in path.parents]
    if kind is PHOTOGRAPH:
        return [tree.root / path for path in below if kind_of_file(path) is PHOTOGRAPH]
    images = [
        path
        for path in below
        if is_nifti(path) and not kind.case_name(path).lower().endswith(MASK_SUFFIXES)
    ]
    folders = {path.parent for path in below if not is_nifti(path)}
    return [tree.root / path for path in (*images, *(f for f in folders if _is_series(tree, f)))]
