"""Proof that the slices of one series form a regular volume, and the affine that follows from it.

Only header values are looked at. A volume is accepted when every slice lies where one affine puts
it; anything else is refused, because a network cannot see that its input was squeezed or bent.
SliceThickness and SpacingBetweenSlices are never read: they describe the intended protocol, while
the positions say where the pixels are (DICOM PS3.3, C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.errors import DataError

Floats = NDArray[np.float64]

LPS_TO_RAS: Floats = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts towards the patient's left and back, NIfTI and MONAI towards the right and front."""

ORTHONORMAL_TOLERANCE = 1e-3
"""Unitless, for lengths and dot product of the direction cosines. Cosines written with four
digits are wrong by up to 2e-4; 1e-3 rad moves the far edge of a 400 mm image by less than half a
millimetre."""

ORIENTATION_TOLERANCE = 1e-4
"""Unitless, per direction cosine, between slices. Rounding by the scanner is 1e-6 and less; a
localizer or a second stack differs by 1e-2 and more."""

PIXEL_SPACING_TOLERANCE = 1e-4
"""Relative, between slices: a twentieth of a pixel over 512 pixels."""

DUPLICATE_MM = 1e-3
"""Slices closer than this share a place: positions of distinct ones differ by 0.1 mm and more."""

GRID_TOLERANCE = 0.05
"""How far a slice may lie from its place on the regular grid, in slice distances. Positions
rounded to 0.01 mm on 0.6 mm slices need 0.02; a missing slice moves its neighbours by 0.3 and
more."""

DRIFT_TOLERANCE = 0.2
"""How far a slice may lie beside the normal through the first one, in pixels (the smaller edge).
A gantry tilt of one degree moves twenty 3 mm slices by 1 mm."""

LARGEST = 1e6
"""Of any number of the geometry, in its unit: a kilometre, which no patient is long."""

SMALLEST_MM = 1e-6
"""Of PixelSpacing: a nanometre. Far below it, products of spacings vanish."""

_GAPS_NAMED = 3


@dataclass(frozen=True)
class SliceHeader:
    """What the header of one DICOM instance says about its place, unchecked and as it was read.

    Attributes:
        file: the instance.
        series_uid: SeriesInstanceUID.
        modality: Modality, "" where absent.
        rows: Rows, a positive integer.
        columns: Columns, a positive integer.
        pixel_spacing_mm: PixelSpacing, (distance between rows, distance between columns) in mm.
        orientation: ImageOrientationPatient, six cosines in LPS: direction of a row, of a column.
        position_mm: ImagePositionPatient, centre of the first pixel in LPS mm.
        multi_frame: whether the instance holds several frames (enhanced or multi-frame objects).
    """

    file: Path
    series_uid: str
    modality: str
    rows: object
    columns: object
    pixel_spacing_mm: object
    orientation: object
    position_mm: object
    multi_frame: bool = False


@dataclass(frozen=True)
class SeriesGeometry:
    """The proven geometry of one series.

    Attributes:
        order: for each slice index k, the index of its header in the sequence that was given.
        affine_ras: (4, 4) float64, voxel index (i = column, j = row, k = slice) to RAS mm; its
            axes are exactly orthogonal, and k increases along cross(row direction, column
            direction).
        spacing_mm: distances between voxel centres along i, j, k.
        shape: (columns, rows, slices), the shape of `array[i, j, k]`.
    """

    order: tuple[int, ...]
    affine_ras: Floats
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]


