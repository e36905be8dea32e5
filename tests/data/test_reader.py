"""The reader of cases: exact voxels, exact places, and MONAI's own transforms on top of it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    Invertd,
    LoadImage,
    LoadImaged,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
)

from dim_monai.data.photograph import write_mask
from dim_monai.data.reader import FORM_TOLERANCE, CaseReader, read_case
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests import photograph_builder
from tests.dicom_builder import (
    ORIENTATIONS,
    affine_of,
    centres,
    numbered,
    real_data,
    voxels_at,
)
from tests.photograph_builder import scene

# MONAI's loader constructs all its readers first, and this one misses its optional library.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


def save(path, array, affine, sform=1, qform=1):
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_voxels_and_affine_come_back_exactly(tmp_path, dtype, suffix):
    array = np.abs(numbered()).astype(dtype)
    path = save(tmp_path / f"x{suffix}", array, affine_of("oblique_0"))
    volume, affine = read_case(path)
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(volume, array)
    np.testing.assert_allclose(affine, affine_of("oblique_0"), atol=1e-5)


def test_nifti_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(numbered(), affine_of("axial"))
    image.header.set_slope_inter(0.5, 3.0)
    nib.save(image, tmp_path / "x.nii")
    stored = np.frombuffer((tmp_path / "x.nii").read_bytes()[352:], "<i2")
    volume, _ = read_case(tmp_path / "x.nii")
    np.testing.assert_allclose(volume.ravel(order="F"), stored * 0.5 + 3.0)


def test_nifti2_is_read(tmp_path):
    nib.save(nib.Nifti2Image(numbered(), affine_of("axial")), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_case(tmp_path / "x.nii.gz")[0], numbered())


def test_one_form_is_enough_and_singleton_axes_are_dropped(tmp_path):
    array, affine = numbered(), affine_of("sagittal")
    for name, sform, qform in [("s.nii", 2, 0), ("q.nii", 0, 1)]:
        volume, found = read_case(
            save(tmp_path / name, array[..., None, None], affine, sform, qform)
        )
        assert volume.shape == array.shape
        np.testing.assert_allclose(found, affine, atol=1e-5)


@pytest.mark.parametrize("share", [0.8, 1.2])
def test_form_tolerance_is_where_refusal_starts(tmp_path, share):
    affine = affine_of("axial")
    image = nib.Nifti1Image(numbered(), affine)
    image.set_sform(affine, 1)
    shifted = affine.copy()
    shifted[2, 3] += share * FORM_TOLERANCE * 0.5  # the smallest edge is 0.5 mm
    image.set_qform(shifted, 1)
    nib.save(image, tmp_path / "x.nii")
    if share < 1:
        np.testing.assert_allclose(read_case(tmp_path / "x.nii")[1], affine, atol=1e-5)
    else:
        with pytest.raises(DataError, match=r"qform and sform contradict.*x\.nii.*0\.300 mm"):
            read_case(tmp_path / "x.nii")


TWIN_SHAPE = (8, 7, 6)


@pytest.fixture(params=ORIENTATIONS)
def twin_affine(request):
    return affine_of(request.param, spacing_mm=(0.5, 0.75, 1.5))


@pytest.fixture
def twins(twin_affine, tmp_path):
    """Returns a DICOM series and a NIfTI of the same voxels at the same places."""
    write_series(tmp_path / "series", numbered(TWIN_SHAPE), twin_affine, seed_uid="twins")
    save(tmp_path / "twin.nii.gz", numbered(TWIN_SHAPE), twin_affine)
    return {"dicom": tmp_path / "series", "nifti": tmp_path / "twin.nii.gz"}


def test_a_series_and_its_nifti_are_the_same_image_in_the_patient(twins):
    (a, affine_a), (b, affine_b) = read_case(twins["dicom"]), read_case(twins["nifti"])
    np.testing.assert_array_equal(voxels_at(b, affine_b, centres(a.shape, affine_a)), a.ravel())


def test_monai_orients_resamples_and_inverts_both_to_the_same_place(twins, twin_affine):
    keys = ["dicom", "nifti"]
    load = LoadImaged(keys, reader="dim_monai.data.reader.CaseReader", ensure_channel_first=True)
    orient = Orientationd(keys, axcodes="RAS", labels=None)
    loaded = load(twins)
    oriented = orient(loaded)
    torch.testing.assert_close(
        oriented["dicom"].as_tensor(), oriented["nifti"].as_tensor(), rtol=0, atol=0
    )
    np.testing.assert_allclose(oriented["dicom"].affine, oriented["nifti"].affine, atol=1e-5)

    forward = Compose([orient, Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode="bilinear")])
    resampled = forward(loaded)
    for key in keys:
        # Where MONAI puts the grid of an oblique image hangs on the last digit of the affine. The
        # numbered volume grows linearly, so that linear interpolation is exact on any grid.
        values, affine = resampled[key][0].numpy(), resampled[key].affine.numpy()
        source = centres(values.shape, np.linalg.inv(twin_affine) @ affine)
        inside = ((source >= 0) & (source <= np.subtract(TWIN_SHAPE, 1))).all(axis=1)
        assert inside.sum() > 20
        expected = source @ [42.0, 6.0, 1.0] - 20.0
        np.testing.assert_allclose(values.ravel()[inside], expected[inside], atol=0.01)

    back = Invertd(keys, forward, orig_keys=keys, nearest_interp=False)(resampled)
    for key in keys:
        assert back[key].shape == loaded[key].shape
        np.testing.assert_allclose(back[key].affine, loaded[key].affine, atol=1e-4)


def test_metadata_is_what_monai_needs(tmp_path):
    path = save(tmp_path / "x.nii.gz", numbered(), affine_of("axial"))
    loaded = LoadImaged("image", reader=CaseReader(), ensure_channel_first=True)({"image": path})
    image = loaded["image"]
    assert image.shape == (1, 5, 4, 6)
    assert image.meta["filename_or_obj"] == str(path)
    assert image.meta["space"] == "RAS"
    np.testing.assert_array_equal(image.meta["spatial_shape"], (5, 4, 6))
    np.testing.assert_allclose(image.affine, affine_of("axial"), atol=1e-5)
    np.testing.assert_allclose(image.meta["original_affine"], affine_of("axial"), atol=1e-5)


@pytest.mark.parametrize("orientation", [1, 6])
def test_monai_loads_a_photograph_and_its_mask_upright(tmp_path, orientation):
    eye = photograph_builder.save(tmp_path / "eye.png", scene(), orientation)
    write_mask(tmp_path / "mask.png", scene()[..., 1], orientation)
    load = Compose(
        [
            LoadImaged("image", reader=CaseReader(), ensure_channel_first=True),
            LoadImaged("label", reader=CaseReader(mask=True), ensure_channel_first=True),
        ]
    )
    item = load({"image": str(eye), "label": str(tmp_path / "mask.png")})
    assert {value.dtype for value in item.values()} == {torch.float32}
    np.testing.assert_array_equal(item["image"], scene().transpose(2, 0, 1))
    np.testing.assert_array_equal(item["label"], scene()[None, ..., 1])
    for value in item.values():
        torch.testing.assert_close(value.affine, torch.eye(4, dtype=torch.float64))
        assert tuple(value.meta["spatial_shape"]) == (13, 7)


def test_a_photograph_stays_uint8_where_that_is_asked_for(tmp_path):
    eye = photograph_builder.save(tmp_path / "eye.jpg", scene())
    image = LoadImage(reader=CaseReader(), ensure_channel_first=True, dtype=np.uint8)(eye)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 13, 7)


def test_a_refused_photograph_is_not_read_by_another_reader(tmp_path):
    """MONAI's own reader would take it, lying on its side."""
    photograph_builder.save(tmp_path / "eye.png", scene()[..., 0], 6)
    with pytest.raises(DataError, match="mode L"):
        LoadImage(reader=CaseReader())(tmp_path / "eye.png")


