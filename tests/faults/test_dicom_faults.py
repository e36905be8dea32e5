"""Bad cases: each is refused with its file and what to do, also through MONAI's loader."""

from __future__ import annotations

import gzip
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImaged
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from dim_monai.data.reader import CaseReader, read_case
from dim_monai.dicom.series import read_series
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.dicom_builder import affine_of, edit, numbered

PATIENT = "Doe^Jane"

# MONAI's loader constructs all its readers first, and this one misses its optional library.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


@pytest.fixture
def series(tmp_path):
    """Returns the folder of a good series of six slices that names a patient."""
    for path in write_series(tmp_path / "t2", numbered(), affine_of("axial"), seed_uid="a"):
        edit(path, lambda ds: ds.update({"PatientName": PATIENT, "SeriesDescription": PATIENT}))
    read_series(tmp_path / "t2")
    return tmp_path / "t2"


def nth(folder, n):
    return sorted(folder.iterdir())[n]


def tag(keyword, value):
    """Returns a fault that sets one tag of the third slice."""
    return lambda folder: edit(nth(folder, 2), lambda ds: ds.update({keyword: value}))


def without(keyword, n=2):
    return lambda folder: edit(nth(folder, n), lambda ds: ds.pop(keyword))


def remove(*numbers):
    def fault(folder):
        for path in [nth(folder, n) for n in numbers]:
            path.unlink()

    return fault


def truncate(share):
    def fault(folder):
        raw = nth(folder, 2).read_bytes()
        nth(folder, 2).write_bytes(raw[: int(len(raw) * share)])

    return fault


def add_series(folder):
    for path in write_series(folder.parent / "o", numbered(), affine_of("axial"), seed_uid="o"):
        edit(path, lambda ds: ds.update({"PatientName": PATIENT, "SeriesDescription": PATIENT}))
        shutil.move(path, folder / f"other_{path.name}")


def add_localizer(folder):
    path = write_series(folder.parent / "o", numbered(), affine_of("sagittal"), seed_uid="o")[0]
    uid = pydicom.dcmread(nth(folder, 0)).SeriesInstanceUID
    edit(path, lambda ds: ds.update({"SeriesInstanceUID": uid}))
    shutil.move(path, folder / "a_localizer.dcm")


def empty_tail(folder):
    last = nth(folder, 5)
    last.unlink()
    last.with_suffix("").write_bytes(b"")


def float_text(folder):
    """Writes letters where the file has the digits of PixelSpacing."""
    path = nth(folder, 2)
    raw = path.read_bytes()
    start = raw.index(b"\x28\x00\x30\x00DS") + 8
    path.write_bytes(raw[:start] + b"wide" + raw[start + 4 :])


def not_deflated(folder):
    """Calls the plain bytes of a slice deflated."""
    raw = nth(folder, 2).read_bytes()
    plain, deflated = b"1.2.840.10008.1.2.1\x00\x02", b"1.2.840.10008.1.2.1.99\x02"
    length = b"\x02\x00\x10\x00UI"
    start = raw.index(length) + len(length)
    raw = raw[:start] + bytes([22, 0]) + raw[start + 2 :]
    nth(folder, 2).write_bytes(raw.replace(plain, deflated, 1))


def stored_as(syntax, content):
    """Returns a fault that calls some bytes the pixels of the third slice, as ``syntax``."""

    def change(ds):
        ds.PixelData = encapsulate([content])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax

    return lambda folder: edit(nth(folder, 2), change)


def nan_pixels(folder):
    def change(ds):
        pixels = np.zeros((ds.Rows, ds.Columns), "<f4")
        pixels[1, 2] = np.nan
        del ds.PixelData
        ds.BitsAllocated = 32
        ds.FloatPixelData = pixels.tobytes()

    edit(nth(folder, 2), change)


