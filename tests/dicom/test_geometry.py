"""Laws of the geometry proof, against the pixel equation of DICOM PS3.3 (C.7.6.2.1-1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dim_monai.dicom.geometry import (
    DRIFT_TOLERANCE,
    GRID_TOLERANCE,
    ORTHONORMAL_TOLERANCE,
    SliceHeader,
    prove_geometry,
)
from dim_monai.errors import DataError
from tests.dicom_builder import ORIENTATIONS, rotation

ROWS, COLUMNS = 7, 5
ROW_MM, COLUMN_MM, SLICE_MM = 0.75, 0.5, 3.0


def stack(orientation: str = "axial", places: object = range(6)) -> list[SliceHeader]:
    """Returns headers, as DICOM (LPS) writes them, at places along k in slice distances."""
    row, column, across = (rotation(orientation) * [[-1], [-1], [1]]).T
    return [
        SliceHeader(
            file=Path("series") / f"{n}.dcm",
            series_uid="1.2.3",
            modality="MR",
            rows=ROWS,
            columns=COLUMNS,
            pixel_spacing_mm=[ROW_MM, COLUMN_MM],
            orientation=[*row, *column],
            position_mm=list(np.array([9.0, -8.0, 7.0]) + place * SLICE_MM * across),
        )
        for n, place in enumerate(places)
    ]


def changed(slices: list[SliceHeader], n: int, **values: object) -> list[SliceHeader]:
    return [replace(s, **values) if i == n else s for i, s in enumerate(slices)]


def pixel_centre_lps(header: SliceHeader, i: int, j: int) -> np.ndarray:
    cosines, position = np.array(header.orientation), np.array(header.position_mm)
    return position + cosines[:3] * COLUMN_MM * i + cosines[3:] * ROW_MM * j


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_affine_agrees_with_the_pixel_equation_for_any_file_order(orientation, seed):
    slices = stack(orientation)
    slices = [slices[n] for n in np.random.default_rng(seed).permutation(len(slices))]
    geometry = prove_geometry(slices)
    for k, n in enumerate(geometry.order):
        for i, j in [(0, 0), (COLUMNS - 1, 0), (0, ROWS - 1), (2, 3)]:
            expected = pixel_centre_lps(slices[n], i, j) * [-1, -1, 1]
            np.testing.assert_allclose(
                (geometry.affine_ras @ [i, j, k, 1])[:3], expected, atol=1e-9
            )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_increase_along_the_cross_product_and_axes_are_orthogonal(orientation):
    geometry = prove_geometry(stack(orientation))
    axes = geometry.affine_ras[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.diag(np.square(geometry.spacing_mm)), atol=1e-12)
    # Two of three axes change sign from LPS to RAS, so right-handed stays right-handed.
    assert np.linalg.det(axes) == pytest.approx(ROW_MM * COLUMN_MM * SLICE_MM)
    assert geometry.spacing_mm == pytest.approx((COLUMN_MM, ROW_MM, SLICE_MM))
    assert geometry.shape == (COLUMNS, ROWS, 6)


def test_slightly_rounded_cosines_are_made_orthonormal():
    cosines = [0.9397, 0.0, 0.342, 0.0, 1.0, 0.0]  # four digits of (cos 20, 0, sin 20)
    normal = np.cross(cosines[:3], cosines[3:])
    slices = [
        replace(s, orientation=cosines, position_mm=list(2.0 * n * normal / np.linalg.norm(normal)))
        for n, s in enumerate(stack())
    ]
    geometry = prove_geometry(slices)
    axes = geometry.affine_ras[:3, :3] / geometry.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert geometry.spacing_mm[2] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("field", "value", "tag"),
    [
        ("position_mm", None, "no ImagePositionPatient"),
        ("position_mm", [1.0, float("nan"), 0.0], "ImagePositionPatient"),
        ("position_mm", [1.0, 2.0], "ImagePositionPatient"),
        ("orientation", None, "no ImageOrientationPatient"),
        ("orientation", [1, 0, 0, 0, float("inf"), 0], "ImageOrientationPatient"),
        ("pixel_spacing_mm", None, "no PixelSpacing"),
        ("pixel_spacing_mm", "wide", "PixelSpacing = wide"),
        ("pixel_spacing_mm", 0.5, "PixelSpacing = 0.5"),
        ("pixel_spacing_mm", [0.5, 0.0], "PixelSpacing"),
        ("pixel_spacing_mm", [0.5, -0.5], "PixelSpacing"),
        ("rows", None, "Rows and Columns"),
        ("columns", 0, "Rows and Columns"),
    ],
)
def test_missing_or_non_numeric_values_are_refused(field, value, tag):
    with pytest.raises(DataError, match=tag) as caught:
        prove_geometry(changed(stack(), 3, **{field: value}))
    assert caught.value.file == str(Path("series") / "3.dcm")


@pytest.mark.parametrize(
    ("field", "value", "tag"),
    [
        ("rows", ROWS + 1, "Rows and Columns"),
        ("columns", COLUMNS - 1, "Rows and Columns"),
        ("pixel_spacing_mm", [ROW_MM * 1.01, COLUMN_MM], "PixelSpacing"),
        ("orientation", [0, 1, 0, 0, 0, -1], "ImageOrientationPatient"),
    ],
)
@pytest.mark.parametrize("n", [0, 4])
def test_the_slice_that_differs_is_named(field, value, tag, n):
    with pytest.raises(DataError, match=f"differ in {tag}") as caught:
        prove_geometry(changed(stack(), n, **{field: value}))
    assert caught.value.file == str(Path("series") / f"{n}.dcm")


@pytest.mark.parametrize("error", [0.5, 2.0])
@pytest.mark.parametrize("what", ["length", "angle"])
def test_orthonormal_tolerance_is_where_refusal_starts(what, error):
    size = error * ORTHONORMAL_TOLERANCE
    row = [1.0 + size / 2, 0.0, 0.0] if what == "length" else [1.0, size, 0.0]
    slices = [replace(s, orientation=[*row, 0.0, 1.0, 0.0]) for s in stack()]
    if error < 1:
        prove_geometry(slices)
    else:
        with pytest.raises(DataError, match="not orthonormal"):
            prove_geometry(slices)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique_0"])
@pytest.mark.parametrize(
    ("places", "missing", "names"),
    [
        ([0, 1, 3, 4, 5], 1, ("1.dcm", "2.dcm")),
        ([0, 1, 2, 3, 6, 7], 2, ("3.dcm", "4.dcm")),
        ([0, 1, 3], 1, ("1.dcm", "2.dcm")),
        ([0, 2, 3, 5, 6, 7, 8], 2, ("0.dcm", "1.dcm", "2.dcm", "3.dcm")),
    ],
)
def test_missing_slices_are_counted_and_located(orientation, places, missing, names):
    with pytest.raises(DataError, match=rf"about {missing} slice\(s\) missing: series") as caught:
        prove_geometry(stack(orientation, places))
    assert all(name in str(caught.value.got) for name in names)
    assert "3.000 mm" in str(caught.value.expected)


def test_only_the_first_gaps_are_named_and_the_rest_counted():
    places = [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20]
    with pytest.raises(DataError, match=r"about 5 slice\(s\) missing.*5\.dcm.*6\.dcm.*, 2 more;"):
        prove_geometry(stack(places=places))


@pytest.mark.parametrize("share", [0.8, 1.5])
def test_grid_tolerance_is_where_refusal_starts(share):
    # The moved slice leaves both ends, and so the grid, where they were.
    slices = stack(places=[0, 1, 2 + share * GRID_TOLERANCE, 3, 4])
    if share < 1:
        assert prove_geometry(slices).spacing_mm[2] == pytest.approx(SLICE_MM)
    else:
        with pytest.raises(DataError, match="not evenly spaced"):
            prove_geometry(slices)


def test_duplicate_positions_are_refused_and_named():
    with pytest.raises(DataError, match=r"1 repeated positions.*2\.dcm and 3\.dcm"):
        prove_geometry(stack(places=[0, 1, 2, 2, 3]))


def test_a_second_time_point_is_refused_as_repeated_positions():
    with pytest.raises(DataError, match="4 repeated positions"):
        prove_geometry(stack(places=[0, 1, 2, 3, 0, 1, 2, 3]))


@pytest.mark.parametrize("share", [0.8, 1.2])
@pytest.mark.parametrize("orientation", ["axial", "coronal", "oblique_1"])
def test_drift_tolerance_is_where_refusal_of_tilted_slices_starts(orientation, share):
    slices = stack(orientation)
    step = share * DRIFT_TOLERANCE * COLUMN_MM / (len(slices) - 1)
    along_column = np.array(slices[0].orientation[3:])
    tilted = [
        replace(s, position_mm=list(np.array(s.position_mm) + n * step * along_column))
        for n, s in enumerate(slices)
    ]
    if share < 1:
        prove_geometry(tilted)
    else:
        with pytest.raises(DataError, match="shifted against each other"):
            prove_geometry(tilted)


def test_a_single_slice_and_multi_frame_objects_are_refused():
    with pytest.raises(DataError, match="single slice"):
        prove_geometry(stack(places=[0]))
    with pytest.raises(DataError, match=r"not supported yet: series.*convert"):
        prove_geometry([replace(stack(places=[0])[0], multi_frame=True)])
    with pytest.raises(ValueError, match="at least one slice"):
        prove_geometry([])
