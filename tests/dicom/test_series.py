"""Series on disk: what is written is read back in place, as an independent reader sees it."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from dim_monai.dicom.series import find_cases, read_headers, read_series
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.dicom_builder import (
    ORIENTATIONS,
    affine_of,
    centres,
    edit,
    numbered,
    real_data,
    voxels_at,
)

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_with_itk(folder):
    """Returns the series as SimpleITK reads it: voxels (X, Y, Z) and their RAS affine."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T.astype(np.float32), LPS @ affine


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_written_voxels_come_back_at_their_place_in_the_patient(tmp_path, orientation):
    array, affine = numbered(), affine_of(orientation)
    write_series(tmp_path / "s", array, affine, seed_uid="a")
    volume, affine_read, series = read_series(tmp_path / "s")
    assert volume.dtype == np.float32
    assert affine_read.dtype == np.float64
    assert series.modality == "MR"
    found = voxels_at(volume, affine_read, centres(array.shape, affine), 1e-6)
    np.testing.assert_array_equal(found, array.ravel())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_geometry_agrees_with_simpleitk(tmp_path, orientation):
    write_series(tmp_path / "s", numbered(), affine_of(orientation), seed_uid="a")
    volume, affine, _ = read_series(tmp_path / "s")
    volume_itk, affine_itk = read_with_itk(tmp_path / "s")
    found = voxels_at(volume_itk, affine_itk, centres(volume.shape, affine))
    np.testing.assert_array_equal(found, volume.ravel())


def test_writing_is_deterministic_and_seeds_give_different_series(tmp_path):
    def write(name, seed):
        paths = write_series(tmp_path / name, numbered(), affine_of("axial"), seed_uid=seed)
        return [path.read_bytes() for path in paths]

    first, again, other = write("a", "one"), write("b", "one"), write("c", "two")
    assert first == again
    assert not set(first) & set(other)
    uids = {h.series_uid for name in "abc" for h in read_headers(tmp_path / name)}
    assert len(uids) == 2


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_written_instances_are_whole_and_name_nobody(tmp_path, modality):
    paths = write_series(
        tmp_path / "s", numbered(), affine_of("axial"), modality=modality, seed_uid="a"
    )
    datasets = [pydicom.dcmread(path) for path in paths]
    assert len({ds.SOPInstanceUID for ds in datasets}) == len(paths) == 6
    for ds in datasets:
        assert ds.SOPClassUID.name == f"{modality} Image Storage"
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert ds.SOPInstanceUID.is_valid
        assert ds.file_meta.FileMetaInformationGroupLength > 0
        assert ds.file_meta.FileMetaInformationVersion == b"\x00\x01"
        assert ds.PatientName == ds.PatientID == "ANONYMOUS"
        assert ds.PatientBirthDate == ""
        assert ds.pixel_array.shape == (ds.Rows, ds.Columns) == (4, 5)


@pytest.mark.parametrize(
    ("array", "affine", "options"),
    [
        (numbered().astype(float) + 0.5, affine_of("axial"), {}),
        (np.full((2, 2, 2), 40000), affine_of("axial"), {}),
        (np.full((2, 2, 2), np.nan), affine_of("axial"), {}),
        (numbered()[:, :, :1], affine_of("axial"), {}),
        (numbered()[0], affine_of("axial"), {}),
        (numbered(), affine_of("axial")[:3], {}),
        (numbered(), affine_of("axial") * [1, 1, 0, 1], {}),
        (numbered(), affine_of("axial") + np.eye(4, k=1), {}),
        (numbered(), affine_of("axial"), {"modality": "PT"}),
    ],
)
def test_what_a_plain_series_cannot_hold_is_not_written(tmp_path, array, affine, options):
    with pytest.raises(ValueError, match=r"array|affine_ras|modality"):
        write_series(tmp_path / "s", array, affine, seed_uid="a", **options)
    assert not (tmp_path / "s").exists()


