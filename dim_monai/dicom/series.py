"""DICOM series on disk: which folders hold them, what their headers say, their voxels.

No message names anything but files, modalities and the end of a SeriesInstanceUID: headers hold
names.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.dicom.geometry import SliceHeader, prove_geometry
from dim_monai.dicom.instance import damaged, read_header, read_pixels, sop_class
from dim_monai.errors import DataError

logger = logging.getLogger(__name__)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MASK_SUFFIXES = ("_seg", "_label", "_lab")
"""A NIfTI file whose name ends with one of these (before .nii or .nii.gz) is a mask, not a case."""

UNREAD_SUFFIXES = (
    *(".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img", ".img.gz"),
    *(".mgz", ".mgh", ".mnc", ".gipl", ".nii.bz2"),
)
"""How a file of a volume is named that is in no format read here. Pictures are none of them: they
are often previews of the volumes beside them."""

_UID_TAIL = 8


@dataclass(frozen=True)
class Series:
    """One DICOM series in one folder.

    Attributes:
        folder: where its files lie.
        uid: SeriesInstanceUID.
        modality: Modality of its first file.
        paths: its files; sorted by name as found, by slice index k as returned by `read_series`.
    """

    folder: Path
    uid: str
    modality: str
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        """Returns a description without patient data: modality, end of the UID, number of files.

        Text that is neither a modality nor a UID is left out.
        """
        known = re.fullmatch("[A-Z]{2,16}", self.modality) is not None
        tail = self.uid[-_UID_TAIL:] if set(self.uid) <= set("0123456789.") else "no UID"
        return f"{self.modality if known else 'unknown'} ...{tail} ({len(self.paths)} files)"


def read_headers(folder: str | os.PathLike[str]) -> list[SliceHeader]:
    """Returns the headers of all DICOM instances directly in `folder`, sorted by file name.

    What counts is the content, not the suffix: a file with the DICOM mark is an instance, any
    other is ignored, and so are hidden files and DICOMDIR. Damage is never ignored: a `.dcm` file
    without the mark is refused, and so is an empty file without suffix beside instances (an
    interrupted copy).

    Raises:
        DataError: the folder is missing, or an instance cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("DICOM folder does not exist", file=folder, do="check the path")
    files = _files(folder)
    headers = [read_header(path) for path in files if sop_class(path) is not None]
    for path in files if headers else []:
        if not path.suffix and path.stat().st_size == 0:
            raise damaged(path, "an empty file")
    return headers


def read_series(
    folder: str | os.PathLike[str],
) -> tuple[NDArray[np.float32], NDArray[np.float64], Series]:
    """Returns the volume of the one series in `folder`, in modality units, with proven geometry.

    Args:
        folder: a folder with exactly one series; see `read_headers` for what is ignored.

    Returns:
        The voxels, float32 (X, Y, Z) with index (column, row, slice); the affine, float64 (4, 4),
        voxel index to RAS mm; the series, its files in slice order.

    Raises:
        DataError: no series or several, refused geometry (`prove_geometry`), colour or MONOCHROME1
            pixels, pixel data that is truncated, compressed without a decoder or not finite.
    """
    folder = Path(folder)
    headers = read_headers(folder)
    found = _group(folder, headers)
    if not found:
        raise DataError(
            "folder holds no DICOM series",
            file=folder,
            expected="the files of exactly one series",
            do="give the folder that directly contains the slices",
        )
    if len(found) > 1:
        raise DataError(
            "folder holds several DICOM series",
            file=folder,
            got=", ".join(str(series) for series in found),
            expected="exactly one",
            do="give each series its own folder",
        )
    geometry = prove_geometry(headers)
    paths = tuple(headers[n].file for n in geometry.order)
    # Room for all slices only once the first has proved to be as large as its header says.
    first = read_pixels(paths[0], geometry.shape[:2])
    volume = np.empty(geometry.shape, dtype=np.float32)
    volume[:, :, 0] = first
    for k, path in enumerate(paths[1:], start=1):
        volume[:, :, k] = read_pixels(path, geometry.shape[:2])
    return volume, geometry.affine_ras, Series(folder, found[0].uid, found[0].modality, paths)


