"""A series is a volume or refused: any direction, any order of files, gaps by permission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.dicom.geometry import SliceHeader, prove_geometry
from dim_monai.dicom.series import read_headers
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from dim_monai.predict.series import prove_series, pseudonym
from tests.dicom_builder import ORIENTATIONS, affine_of, centres, numbered, voxels_at

FOLDER = Path("folder")
SLICES = 9


def headers_of(orientation: str, slices: int = SLICES) -> list[SliceHeader]:
    """The headers of a series, made by hand from the equation of the standard."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_of(orientation)
    row, column, normal = (lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)).T
    return [
        SliceHeader(
            file=FOLDER / f"{k:03d}",
            series_uid="1.2",
            modality="MR",
            rows=4,
            columns=5,
            pixel_spacing_mm=[0.75, 0.5],
            orientation=[*row, *column],
            position_mm=(lps[:3, 3] + 3.0 * k * normal).tolist(),
        )
        for k in range(slices)
    ]


@settings(max_examples=60)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    removed=st.sets(st.integers(1, SLICES - 2), max_size=3),
    order=st.permutations(range(SLICES)),
)
def test_a_gap_is_refused_or_named_and_moves_no_slice(
    orientation: str, removed: set[int], order: Sequence[int]
) -> None:
    headers = headers_of(orientation)
    left = [headers[k] for k in order if k not in removed]
    whole = prove_geometry(headers)
    if removed:
        with pytest.raises(DataError, match="missing"):
            prove_series(FOLDER, left)
    series = prove_series(FOLDER, left, allow_missing_slices=True)
    assert series.geometry.shape == whole.shape
    assert np.allclose(series.geometry.affine_ras, whole.affine_ras, atol=1e-9)
    place = {headers[n].file: k for k, n in enumerate(whole.order)}
    assert set(series.missing) == {place[headers[k].file] for k in removed}
    assert [place[file] for file in series.files] == series.present


@pytest.mark.parametrize("shift_mm", [0.6, 1.5, 2.4])
def test_a_gap_that_is_no_whole_slice_is_refused_even_so(shift_mm: float) -> None:
    headers = headers_of("axial")
    moved = [replace(h, position_mm=np.add(h.position_mm, [0, 0, shift_mm])) for h in headers[5:]]
    with pytest.raises(DataError, match=r"not evenly spaced|missing"):
        prove_series(FOLDER, [*headers[:5], *moved], allow_missing_slices=True)


def test_one_slice_that_lies_too_near_makes_no_finer_grid() -> None:
    """By the smallest distance, every second slice of the volume would be called missing."""
    headers = headers_of("axial")
    last = replace(headers[-1], position_mm=np.add(headers[-1].position_mm, [0, 0, -1.5]))
    with pytest.raises(DataError, match=r"not evenly spaced"):
        prove_series(FOLDER, [*headers[:-1], last], allow_missing_slices=True)


def test_what_is_wrong_without_gaps_is_wrong_with_them() -> None:
    headers = headers_of("axial")
    with pytest.raises(DataError, match="same position"):
        prove_series(FOLDER, [*headers, headers[3]], allow_missing_slices=True)
    tilted = [replace(h, position_mm=np.add(h.position_mm, [0.2 * k, 0, 0]))
              for k, h in enumerate(headers)]  # fmt: skip
    with pytest.raises(DataError, match="shifted"):
        prove_series(FOLDER, [*tilted[:4], *tilted[5:]], allow_missing_slices=True)


def test_more_gap_than_volume_is_refused() -> None:
    headers = headers_of("axial", slices=200)
    with pytest.raises(DataError, match="missing"):
        prove_series(FOLDER, [*headers[:3], headers[-1]], allow_missing_slices=True)


@pytest.mark.parametrize("broken", [None, "1\\2", [0.0, 1.0], [np.nan] * 3])
def test_positions_that_are_none_are_refused_as_ever(broken: object) -> None:
    headers = headers_of("axial")
    headers[4] = replace(headers[4], position_mm=broken)
    with pytest.raises(DataError, match="no usable geometry"):
        prove_series(FOLDER, headers, allow_missing_slices=True)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_voxel_that_is_there_is_read_at_its_place(tmp_path: Path, orientation: str) -> None:
    image, affine = numbered((5, 4, 8)), affine_of(orientation)
    files = write_series(tmp_path / "series", image, affine, seed_uid=orientation)
    files[3].unlink()
    series = prove_series(
        tmp_path / "series", read_headers(tmp_path / "series"), allow_missing_slices=True
    )
    voxels, read_affine = series.read()
    assert voxels.shape == (5, 4, 7)
    whole = np.full((5, 4, 8), np.nan)
    whole[:, :, series.present] = voxels
    there = voxels_at(whole, read_affine, centres(image.shape, affine)).reshape(image.shape)
    assert np.isnan(there[:, :, 3]).all()
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert np.array_equal(there[:, :, kept], image[:, :, kept])


def test_a_pseudonym_tells_series_apart_and_holds_no_part_of_a_uid() -> None:
    uids = [f"1.2.840.20240131{n:03d}" for n in range(200)]
    names = {pseudonym(uid) for uid in uids}
    assert len(names) == len(uids)
    assert all(len(name) == 8 for name in names)
    assert pseudonym(uids[0]) == pseudonym(str(uids[0]))
