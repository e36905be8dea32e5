"""DICOM SEG in: every pixel at its place in the patient, and what cannot be a label is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from dim_monai.dicom.geometry import prove_geometry
from dim_monai.dicom.origin import read_origin
from dim_monai.dicom.segmentation import is_segmentation, read_segments, referenced_series
from dim_monai.dicom.series import read_headers
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.data.prepare.trees import dicom_seg, series
from tests.dicom_builder import ORIENTATIONS, affine_of, centres, edit, voxels_at

SHAPE = (4, 5, 3)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_segment_lies_where_the_pixels_of_its_series_lie(tmp_path, name) -> None:
    """Paint a segment on the stored slices; compare in the patient with the volume it shows."""
    volume = np.random.default_rng(1).integers(0, 2, SHAPE).astype(np.int16)
    affine = affine_of(name)
    write_series(tmp_path / "s", volume, affine, seed_uid=name)
    frames = np.stack([pydicom.dcmread(p).pixel_array for p in sorted((tmp_path / "s").iterdir())])
    seg = dicom_seg(tmp_path / "seg.dcm", tmp_path / "s", {3: frames > 0})
    geometry = prove_geometry(read_headers(tmp_path / "s"))
    found = read_segments(seg, geometry)
    expected = voxels_at(volume, affine, centres(geometry.shape, geometry.affine_ras))
    np.testing.assert_array_equal(found.label.ravel(), 3 * expected)
    assert (found.meanings, found.overlap) == ({3: "Part 3"}, 0)


def made(tmp_path: Path, **changes: object) -> Path:
    series(tmp_path / "s", patient="A")
    return dicom_seg(tmp_path / "g.dcm", tmp_path / "s", {1: np.ones((3, 5, 4), bool)}, **changes)


def test_a_segmentation_names_its_series(tmp_path) -> None:
    path = made(tmp_path)
    instance = tmp_path / "s" / "slice_0001.dcm"
    assert is_segmentation(path)
    assert not is_segmentation(instance)
    assert referenced_series(path) == pydicom.dcmread(instance).SeriesInstanceUID


def test_numbers_above_255_are_kept(tmp_path) -> None:
    series(tmp_path / "s", patient="A")
    path = dicom_seg(tmp_path / "g.dcm", tmp_path / "s", {300: np.ones((3, 5, 4), bool)})
    label = read_segments(path, prove_geometry(read_headers(tmp_path / "s"))).label
    assert label.dtype == np.uint16
    assert (label == 300).all()


REFUSED = [
    (lambda d: setattr(d, "SegmentationType", "FRACTIONAL"), "got SegmentationType FRACTIONAL"),
    (
        lambda d: setattr(
            d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", [1, 1]
        ),
        "got pixels beside the voxels of its series",
    ),
    (
        lambda d: setattr(
            d.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0],
            "ImagePositionPatient",
            [0, 0, 500],
        ),
        "got pixels beside the voxels of its series",
    ),
    (
        lambda d: setattr(d.SegmentSequence[0], "SegmentNumber", 2),
        "cannot be read: .*got frames that fit no segment",
    ),
    (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "cannot be read: .*AttributeError"),
    (lambda d: setattr(d, "PixelData", d.PixelData[:2]), "cannot be read"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_a_label_is_refused(tmp_path, change, message) -> None:
    path = made(tmp_path)
    edit(path, change)
    with pytest.raises(DataError, match=message) as caught:
        read_segments(path, prove_geometry(read_headers(tmp_path / "s")))
    assert "typed by somebody" not in str(caught.value)


def test_a_segmentation_of_no_series_or_several_is_refused(tmp_path) -> None:
    path = made(tmp_path)
    edit(path, lambda d: d.ReferencedSeriesSequence.append(pydicom.Dataset()))
    edit(path, lambda d: setattr(d.ReferencedSeriesSequence[1], "SeriesInstanceUID", "1.2"))
    with pytest.raises(DataError, match=r"belongs to no single series: .*; got 2 referenced"):
        referenced_series(path)
    edit(path, lambda d: delattr(d, "ReferencedSeriesSequence"))
    with pytest.raises(DataError, match=r"belongs to no single series: .*; got 0 referenced"):
        referenced_series(path)


def test_the_origin_names_nobody(tmp_path) -> None:
    for patient in ("Jane Roe 17", "John Doe"):
        series(tmp_path / patient, patient=patient)
    one, two = (read_origin(tmp_path / p / "slice_0001.dcm") for p in ("Jane Roe 17", "John Doe"))
    again = read_origin(tmp_path / "John Doe" / "slice_0002.dcm")
    assert two == again
    assert one.patient != two.patient
    # By sha256sum of "Jane Roe 17".
    assert one.patient == "51bbce0043102f2e"
    assert one.scanner == "ACME-Inc-One-T"
    path = tmp_path / "John Doe" / "slice_0001.dcm"
    edit(path, lambda d: [setattr(d, k, "") for k in ("PatientID", "Manufacturer")])
    edit(path, lambda d: delattr(d, "ManufacturerModelName"))
    assert (read_origin(path).patient, read_origin(path).scanner) == (None, None)