def prove_geometry(slices: Sequence[SliceHeader]) -> SeriesGeometry:
    """Returns the one affine that places every slice, or refuses the series.

    The affine is the mapping of DICOM PS3.3, equation C.7.6.2.1-1, extended by the slice axis and
    turned from LPS to RAS. Cosines within `ORTHONORMAL_TOLERANCE` are made exactly orthonormal,
    so that the affine can be written to any format.

    Args:
        slices: headers of the instances of one series, in any order.

    Raises:
        DataError: a multi-frame object, a single slice, missing or non-numeric values, slices
            that differ in size, pixel spacing or orientation, cosines that are not orthonormal,
            slices at the same place, missing or unevenly spaced slices, slices shifted against
            each other (gantry tilt).
        ValueError: no slices at all.
    """
    if not slices:
        raise ValueError("prove_geometry needs at least one slice")
    _require_single_frames(slices)
    sizes = np.stack([_numbers(s, "Rows and Columns", [s.rows, s.columns], 2) for s in slices])
    spacings = np.stack([_numbers(s, "PixelSpacing", s.pixel_spacing_mm, 2) for s in slices])
    cosines = np.stack([_numbers(s, "ImageOrientationPatient", s.orientation, 6) for s in slices])
    positions = np.stack([_numbers(s, "ImagePositionPatient", s.position_mm, 3) for s in slices])
    _require_positive(slices, "Rows and Columns", sizes, 1)
    _require_positive(slices, "PixelSpacing", spacings, SMALLEST_MM)
    _require_same(slices, "Rows and Columns", sizes, 0.0)
    smallest_mm = float(spacings.min())
    _require_same(slices, "PixelSpacing", spacings, PIXEL_SPACING_TOLERANCE * smallest_mm)
    _require_same(slices, "ImageOrientationPatient", cosines, ORIENTATION_TOLERANCE)
    axes = _axes(slices[0], cosines[0])

    distances = positions @ axes[2]
    order = np.argsort(distances, kind="stable")
    in_order = [slices[n] for n in order]
    slice_spacing_mm = _slice_spacing_mm(in_order, distances[order])
    _require_straight(in_order, positions[order], axes, DRIFT_TOLERANCE * smallest_mm)

    row_spacing_mm, column_spacing_mm = spacings[0]
    spacing_mm = (float(column_spacing_mm), float(row_spacing_mm), slice_spacing_mm)
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = axes.T * spacing_mm
    affine_lps[:3, 3] = positions[order[0]]
    return SeriesGeometry(
        order=tuple(int(n) for n in order),
        affine_ras=LPS_TO_RAS @ affine_lps,
        spacing_mm=spacing_mm,
        shape=(int(sizes[0, 1]), int(sizes[0, 0]), len(slices)),
    )


def _require_single_frames(slices: Sequence[SliceHeader]) -> None:
    for header in slices:
        if header.multi_frame:
            raise DataError(
                "multi-frame DICOM is not supported yet",
                file=header.file,
                got="an enhanced or multi-frame object",
                expected="one file per slice",
                do="convert it to single-frame DICOM or to NIfTI",
            )
    if len(slices) == 1:
        raise DataError(
            "series has a single slice, so its slice distance is unknown",
            file=slices[0].file,
            got="1 slice",
            expected="at least 2 slices of one volume",
            do="put all slices of the series into one folder, or convert the slice to NIfTI",
        )


def _numbers(header: SliceHeader, tag: str, value: object, count: int) -> Floats:
    """Returns `value` as (count,) float64 within `LARGEST` or names the tag that is not."""
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        numbers = np.full(count, np.nan)
    if numbers.shape != (count,) or not (np.abs(numbers) <= LARGEST).all():
        raise DataError(
            "slice has no usable geometry",
            file=header.file,
            got=f"no {tag}" if value is None else f"{tag} = {value}",
            expected=f"{count} finite numbers, none beyond {LARGEST:g}",
            do="export the series again from its source",
        )
    return numbers


def _require_positive(
    slices: Sequence[SliceHeader], tag: str, values: Floats, least: float
) -> None:
    for header, value in zip(slices, values, strict=True):
        if value.min() < least:
            raise DataError(
                "slice has no usable geometry",
                file=header.file,
                got=f"{tag} = {value.tolist()}",
                expected="values above 0",
                do="export the series again from its source",
            )