def test_nothing_is_written_into_a_folder_with_files(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_series(tmp_path, numbered(), affine_of("axial"), seed_uid="a")


def test_names_and_order_of_files_do_not_matter(tmp_path):
    array, affine = numbered(), affine_of("axial")
    paths = write_series(tmp_path / "s", array, affine, seed_uid="a")
    for path, name in zip(paths, ["f", "e.ima", "d.0", "c.dcm", "b", "a.DCM"], strict=True):
        path.rename(path.with_name(name))
    volume, affine_read, series = read_series(tmp_path / "s")
    np.testing.assert_array_equal(volume, array)
    np.testing.assert_allclose(affine_read, affine, atol=1e-9)
    assert [path.name for path in series.paths] == ["f", "e.ima", "d.0", "c.dcm", "b", "a.DCM"]


def test_slice_thickness_and_spacing_between_slices_are_not_trusted(tmp_path):
    affine = affine_of("coronal")
    for path in write_series(tmp_path / "s", numbered(), affine, seed_uid="a"):
        edit(path, lambda ds: ds.update({"SliceThickness": "9", "SpacingBetweenSlices": "7"}))
    _, affine_read, _ = read_series(tmp_path / "s")
    assert np.linalg.norm(affine_read[:3, 2]) == pytest.approx(3.0)


def test_rescaling_is_applied_slice_by_slice(tmp_path):
    array = numbered()
    paths = write_series(tmp_path / "s", array, affine_of("axial"), seed_uid="a")
    for k, path in enumerate(paths):
        rescale = {"RescaleSlope": str(k + 1), "RescaleIntercept": "-10.5"}
        edit(path, lambda ds, rescale=rescale: ds.update(rescale))
    volume, _, _ = read_series(tmp_path / "s")
    np.testing.assert_array_equal(volume, array * np.arange(1.0, 7.0) - 10.5)


def test_other_files_beside_the_series_are_ignored(tmp_path):
    array = numbered()
    write_series(tmp_path / "s", array, affine_of("axial"), seed_uid="a")
    (tmp_path / "s" / "notes.txt").write_text("mark")
    (tmp_path / "s" / "label.nii.gz").write_bytes(b"not DICOM")
    (tmp_path / "s" / "._slice_0001.dcm").write_bytes(b"what a file manager leaves")
    (tmp_path / "s" / "deeper").mkdir()
    directory = pydicom.dcmread(tmp_path / "s" / "slice_0001.dcm")
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(tmp_path / "s" / "DICOMDIR")
    assert len(read_headers(tmp_path / "s")) == 6
    np.testing.assert_array_equal(read_series(tmp_path / "s")[0], array)


def test_find_cases_lists_files_and_folders_and_leaves_masks_out(tmp_path):
    write_series(tmp_path / "b" / "t2", numbered(), affine_of("axial"), seed_uid="a")
    seg = write_series(tmp_path / "b" / "seg", numbered(), affine_of("axial"), seed_uid="b")[0]
    for path in seg.parent.iterdir():
        edit(path, lambda ds: setattr(ds.file_meta, "MediaStorageSOPClassUID", SEGMENTATION))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.dcm").write_bytes(b"")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.nii.gz").touch()
    names = ["a.nii", "c_T2.nii.gz", "c_seg.nii.gz", "d_label.nii", "e_LAB.nii.gz", "f.txt"]
    for name in names:
        (tmp_path / name).touch()
    cases = find_cases(tmp_path)
    assert [str(c.relative_to(tmp_path)) for c in cases] == [
        "a.nii",
        "b/t2",
        "broken",
        "c_T2.nii.gz",
    ]
    assert find_cases(tmp_path / "b" / "t2") == [tmp_path / "b" / "t2"]
    assert find_cases(tmp_path / "c_seg.nii.gz") == [tmp_path / "c_seg.nii.gz"]


@pytest.mark.parametrize(("target", "got"), [("series", "a folder"), ("gone", "nothing")])
def test_a_link_below_the_folder_is_refused_and_one_to_a_file_followed(tmp_path, target, got):
    paths = write_series(tmp_path / "series", numbered(), affine_of("axial"), seed_uid="a")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for path in paths:
        (tmp_path / "in" / "sub" / path.name).symlink_to(path)
    (tmp_path / "in" / ".hidden").symlink_to(tmp_path / "series")
    (tmp_path / "root").symlink_to(tmp_path / "in")
    assert len(find_cases(tmp_path / "root")) == 1
    (tmp_path / "in" / "late").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=f"in/late; got a link to {got}"):
        find_cases(tmp_path / "in")


def test_the_log_counts_the_masks_and_names_none_of_them(tmp_path, caplog):
    caplog.set_level("INFO", "dim_monai")
    for name in ("doe_john.nii.gz", "doe_john_seg.nii.gz", "sub/doe_john_LAB.nii", "x_seg.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    find_cases(tmp_path)
    (line,) = caplog.messages
    assert "2 NIfTI files" in line
    assert "_seg, _label, _lab" in line
    assert "doe" not in line
    find_cases(tmp_path / "doe_john.nii.gz")
    assert len(caplog.messages) == 1


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_headers(tmp_path / "absent")


@pytest.mark.parametrize("name", ["", "absent", "f.txt"])
def test_find_cases_without_a_case_is_an_error(tmp_path, name):
    (tmp_path / "f.txt").touch()
    with pytest.raises(DataError, match="case"):
        find_cases(tmp_path / name)


@pytest.mark.data
@pytest.mark.parametrize(
    "series",
    [
        ("dicom", "prostate3t_03_0001", "T2"),
        ("dicom", "prostatex_0000", "T2"),
        ("dicom", "qin_prostate_pcampmri_00001", "ADC"),
    ],
)
def test_real_series_agree_with_simpleitk(series):
    folder = real_data(*series)
    volume, affine, _ = read_series(folder)
    volume_itk, affine_itk = read_with_itk(folder)
    coarse = (slice(None, None, 16), slice(None, None, 16), slice(None))
    points = centres(volume.shape, affine).reshape(*volume.shape, 3)[coarse].reshape(-1, 3)
    found = voxels_at(volume_itk, affine_itk, points)
    np.testing.assert_array_equal(found, volume[coarse].ravel())


def test_a_folder_that_may_not_be_opened_is_not_passed_over(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "denied", path)

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(DataError, match=r"folder cannot be read.*PermissionError"):
        find_cases(tmp_path)


@pytest.mark.data
def test_real_volumes_are_cases_and_their_masks_are_not():
    cases = find_cases(real_data("prostate_t2"))
    assert len(cases) == 22 + 7
    assert all(case.name.endswith("_t2.nii.gz") for case in cases)


@pytest.mark.data
def test_the_real_series_with_a_missing_slice_is_refused_where_the_gap_is():
    with pytest.raises(DataError, match=r"about 1 slice\(s\) missing") as caught:
        read_series(real_data("dicom", "prostatex_0000_missing_slice"))
    assert "1-07.dcm" in str(caught.value.got)
    assert "1-05.dcm" in str(caught.value.got)
    assert "6.000 mm" in str(caught.value.got)


@pytest.mark.data
def test_real_dicom_seg_is_a_series_but_no_case():
    root = real_data("dicom", "qin_prostate_pcampmri_00001")
    assert [header.modality for header in read_headers(root / "seg")] == ["SEG"]
    assert find_cases(root) == [root / "ADC"]
    with pytest.raises(DataError, match="multi-frame"):
        read_series(root / "seg")