DICOM_FAULTS = {
    "missing_slices": (remove(2, 3), r"about 2 slice\(s\) missing", "t2"),
    "only_one_left": (remove(1, 2, 3, 4, 5), "single slice", "slice_0001.dcm"),
    "none_left": (remove(0, 1, 2, 3, 4, 5), "no DICOM series", "t2"),
    "copied_slice": (
        lambda folder: shutil.copy(nth(folder, 2), folder / "z.dcm"),
        r"slice_0003\.dcm and z\.dcm",
        "t2",
    ),
    "second_series": (add_series, "several DICOM series", "t2"),
    "localizer": (add_localizer, "differ in ImageOrientationPatient", "a_localizer.dcm"),
    "junk_dcm": (
        lambda folder: (folder / "junk.dcm").write_bytes(b"junk" * 100),
        "no DICOM mark",
        "junk.dcm",
    ),
    "empty_dcm": (lambda f: (f / "junk.dcm").write_bytes(b""), "no DICOM mark", "junk.dcm"),
    "empty_tail": (empty_tail, "an empty file", "slice_0006"),
    "junk_after_mark": (
        lambda folder: (folder / "junk").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50),
        "cannot be read",
        "junk",
    ),
    "not_deflated": (not_deflated, "cannot be read", "slice_0003.dcm"),
    "nan_pixels": (nan_pixels, "1 pixels that are not finite", "slice_0003.dcm"),
    "truncated_pixels": (truncate(0.99), "pixel", "slice_0003.dcm"),
    "truncated_header": (truncate(0.5), None, "slice_0003.dcm"),
    "truncated_file_header": (truncate(0.12), None, "slice_0003.dcm"),
    "no_position": (without("ImagePositionPatient"), "no ImagePosition", "slice_0003.dcm"),
    "no_orientation": (without("ImageOrientationPatient"), "no ImageOr", "slice_0003.dcm"),
    "no_spacing": (without("PixelSpacing"), "no PixelSpacing", "slice_0003.dcm"),
    "no_series_uid": (without("SeriesInstanceUID"), "no SeriesInstanceUID", "slice_0003.dcm"),
    "no_pixels": (without("PixelData"), "pixel data cannot be decoded", "slice_0003.dcm"),
    "jpeg_lossless": (
        stored_as(JPEGLosslessSV1, b"no plugin takes this"),
        r"First-Order Prediction .*; for more compressions pip install 'dim-monai\[compressed\]'",
        "slice_0003.dcm",
    ),
    "nan_position": (
        tag("ImagePositionPatient", [float("nan"), 0.0, 0.0]),
        "ImagePositionPatient",
        "slice_0003.dcm",
    ),
    "letters_for_spacing": (float_text, "PixelSpacing", "slice_0003.dcm"),
    "other_size": (tag("Rows", 3), "differ in Rows", "slice_0003.dcm"),
    "other_spacing": (tag("PixelSpacing", [1, 1]), "differ in PixelSpacing", "slice_0003.dcm"),
    "multi_frame": (tag("NumberOfFrames", 3), "multi-frame", "slice_0003.dcm"),
    "monochrome1": (
        tag("PhotometricInterpretation", "MONOCHROME1"),
        "MONOCHROME1",
        "slice_0003.dcm",
    ),
    "colour": (tag("SamplesPerPixel", 3), "SamplesPerPixel 3", "slice_0003.dcm"),
    "slope_only": (tag("RescaleSlope", 2.0), "rescaling", "slice_0003.dcm"),
    "two_slopes": (
        lambda folder: edit(
            nth(folder, 2), lambda ds: ds.update({"RescaleSlope": [1, 2], "RescaleIntercept": 0})
        ),
        "rescaling",
        "slice_0003.dcm",
    ),
    "zero_slope": (
        lambda folder: edit(
            nth(folder, 2), lambda ds: ds.update({"RescaleSlope": 0, "RescaleIntercept": 0})
        ),
        "rescaling",
        "slice_0003.dcm",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", DICOM_FAULTS)
def test_a_bad_series_is_refused_by_name_and_names_nobody(series, name):
    fault, message, file = DICOM_FAULTS[name]
    fault(series)
    with pytest.raises(DataError, match=message) as caught:
        read_series(series)
    assert caught.value.file.endswith(file)
    assert caught.value.do
    assert "Doe" not in str(caught.value)


def test_a_transfer_syntax_of_nobody_is_not_repeated(series):
    stored_as("1.2.3.19570921", b"Doe")(series)
    with pytest.raises(DataError, match="unknown transfer syntax") as caught:
        read_series(series)
    assert "19570921" not in str(caught.value)


def test_plain_pixels_are_not_told_to_be_decompressed(series):
    without("PixelData")(series)
    with pytest.raises(DataError, match="Explicit VR Little Endian") as caught:
        read_series(series)
    assert "pip" not in str(caught.value)


def test_several_series_are_listed_by_modality_count_and_end_of_uid(series):
    add_series(series)
    with pytest.raises(DataError, match=r"MR \.\.\.\d{8} \(6 files\), MR \.\.\.\d{8} \(6 files\)"):
        read_series(series)


@pytest.mark.parametrize("name", ["missing_slices", "second_series", "junk_dcm", "multi_frame"])
@pytest.mark.parametrize("reader", [CaseReader(), "dim_monai.data.reader.CaseReader"])
def test_monai_does_not_turn_to_another_reader(series, name, reader):
    DICOM_FAULTS[name][0](series)
    with pytest.raises(DataError, match=DICOM_FAULTS[name][1]):
        LoadImaged("image", reader=reader)({"image": series})


@pytest.fixture
def nifti(tmp_path):
    """Returns a good image whose forms are both set."""
    image = nib.Nifti1Image(numbered((12, 12, 12)), affine_of("axial"))
    image.set_qform(affine_of("axial"), 1)
    nib.save(image, tmp_path / "x.nii.gz")
    read_case(tmp_path / "x.nii.gz")
    return tmp_path / "x.nii.gz"


def rewrite(path, array=None, affine=None, change=lambda header: None):
    """Saves another image at `path`: other voxels, another affine or an edited header."""
    array = numbered() if array is None else array
    image = nib.Nifti1Image(array, affine_of("axial") if affine is None else affine)
    image.set_qform(image.affine if affine is None else None, 1 if affine is None else 0)
    change(image.header)
    nib.save(image, path)


def patch(offset, value):
    """Returns a fault that overwrites header bytes, as a buggy converter would leave them."""

    def fault(path):
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[offset : offset + len(value)] = value
        path.write_bytes(gzip.compress(bytes(raw)))

    return fault


def with_nan(path):
    array = np.zeros((3, 3, 3), np.float32)
    array[0, 1, 2], array[2, 2, 2] = np.nan, np.inf
    rewrite(path, array)


def flip_stored_byte(path):
    """Flips a byte of voxels in a stream that is not compressed: only the checksum can tell."""
    raw = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    raw[-40] ^= 1
    path.write_bytes(bytes(raw))


def float32(*values):
    return np.array(values, "<f4").tobytes()


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


QFORM_CODE, SFORM_CODE, QUATERNION, SROW_X, XYZT_UNITS = 252, 254, 256, 280, 123

NIFTI_FAULTS = {
    "missing": (lambda path: path.unlink(), "nothing at this path"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "truncated": (cut(0.6), "cannot be read"),
    "checksum_cut_off": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "cannot be read"),
    "flipped_byte": (flip_stored_byte, "cannot be read"),
    "not_gzip": (lambda path: path.write_bytes(b"junk" * 200), "cannot be read"),
    "not_nifti": (lambda path: path.write_bytes(gzip.compress(b"junk" * 200)), "no NIfTI header"),
    "too_few_voxels": (
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-50])),
        "cannot be read",
    ),
    "not_finite": (with_nan, r"2 of 27, the first at index \(0, 1, 2\)"),
    "too_large": (lambda p: rewrite(p, np.full((2, 2, 2), 1e300)), "not finite"),
    "several_volumes": (lambda p: rewrite(p, np.zeros((3, 3, 3, 2), np.int16)), "wrong shape"),
    "flat": (lambda path: rewrite(path, np.zeros((3, 3), np.int16)), "wrong shape"),
    "complex": (lambda path: rewrite(path, np.zeros((2, 2, 2), np.complex64)), "plain voxels"),
    "no_form": (patch(QFORM_CODE, bytes(4)), "no geometry"),
    "nan_sform": (patch(SROW_X, float32(np.nan)), "unusable sform"),
    "zero_sform": (patch(SROW_X, bytes(48)), "unusable sform"),
    "flat_sform": (patch(SROW_X, float32(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)), "unusable sform"),
    "impossible_qform": (patch(QUATERNION, float32(2, 2, 2)), "unusable qform"),
    "impossible_lone_qform": (
        lambda path: [patch(SFORM_CODE, bytes(2))(path), patch(QUATERNION, float32(2, 2, 2))(path)],
        "cannot be read",
    ),
    "forms_disagree": (patch(SROW_X + 12, float32(99)), "qform and sform contradict"),
    "metres": (patch(XYZT_UNITS, b"\x01"), "got meter"),
}


@pytest.mark.parametrize("name", NIFTI_FAULTS)
def test_a_bad_nifti_is_refused_by_name(nifti, name):
    fault, message = NIFTI_FAULTS[name]
    fault(nifti)
    with pytest.raises(DataError, match=message) as caught:
        read_case(nifti)
    assert caught.value.file == str(nifti)
    assert caught.value.do


@pytest.mark.parametrize("name", ["missing", "truncated", "not_finite", "forms_disagree"])
def test_monai_loader_passes_the_refusal_of_a_nifti_on(nifti, name):
    NIFTI_FAULTS[name][0](nifti)
    with pytest.raises(DataError, match=NIFTI_FAULTS[name][1]):
        LoadImaged("image", reader=CaseReader())({"image": nifti})


def test_a_single_dicom_file_is_not_a_case(series):
    with pytest.raises(DataError, match="give the folder"):
        read_case(nth(series, 0))