def _require_same(
    slices: Sequence[SliceHeader], tag: str, values: Floats, tolerance: float
) -> None:
    # Against the median, so that the odd slice is named and not whichever happens to come first.
    usual = np.median(values, axis=0)
    off = np.abs(values - usual).max(axis=1)
    worst = int(off.argmax())
    if off[worst] > tolerance:
        raise DataError(
            f"slices of one series differ in {tag}",
            file=slices[worst].file,
            got=values[worst].tolist(),
            expected=f"{usual.tolist()} as in the rest of the series",
            do="keep one volume per folder and move localizers and other stacks out of it",
        )


def are_orthonormal(cosines: Floats) -> bool:
    """Whether six cosines are two perpendicular vectors of length 1, within rounding."""
    row, column = cosines[:3], cosines[3:]
    errors = np.array([row @ row - 1, column @ column - 1, row @ column])
    return bool(np.abs(errors).max() <= ORTHONORMAL_TOLERANCE)


def _axes(header: SliceHeader, cosines: Floats) -> Floats:
    """Returns (3, 3) orthonormal rows in LPS: along a row, along a column, the slice normal."""
    row, column = cosines[:3], cosines[3:]
    if not are_orthonormal(cosines):
        raise DataError(
            "direction cosines are not orthonormal",
            file=header.file,
            got=f"ImageOrientationPatient = {cosines.tolist()}",
            expected="two perpendicular vectors of length 1",
            do="export the series again from its source",
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def _slice_spacing_mm(slices: Sequence[SliceHeader], distances: Floats) -> float:
    """Returns the slice distance; `slices` and `distances` (mm along the normal) are sorted."""
    gaps = np.diff(distances)
    first = int(gaps.argmin())
    if gaps[first] < DUPLICATE_MM:
        raise DataError(
            "several slices lie at the same position",
            file=slices[0].file.parent,
            got=f"{int((gaps < DUPLICATE_MM).sum())} repeated positions, one of them in "
            f"{slices[first].file.name} and {slices[first + 1].file.name}",
            expected="one slice per position",
            do="keep one copy, and one time point, echo or b-value, per folder",
        )
    spacing_mm = float(distances[-1] - distances[0]) / len(gaps)
    off_mm = np.abs(distances - distances[0] - spacing_mm * np.arange(len(distances)))
    if off_mm.max() > GRID_TOLERANCE * spacing_mm:
        raise _uneven(slices, distances, gaps)
    return spacing_mm


def _uneven(slices: Sequence[SliceHeader], distances: Floats, gaps: Floats) -> DataError:
    """Returns the error that says where slices are missing, or where the distance changes."""
    usual = float(np.quantile(gaps, 0.5, method="lower"))
    absent = np.rint(gaps / usual).astype(int) - 1
    places = (
        np.flatnonzero(absent > 0) if (absent > 0).any() else [int(np.abs(gaps - usual).argmax())]
    )
    named = [
        f"{gaps[k]:.3f} mm between {slices[k].file.name} (at {distances[k]:.3f} mm along the "
        f"normal) and {slices[k + 1].file.name} (at {distances[k + 1]:.3f} mm)"
        for k in places[:_GAPS_NAMED]
    ]
    if len(places) > _GAPS_NAMED:
        named.append(f"{len(places) - _GAPS_NAMED} more")
    total = int(absent.clip(min=0).sum())
    return DataError(
        f"about {total} slice(s) missing" if total else "slices are not evenly spaced",
        file=slices[0].file.parent,
        got=", ".join(named),
        expected=f"{usual:.3f} mm between all slices",
        do="restore the missing files or export the series again from its source",
    )


def _require_straight(
    slices: Sequence[SliceHeader], positions: Floats, axes: Floats, tolerance_mm: float
) -> None:
    offsets_mm = (positions - positions[0]) @ axes[:2].T
    drift_mm = np.linalg.norm(offsets_mm, axis=1)
    worst = int(drift_mm.argmax())
    if drift_mm[worst] > tolerance_mm:
        raise DataError(
            "slices are shifted against each other (gantry tilt?)",
            file=slices[worst].file,
            got=f"{drift_mm[worst]:.3f} mm beside the normal through {slices[0].file.name}",
            expected=f"at most {tolerance_mm:.3f} mm",
            do="resample the series to a regular grid and give it as NIfTI",
        )
