"""The two kinds of case, and how each is found, named and read."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dim_monai.data import photograph
from dim_monai.data.reader import read_case
from dim_monai.dicom import series
from dim_monai.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

MASK_NAMES = (*series.MASK_SUFFIXES, "_mask")
"""A photograph whose name ends with one of these (before the suffix) is a mask, not a case."""

UNREAD_SUFFIXES = (
    *(".bmp", ".gif", ".webp", ".jpe", ".jfif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".tga"),
    *(".heic", ".heif", ".avif", ".dng", ".cr2", ".nef", ".dcm"),
)
"""How a photograph is named that is in no format read here; some cameras write DICOM."""

Loaded = tuple[NDArray[Any], NDArray[np.float64]]
"""Pixels or voxels, and the affine, float64 (4, 4), from their index to RAS mm or to pixels."""


@dataclass(frozen=True)
class Kind:
    """How the cases of one kind are found, named and read.

    Attributes:
        name: what a config calls it.
        files: what a case is, in words, for messages.
        labels: what its label is, in words, for messages.
        unit: of distances: "mm" or "px".
        element: what a message calls one of its samples.
        mask_suffix: what the file name of a predicted mask ends with.
        unread: what the file name of an image ends with, in lower case, whose format is not read.
        convert_to: the format that such an image is best converted to.
        find: the cases at or below a folder, sorted; a path that is itself one case is returned.
            Raises DataError where there is none.
        is_label: whether a file, by its name, can hold a label.
        case_name: name of the case at a path: without folder and suffix.
        read_image: pixels, float32, and affine: (X, Y, Z), or (W, H, 3) with the identity.
        read_label: the same for a label: (X, Y, Z), or uint8 (W, H) with the identity.
    """

    name: str
    files: str
    labels: str
    unit: str
    element: str
    mask_suffix: str
    unread: tuple[str, ...]
    convert_to: str
    find: Callable[[Path], list[Path]]
    is_label: Callable[[Path], bool]
    case_name: Callable[[str | os.PathLike[str]], str]
    read_image: Callable[[Path], Loaded]
    read_label: Callable[[Path], Loaded]


def find_photographs(root: str | os.PathLike[str]) -> list[Path]:
    """Return every photograph at or below ``root``, sorted.

    Hidden files and folders are skipped, and so are masks (`MASK_NAMES`), whose number is logged. A
    ``root`` that is itself a photograph is returned as it is.

    Raises:
        DataError: ``root`` does not exist, is another kind of file, or holds no photograph; a
            folder cannot be read; a link below it leads to a folder or to nothing.
    """
    root = Path(root)
    if root.is_file() and photograph.is_photograph(root):
        return [root]
    if not root.is_dir():
        raise DataError(
            "not a case",
            file=root,
            got="another kind of file" if root.exists() else "nothing at this path",
            expected=f"a photograph ({', '.join(photograph.SUFFIXES)}) or a folder",
        )
    files = list(series.files_below(root))
    found = [path for path in files if photograph.is_photograph(path)]
    cases = [path for path in found if not _is_mask(path)]
    if masks := len(found) - len(cases):
        names = ", ".join(MASK_NAMES)
        logger.info("%s: %d images named as masks are no cases (%s)", root, masks, names)
    if not cases:
        unread = [path for path in files if path.name.lower().endswith(UNREAD_SUFFIXES)]
        expected = f"photographs ({', '.join(photograph.SUFFIXES)})"
        raise series.no_case_found(root, unread, expected, "PNG", MASK_NAMES)
    return sorted(cases)


def photograph_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a photograph without folder and suffix; dots in it are kept."""
    path = Path(path)
    return path.stem if path.suffix.lower() in photograph.SUFFIXES else path.name


def get_kind(name: str) -> Kind:
    """Return the kind of that name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        raise ConfigError(
            "unknown kind of case",
            got=repr(name),
            expected=f"one of {', '.join(KINDS)}",
            do=f"did you mean {close[0]!r}?" if close else None,
        )
    return KINDS[name]


def _is_mask(path: Path) -> bool:
    return photograph_name(path).lower().endswith(MASK_NAMES)


def _read_photograph(path: Path) -> Loaded:
    return photograph.read_photograph(path).astype(np.float32), np.eye(4)


def _read_mask(path: Path) -> Loaded:
    return photograph.read_mask(path), np.eye(4)


VOLUME = Kind(
    name="volume",
    files="a NIfTI file (.nii.gz, .nii) or the folder of one DICOM series",
    labels="a NIfTI file (.nii.gz, .nii)",
    unit="mm",
    element="voxel",
    mask_suffix=".nii.gz",
    unread=series.UNREAD_SUFFIXES,
    convert_to="NIfTI",
    find=series.find_cases,
    is_label=series.is_nifti,
    case_name=series.case_name,
    read_image=read_case,
    read_label=read_case,
)
PHOTOGRAPH = Kind(
    name="photograph",
    files=f"a photograph ({', '.join(photograph.SUFFIXES)})",
    labels=f"a mask ({', '.join(photograph.MASK_SUFFIXES)})",
    unit="px",
    element="pixel",
    mask_suffix=".png",
    unread=UNREAD_SUFFIXES,
    convert_to="PNG",
    find=find_photographs,
    is_label=photograph.is_mask,
    case_name=photograph_name,
    read_image=_read_photograph,
    read_label=_read_mask,
)
KINDS = {kind.name: kind for kind in (VOLUME, PHOTOGRAPH)}
