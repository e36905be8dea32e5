"""Masks of volumes: grids, orientations, DICOM series, and what the network does not see."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from dim_monai.data.reader import read_case
from tests.bundles.examples import PROSTATE
from tests.dicom_builder import affine_of, centres, voxels_at
from tests.e2e.segmenting import (
    ball,
    mask_of,
    middle,
    refusal,
    segment,
    threshold_bundle,
    write_volume,
)

VIEW_MM = 120.0  # 96 pixels of 1.25 mm: the network's field of view to the right and to the front

# path below the input folder: orientation, spacing in mm, shape. Odd and even sizes, thin and
# thick slices, views smaller and larger than the network's, and every way to store the axes.
CASES: dict[str, tuple[str, tuple[float, float, float], tuple[int, int, int]]] = {
    "plain.nii.gz": ("axial", (1.25, 1.25, 3.0), (96, 96, 20)),
    "odd.nii": ("axial_mirrored", (0.9, 1.1, 3.7), (91, 67, 15)),
    "deep/er/wide.nii.gz": ("axial_downwards", (1.6, 1.5, 3.0), (101, 113, 17)),
    "deep/er/permuted.nii.gz": ("sagittal", (3.0, 1.4, 2.9), (25, 59, 22)),
    "deep/coronal.nii.gz": ("coronal", (1.3, 2.8, 2.7), (63, 31, 24)),
    "deep/oblique.nii.gz": ("oblique_1", (1.2, 1.3, 2.5), (64, 57, 26)),
    "1.2.840.10008.77": ("axial", (0.75, 0.75, 4.0), (90, 85, 16)),
    "deep/series.v2": ("oblique_3", (1.1, 1.1, 3.0), (72, 70, 20)),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_bundle(tmp_path_factory.mktemp("bundle"), PROSTATE)


@pytest.fixture(scope="module")
def done(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All cases, segmented in one go."""
    images = tmp_path_factory.mktemp("images") / "in"
    for case, (orientation, spacing_mm, shape) in CASES.items():
        affine = affine_of(orientation, spacing_mm)
        write_volume(images / case, ball(shape, affine), affine)
    masks = images.parent / "out"
    segment(PROSTATE, bundle, images, masks)
    return SimpleNamespace(images=images, masks=masks)


def test_there_is_one_mask_for_each_case_at_its_place(done: SimpleNamespace) -> None:
    written = {p.relative_to(done.masks).as_posix() for p in done.masks.rglob("*") if p.is_file()}
    assert written == {mask_of(PROSTATE, case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_a_mask_has_the_grid_of_its_image(done: SimpleNamespace, case: str) -> None:
    mask = nib.load(done.masks / mask_of(PROSTATE, case))
    image, affine = read_case(done.images / case)
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, affine, atol=1e-4)
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) == {0, 1}


@pytest.mark.parametrize("case", CASES)
def test_resampling_forth_and_back_keeps_what_was_seen(done: SimpleNamespace, case: str) -> None:
    mask = np.asarray(nib.load(done.masks / mask_of(PROSTATE, case)).dataobj)
    image, _ = read_case(done.images / case)
    truth = image > 500
    # Interpolation may move the surface by a small part of a voxel; a ball of 42 mm that lies off
    # by half a pixel of 1.25 mm keeps a Dice of 0.98, by one slice of 3 mm one of 0.89.
    dice = 2 * (mask * truth).sum() / (mask.sum() + truth.sum())
    assert dice > 0.985


def test_a_mask_is_background_outside_of_what_the_network_sees(
    bundle: Path, tmp_path: Path
) -> None:
    shape, affine = (120, 110, 9), affine_of("axial", (1.5, 1.6, 4.0))
    image = ball(shape, affine)
    image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 1000  # a bright rim, 87 mm away
    write_volume(tmp_path / "in" / "case.nii.gz", image, affine)
    segment(PROSTATE, bundle, tmp_path / "in", tmp_path / "out")
    mask = np.asarray(nib.load(tmp_path / "out" / "case_seg.nii.gz").dataobj)
    offset_mm = np.abs(centres(shape, affine) - middle(shape, affine)).reshape(*shape, 3)
    outside = (offset_mm[..., :2] > VIEW_MM / 2 + 1.25).any(axis=-1)
    assert outside[:4].all()
    assert not mask[outside].any()
    assert (mask[~outside] == (image > 500)[~outside]).mean() > 0.99


@pytest.mark.parametrize("orientation", ["axial", "axial_mirrored", "oblique_2"])
def test_a_series_and_its_conversion_get_the_same_mask_in_the_patient(
    bundle: Path, tmp_path: Path, orientation: str
) -> None:
    affine = affine_of(orientation, (0.8, 0.8, 3.5))
    rng = np.random.default_rng(0)
    image = ball((80, 76, 14), affine) + rng.integers(-300, 300, (80, 76, 14)).astype(np.int16)
    write_volume(tmp_path / "in" / "series", image, affine)
    compare_with_conversion(bundle, tmp_path / "in" / "series", tmp_path)


@pytest.mark.data
def test_a_real_series_and_its_conversion_get_the_same_mask(
    bundle: Path, tmp_path: Path, test_data: Path
) -> None:
    compare_with_conversion(bundle, test_data / "dicom" / "prostate3t_03_0001" / "T2", tmp_path)


def compare_with_conversion(bundle: Path, series: Path, tmp_path: Path) -> None:
    """Segment a series and a NIfTI file of it, whose axes another converter stored otherwise."""
    volume, affine = read_case(series)
    stored = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    nib.save(stored, tmp_path / "converted.nii.gz")
    segment(PROSTATE, bundle, series, tmp_path / "out")
    segment(PROSTATE, bundle, tmp_path / "converted.nii.gz", tmp_path / "out")
    mask, other = (
        nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in (series.name, "converted")
    )
    assert other.shape == stored.shape
    there = voxels_at(np.asarray(other.dataobj), other.affine, centres(mask.shape, mask.affine))
    here = np.asarray(mask.dataobj).ravel()
    assert 0.01 < here.mean() < 0.99
    # The affine of a NIfTI file is float32: a voxel whose two probabilities are equal to the sixth
    # digit may tip over.
    assert (here != there).mean() < 1e-4


def test_a_missing_slice_is_named(bundle: Path, done: SimpleNamespace, tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    shutil.copy(done.images / "plain.nii.gz", images / "a.nii.gz")
    shutil.copytree(done.images / "deep" / "series.v2", images / "m")
    sorted((images / "m").iterdir())[7].unlink()
    error = refusal(PROSTATE, bundle, images, tmp_path / "out")
    assert str(images / "m") in str(error)
    assert "missing" in str(error)


@pytest.mark.data
def test_a_real_series_with_a_missing_slice_is_named(
    bundle: Path, tmp_path: Path, test_data: Path
) -> None:
    series = test_data / "dicom" / "prostatex_0000_missing_slice"
    error = refusal(PROSTATE, bundle, series, tmp_path / "out")
    assert str(series) in str(error)
    assert "missing" in str(error)