@pytest.mark.parametrize("orientation", [1, 6])
def test_monai_resizes_pads_and_brings_a_photograph_back(tmp_path, orientation):
    smooth = np.add.outer(np.arange(90), 2 * np.arange(60)).astype(np.uint8)[..., None]
    upright = np.repeat(smooth, 3, axis=2)
    path = photograph_builder.save(tmp_path / "eye.png", upright, orientation)
    there = Compose(
        [
            LoadImaged("image", reader=CaseReader(), ensure_channel_first=True),
            Resized("image", spatial_size=60, size_mode="longest", mode="bilinear"),
            ResizeWithPadOrCropd("image", spatial_size=(64, 64)),
        ]
    )
    item = there({"image": str(path)})
    assert item["image"].shape == (3, 64, 64)
    item["pred"] = item["image"].clone()
    back = Invertd("pred", transform=there, orig_keys="image", nearest_interp=False)(item)["pred"]
    assert back.meta["filename_or_obj"] == str(path)
    inside = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(back[0][inside], upright[..., 0][inside], atol=1.5)


def test_reader_says_what_it_reads(tmp_path):
    reader = CaseReader()
    assert reader.verify_suffix("a.nii")
    assert reader.verify_suffix(["a.nii.gz", tmp_path])
    assert not reader.verify_suffix(["a.nii.gz", "a.dcm"])
    with pytest.raises(TypeError, match="mmap"):
        reader.read("a.nii", mmap=False)
    with pytest.raises(DataError, match="one case is one path"):
        reader.get_data(reader.read(["a.nii", "b.nii"]))


@pytest.mark.data
def test_a_real_label_lies_on_the_grid_of_its_series():
    volume, affine = read_case(real_data("dicom", "prostate3t_03_0001", "T2"))
    label, label_affine = read_case(real_data("dicom", "prostate3t_03_0001", "seg_1pz_2cg.nii.gz"))
    assert set(np.unique(label)) == {0, 1, 2}
    inside = np.argwhere(label > 0)
    points = inside @ label_affine[:3, :3].T + label_affine[:3, 3]
    # Each labelled voxel is a voxel of the image, and T2 tissue is not black.
    assert voxels_at(volume, affine, points).mean() > volume.mean()


@pytest.mark.data
def test_a_real_series_agrees_with_the_cropped_nifti_of_the_same_patient():
    volume, affine = read_case(real_data("dicom", "prostate3t_03_0001", "T2"))
    crop, crop_affine = read_case(real_data("prostate_t2", "rumc_384", "Case34_t2.nii.gz"))
    assert crop.shape == (240, 240, 19)
    points = centres(crop.shape, crop_affine)
    np.testing.assert_array_equal(voxels_at(volume, affine, points), crop.ravel())
