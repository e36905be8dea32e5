"""Masks that nothing but their values tells from images."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dim_monai.predict.mask_like import MOST_VALUES, reason_to_skip_file
from tests.predict.scans import blob, write_nifti
from tests.predict.test_cases import find, names, reasons

SUFFIXES = (".nii.gz", ".nii")


def save(path: Path, voxels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 5.0, 1.0])), path)
    return path


@pytest.fixture(params=SUFFIXES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "in" / f"outline{request.param}"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_of_any_name_and_type_is_skipped(file: Path, dtype: type, value: int) -> None:
    save(file, (blob() > 500).astype(dtype) * value)
    write_nifti(file.parent / "scan.nii.gz")
    found = find(file.parent)
    assert names(found) == ["scan.nii.gz"]
    assert reasons(found) == {file.name: f"values of a mask (0, {value})"}


def test_a_mask_that_is_packed_in_members_is_skipped(tmp_path: Path) -> None:
    """As bgzip does: the end of such a file is an empty member, which has no size."""
    plain = save(tmp_path / "plain.nii", (blob() > 500).astype(np.uint8)).read_bytes()
    file = tmp_path / "packed.nii.gz"
    file.write_bytes(b"".join(gzip.compress(part) for part in (plain[:999], plain[999:], b"")))
    assert reason_to_skip_file(file) == "values of a mask (0, 1)"


@pytest.mark.parametrize("count", [2, MOST_VALUES, MOST_VALUES + 1, 1000])
def test_the_number_of_values_decides(file: Path, count: int) -> None:
    """In order, so that they are packed well whatever their number."""
    values = np.arange(20 * 30 * 40, dtype=np.int32) * count // (20 * 30 * 40)
    save(file, values.reshape(20, 30, 40))
    assert (reason_to_skip_file(file) is not None) == (count <= MOST_VALUES)


def test_a_rare_value_that_a_sample_misses_counts(file: Path) -> None:
    voxels = np.zeros((64, 64, 64), np.int16)
    voxels.flat[1 : 1 + 2 * MOST_VALUES] = np.arange(2 * MOST_VALUES)
    assert reason_to_skip_file(save(file, voxels)) is None


@pytest.mark.parametrize(
    "voxels",
    [
        np.full((20, 20, 20), 7, np.int16),  # of one value: an image that went wrong
        (blob() > 500) * 0.5,  # a map of probabilities
        np.random.default_rng(0).integers(0, 2, (40, 40, 10)).astype(np.float32) * 0.3,
    ],
)
def test_what_is_not_clearly_a_mask_is_left_to_the_reader(file: Path, voxels: np.ndarray) -> None:
    assert reason_to_skip_file(save(file, voxels)) is None


@pytest.mark.parametrize("content", [b"", b"ab", b"\x1f\x8b no archive", bytes(400)])
def test_so_is_what_cannot_be_read(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    found = find(file.parent)
    assert names(found) == [file.name]


def test_a_mask_that_the_user_names_is_taken(file: Path) -> None:
    save(file, (blob() > 500).astype(np.uint8))
    assert names(find(file)) == [file.name]


def test_real_volumes_are_images_and_their_masks_are_not(test_data: Path) -> None:
    images = sorted(test_data.glob("prostate_t2/*/*_t2.nii.gz"))
    assert len(images) > 20
    for image in images:
        assert reason_to_skip_file(image) is None, image
        mask = image.with_name(image.name.replace("_t2", "_seg"))
        assert reason_to_skip_file(mask) is not None, mask
