"""Two kinds of case: what is found in a folder, what it is called, and what it reads as."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dim_monai.data.kinds import KINDS, PHOTOGRAPH, VOLUME, find_photographs, get_kind
from dim_monai.data.photograph import write_mask
from dim_monai.errors import ConfigError, DataError
from tests.photograph_builder import save, scene


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_photographs_are_found_below_a_folder_and_masks_are_not(tmp_path, caplog) -> None:
    cases = ["a/eye.JPG", "a/eye2.png", "b/c/eye.tiff", "z.jpeg"]
    others = ["a/eye_seg.png", "b/eye_MASK.tif", "x_label.png", "x_lab.png"]
    hidden = [".thumbs/eye.jpg", "a/._eye.jpg", "notes.txt", "volume.nii.gz"]
    tree(tmp_path, *cases, *others, *hidden)
    with caplog.at_level(logging.INFO):
        assert find_photographs(tmp_path) == sorted(tmp_path / name for name in cases)
    assert "4 images named as masks are no cases" in caplog.text


def test_a_photograph_is_a_case_of_its_own_whatever_it_is_called(tmp_path) -> None:
    tree(tmp_path, "eye_seg.png")
    assert find_photographs(tmp_path / "eye_seg.png") == [tmp_path / "eye_seg.png"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("set", "no case found"),
        ("set/notes.txt", "another kind of file"),
        ("missing", "nothing at this path"),
    ],
)
def test_where_there_is_no_photograph_it_is_said(tmp_path, given, message) -> None:
    tree(tmp_path, "set/eye_seg.png", "set/notes.txt")
    with pytest.raises(DataError, match=message) as error:
        find_photographs(tmp_path / given)
    assert error.value.file == str(tmp_path / given)


def test_a_link_is_not_passed_over(tmp_path) -> None:
    tree(tmp_path, "set/eye.png")
    (tmp_path / "set" / "more").symlink_to(tmp_path)
    with pytest.raises(DataError, match="link"):
        find_photographs(tmp_path / "set")


@pytest.mark.parametrize(
    ("path", "volume", "photograph"),
    [
        ("a/eye.jpg", "eye.jpg", "eye"),
        ("a/eye.v2.PNG", "eye.v2.PNG", "eye.v2"),
        ("a/scan.nii.gz", "scan", "scan.nii.gz"),
        ("a/1.2.840", "1.2.840", "1.2.840"),
    ],
)
def test_a_case_is_named_after_its_file(path, volume, photograph) -> None:
    assert VOLUME.case_name(path) == volume
    assert PHOTOGRAPH.case_name(path) == photograph


@pytest.mark.parametrize(
    ("name", "volume", "photograph"),
    [
        ("x.nii", True, False),
        ("x.NII.GZ", True, False),
        ("x.png", False, True),
        ("x.TIF", False, True),
        ("x.jpg", False, False),
        (".x.png", False, False),
        ("x.dcm", False, False),
    ],
)
def test_what_can_hold_a_label_is_known_by_its_name(name, volume, photograph) -> None:
    assert (VOLUME.is_label(Path(name)), PHOTOGRAPH.is_label(Path(name))) == (volume, photograph)


def test_a_photograph_reads_as_floats_in_pixels(tmp_path) -> None:
    eye = save(tmp_path / "eye.png", scene(), 6)
    image, affine = PHOTOGRAPH.read_image(eye)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, scene())
    np.testing.assert_array_equal(affine, np.eye(4))
    write_mask(tmp_path / "mask.png", scene()[..., 0], 6)
    mask, affine = PHOTOGRAPH.read_label(tmp_path / "mask.png")
    np.testing.assert_array_equal(mask, scene()[..., 0])
    np.testing.assert_array_equal(affine, np.eye(4))


def test_a_volume_and_its_label_read_alike(tmp_path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(array, np.diag([0.5, 0.5, 3.0, 1.0])), tmp_path / "x.nii.gz")
    for read in (VOLUME.read_image, VOLUME.read_label):
        voxels, affine = read(tmp_path / "x.nii.gz")
        np.testing.assert_array_equal(voxels, array)
        np.testing.assert_array_equal(affine, np.diag([0.5, 0.5, 3.0, 1.0]))


def test_kinds_are_got_by_name() -> None:
    assert [get_kind(name) for name in KINDS] == [VOLUME, PHOTOGRAPH]
    assert [kind.unit for kind in KINDS.values()] == ["mm", "px"]
    with pytest.raises(ConfigError, match="did you mean 'photograph'"):
        get_kind("photographs")
