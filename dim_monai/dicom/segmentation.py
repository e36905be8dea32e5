"""DICOM SEG on disk: which series it belongs to, and its segments as one label on that grid.

As in `dim_monai.dicom.instance`, calls into the parser are wrapped whole, and no message quotes
free text of a header: segments are named by the coded meaning of their type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import SegmentationStorage

from dim_monai.dicom.geometry import LPS_TO_RAS, SeriesGeometry
from dim_monai.dicom.instance import damaged, parsing, sop_class
from dim_monai.errors import DataError

GRID_TOLERANCE_VOXELS = 0.1
"""How far a pixel of a segment may lie from a voxel centre of the series: positions rounded by two
programs differ by 0.01 and less, another grid by up to half a voxel."""

_LAST_NUMBER = 65535
_LONGEST_MEANING = 64  # characters, by the standard


@dataclass(frozen=True)
class Segments:
    """The segments of one DICOM SEG on the grid of its series.

    Attributes:
        label: (X, Y, Z), 0 where there is no segment, else the number of the segment; uint8, or
            uint16 for numbers above 255.
        meanings: coded meaning of each segment, by its number.
        overlap: voxels that are in several segments and took the smallest of them.
    """

    label: NDArray[np.uint8] | NDArray[np.uint16]
    meanings: dict[int, str]
    overlap: int


def is_segmentation(path: Path) -> bool:
    """Whether `path` is a DICOM SEG, by its content."""
    return sop_class(path) == SegmentationStorage


def referenced_series(path: Path) -> str:
    """Returns the SeriesInstanceUID of the one series that a DICOM SEG was drawn on.

    Raises:
        DataError: the file cannot be parsed, or names no series or several.
    """
    try:
        with parsing():
            dataset = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["ReferencedSeriesSequence"]
            )
            found = {str(item.SeriesInstanceUID) for item in dataset.ReferencedSeriesSequence}
    except AttributeError:
        found = set()
    except Exception as error:
        raise damaged(path, type(error).__name__) from error
    if len(found) != 1:
        raise DataError(
            "DICOM SEG belongs to no single series",
            file=path,
            got=f"{len(found)} referenced series",
            expected="one",
            do="export it again from its source, with the series it was drawn on",
        )
    return found.pop()


def read_segments(path: Path, geometry: SeriesGeometry) -> Segments:
    """Returns the segments of a DICOM SEG as one label on the grid of its series.

    Every pixel of a segment is taken to its place in the patient and from there to the voxel of the
    series, so that frames may come in any order, direction and number. A voxel in several segments
    takes the one with the fewest voxels, which says most about it (a lesion in a zone in a gland);
    of two equally large ones, the one with the smaller number.

    Raises:
        DataError: the file cannot be parsed, its segments are fractional, or a pixel lies beside
            the voxels of the series.
    """
    try:
        with parsing():
            dataset = pydicom.dcmread(path)
            kind = str(dataset.get("SegmentationType"))
            frames = np.asarray(dataset.pixel_array, dtype=bool)
            frames = frames.reshape(-1, *frames.shape[-2:])  # one alone comes without its axis
            meanings = {int(s.SegmentNumber): _meaning(s) for s in dataset.SegmentSequence}
            shared = dataset.SharedFunctionalGroupsSequence[0]
            groups = list(dataset.PerFrameFunctionalGroupsSequence)
            places = [_place(shared, group) for group in groups]
            numbers = [_segment_number(shared, group) for group in groups]
    except Exception as error:
        raise damaged(path, type(error).__name__) from error
    if kind != "BINARY":
        got = kind if kind in ("FRACTIONAL", "LABELMAP") else "of another kind"
        raise _refused(path, f"SegmentationType {got}", "BINARY")
    if len(frames) != len(groups) or not set(numbers) <= set(meanings):
        raise damaged(path, "frames that fit no segment")
    if not meanings or min(meanings) < 1 or max(meanings) > _LAST_NUMBER:
        raise damaged(path, f"segment numbers that are not 1 to {_LAST_NUMBER}")
    parts: dict[int, list[NDArray[np.intp]]] = {number: [] for number in numbers}
    for frame, place, number in zip(frames, places, numbers, strict=True):
        parts[number].append(_voxels(frame, place, geometry, path))
    segments = {number: np.unique(np.concatenate(found)) for number, found in parts.items()}
    label = np.zeros(geometry.shape, dtype=np.uint8 if max(meanings) <= 255 else np.uint16)
    depth = np.zeros(geometry.shape, dtype=np.uint16)
    for number in sorted(segments, key=lambda n: (-len(segments[n]), -n)):
        label.flat[segments[number]] = number
        depth.flat[segments[number]] += 1
    return Segments(label, meanings, overlap=int((depth > 1).sum()))


def _meaning(segment: pydicom.Dataset) -> str:
    meaning = str(segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning)
    if not meaning.isprintable() or len(meaning) > _LONGEST_MEANING:
        raise ValueError("the meaning of a code is a short text")
    return meaning


def _segment_number(shared: pydicom.Dataset, group: pydicom.Dataset) -> int:
    item = _group(shared, group, "SegmentIdentificationSequence")
    return int(item.ReferencedSegmentNumber)


def _place(shared: pydicom.Dataset, group: pydicom.Dataset) -> NDArray[np.float64]:
    """Returns (4, 3): (row, column, 0, 1) of a pixel to its centre in RAS mm.

    DICOM PS3.3, equation C.7.6.2.1-1, turned from LPS to RAS.
    """
    cosines = _group(shared, group, "PlaneOrientationSequence").ImageOrientationPatient
    spacing_mm = _group(shared, group, "PixelMeasuresSequence").PixelSpacing
    position_mm = _group(shared, group, "PlanePositionSequence").ImagePositionPatient
    row, column = np.array(cosines, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = map(float, spacing_mm)
    steps = np.array([column * between_rows, row * between_columns, np.zeros(3)])
    place = np.vstack([steps, np.array(position_mm, dtype=np.float64)])
    return np.asarray(place @ LPS_TO_RAS[:3, :3])


def _group(shared: pydicom.Dataset, group: pydicom.Dataset, keyword: str) -> Any:
    """Returns the functional group of one frame, or what it shares with all frames."""
    return (group if keyword in group else shared)[keyword].value[0]


def _voxels(
    frame: NDArray[np.bool_], place: NDArray[np.float64], geometry: SeriesGeometry, path: Path
) -> NDArray[np.intp]:
    """Returns the indices into the flat volume of the voxels at the set pixels of one frame."""
    pixels = np.argwhere(frame)
    homogeneous = np.c_[pixels, np.zeros(len(pixels)), np.ones(len(pixels))]
    inverse = np.linalg.inv(geometry.affine_ras)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite lies in no voxel
        points_mm = homogeneous @ place
        index = points_mm @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.rint(index)
    inside = (nearest >= 0) & (nearest < geometry.shape)
    if not inside.all() or (np.abs(index - nearest) > GRID_TOLERANCE_VOXELS).any():
        raise _refused(path, "pixels beside the voxels of its series", "the grid of the series")
    flat = np.ravel_multi_index(tuple(nearest.astype(np.intp).T), geometry.shape)
    if len(np.unique(flat)) < len(flat):  # a spacing of 0, or a direction
        raise _refused(path, "several pixels of a frame in one voxel", "the grid of the series")
    return np.asarray(flat, dtype=np.intp)


def _refused(path: Path, got: str, expected: str) -> DataError:
    return DataError(
        "DICOM SEG cannot be used as a label",
        file=path,
        got=got,
        expected=expected,
        do="export it again as binary segments of the series it was drawn on",
    )