def find_cases(root: str | os.PathLike[str]) -> list[Path]:
    """Returns every case at or below `root` in sorted order: NIfTI files and DICOM series folders.

    A NIfTI file is a mask and no case if its name ends with `_seg`, `_label` or `_lab` before the
    suffix (any case of letters). A folder is a DICOM case if it directly holds at least one DICOM
    image; one with only a DICOM SEG, structure set, report or DICOMDIR is none. A folder with
    several series is listed once, and refused when it is read. Hidden files and folders are
    skipped. How many files were taken for masks is logged. A `root` that is itself one NIfTI file
    is returned as it is, mask or not.

    Raises:
        DataError: `root` does not exist, is another kind of file, or holds no case; or a link
            below it leads to a folder or to nothing.
    """
    root = Path(root)
    if root.is_file() and is_nifti(root):
        return [root]
    if not root.is_dir():
        raise DataError(
            "not a case",
            file=root,
            got="another kind of file" if root.exists() else "nothing at this path",
            expected="a NIfTI file or a folder",
            do="for DICOM give the folder of the series",
        )
    cases: list[Path] = []
    unread: list[Path] = []
    masks = 0
    for folder in _folders(root):
        files = _files(folder)
        volumes = [path for path in files if is_nifti(path)]
        found = [path for path in volumes if not _is_mask(path)]
        masks += len(volumes) - len(found)
        cases += found
        unread += [path for path in files if path.name.lower().endswith(UNREAD_SUFFIXES)]
        if any(_is_image(path) for path in files):
            cases.append(folder)
    if masks:
        names = ", ".join(MASK_SUFFIXES)
        logger.info("%s: %d NIfTI files named as masks are no cases (%s)", root, masks, names)
    if not cases:
        expected = "NIfTI files (.nii, .nii.gz) or DICOM series folders"
        raise no_case_found(root, unread, expected, "NIfTI", MASK_SUFFIXES)
    return sorted(cases)


def no_case_found(
    root: Path, unread: Sequence[Path], expected: str, convert_to: str, masks: Sequence[str]
) -> DataError:
    """Returns the error of a folder without a case.

    Args:
        root: the folder.
        unread: images in it whose format is not read.
        expected: what would be a case, in words.
        convert_to: the format that `unread` is best converted to.
        masks: what the name of a file that is no case ends with.
    """
    if unread:
        got = f"{len(unread)} in other formats, the first {unread[0].name}"
        do = f"convert them to {convert_to}"
    else:
        got, do = None, f"check the path; files ending with {', '.join(masks)} are masks"
    return DataError("no case found", file=root, got=got, expected=expected, do=do)


def files_below(root: Path) -> Iterator[Path]:
    """Yields every file at or below `root` that is not hidden, folder by folder.

    Raises:
        DataError: a folder cannot be read, or a link leads to a folder or to nothing.
    """
    for folder in _folders(root):
        yield from _files(folder)


def is_nifti(path: Path) -> bool:
    """Whether the name of `path` ends with .nii or .nii.gz, in any case of letters."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def case_name(path: str | os.PathLike[str]) -> str:
    """Returns the name of a case: its file name without .nii or .nii.gz, or its folder's name."""
    name = Path(path).name
    for suffix in NIFTI_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _is_mask(path: Path) -> bool:
    return case_name(path).lower().endswith(MASK_SUFFIXES)


def _folders(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root, onerror=_unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for path in (Path(folder, name) for name in (*below, *files) if not name.startswith(".")):
            if path.is_symlink() and not path.is_file():
                raise DataError(
                    "link that would be passed over",
                    file=path,
                    got="a link to a folder" if path.is_dir() else "a link to nothing",
                    do="put what it should lead to in its place, or take it out",
                )
        yield Path(folder)


def _unreadable(error: OSError) -> None:
    # Without this, os.walk passes over a folder it may not open, and its cases are never missed.
    raise DataError(
        "folder cannot be read",
        file=error.filename,
        got=type(error).__name__,
        do="check its permissions",
    ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def _group(folder: Path, headers: Sequence[SliceHeader]) -> list[Series]:
    by_uid: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        by_uid[header.series_uid].append(header)
    return [
        Series(folder, uid, members[0].modality, tuple(header.file for header in members))
        for uid, members in sorted(by_uid.items())
    ]


def _is_image(path: Path) -> bool:
    """Whether `path` is a DICOM image or damaged, and so to be refused when it is read."""
    try:
        found = sop_class(path)
    except DataError:
        return True
    # A class that the standard does not know has no name: taken for an image, and read strictly.
    return found is not None and (
        "Image Storage" in found.name or not found.name.endswith("Storage")
    )
