"""A DICOM SEG says the same as its mask: read by highdicom, by hand, and as a label.

The hand-made reading uses nothing of this package: the equation of DICOM PS3.3, C.7.6.2.1.1, from
header values to millimetres, and back into the NIfTI mask.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from dim_monai.cli.shared import EXIT_CODES
from dim_monai.dicom.geometry import prove_geometry
from dim_monai.dicom.segmentation import read_segments, referenced_series
from dim_monai.dicom.series import read_headers
from dim_monai.errors import ConfigError, DataError
from dim_monai.predict.dicom_seg import SegmentationMaker
from dim_monai.predict.measure import Structure
from dim_monai.predict.series import VolumeSeries, prove_series
from tests.dicom_builder import ORIENTATIONS, edit
from tests.predict.scans import SECRETS, SHAPE, run, shuffle_names, write_scan

hd: Any = pytest.importorskip("highdicom", reason="highdicom wants pydicom 3")

ZONES = (
    Structure("peripheral_zone", (1,), ("279706003", "SCT", "Peripheral zone of the prostate")),
    Structure("rest", (2,), ("rest", "99TEST", "What is left")),
    Structure("whole", (1, 2), ("41216001", "SCT", "Prostate")),
)


def maker(structures: tuple[Structure, ...] = ZONES) -> SegmentationMaker:
    return SegmentationMaker(structures, "dim_prostate", "0.1.0", "ab" * 32)


def points_mm(dataset: pydicom.Dataset, number: int) -> np.ndarray:
    """The places in LPS mm of all pixels of one segment, by the equation of the standard."""
    frames = np.atleast_3d(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    between_rows, between_columns = (float(mm) for mm in measures.PixelSpacing)
    cosines = [float(x) for x in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    found = []
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identified = group if "SegmentIdentificationSequence" in group else shared
        if identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            corner = [float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient]
            rows, columns = np.nonzero(frame)
            found += [
                np.array(corner)
                + np.array(cosines[:3]) * between_columns * column
                + np.array(cosines[3:]) * between_rows * row
                for row, column in zip(rows, columns, strict=True)
            ]
    return np.array(found).reshape(-1, 3)


def in_voxels(points_lps: np.ndarray, affine_ras: np.ndarray) -> set[tuple[int, ...]]:
    ras = points_lps * [-1, -1, 1]
    index = np.linalg.solve(affine_ras[:3, :3], (ras - affine_ras[:3, 3]).T).T
    assert np.abs(index - np.rint(index)).max(initial=0) < 0.01
    return {tuple(voxel) for voxel in np.rint(index).astype(int).tolist()}


def set_voxels(mask: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(voxel) for voxel in np.argwhere(mask).tolist()}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_segmentation_lies_where_the_mask_lies(
    prostate: SimpleNamespace, tmp_path: Path, orientation: str
) -> None:
    scan = write_scan(tmp_path / "in", orientation, **SECRETS)
    shuffle_names(scan, seed=3)
    assert run(scan, tmp_path / "out", *prostate.words, "--dicom-seg").exit_code == 0
    mask = nib.load(tmp_path / "out" / "in_seg.nii.gz")
    labels = np.asarray(mask.dataobj)
    file = tmp_path / "out" / "in_seg.dcm"
    dataset = pydicom.dcmread(file)
    by_hand = in_voxels(points_mm(dataset, 1), mask.affine)
    assert by_hand == set_voxels(labels == 1)
    assert len(by_hand) > 100
    as_label = read_segments(file, prove_geometry(read_headers(scan)))
    assert np.array_equal(as_label.label, labels)
    assert as_label.meanings == {1: "Prostate"}


def test_highdicom_reads_the_segments_of_each_source_image(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in", "oblique_2")
    series = prove_series(scan, read_headers(scan))
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    labels[:, :, 4] = 0  # an empty frame is left out, and read back as empty
    maker().write(tmp_path / "seg.dcm", labels, series)
    read = hd.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in series.files]
    pixels = read.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=False, assert_missing_frames_are_empty=True
    )
    assert pixels.shape == (10, 24, 30, 3)
    for n, structure in enumerate(ZONES):
        expected = np.isin(labels, structure.classes).transpose(2, 1, 0)
        assert np.array_equal(pixels[..., n].astype(bool), expected)


def to_lps(series: VolumeSeries) -> np.ndarray:
    """Voxel index to the millimetres of DICOM, which counts to the left and to the back."""
    affine: np.ndarray = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.geometry.affine_ras
    return affine


def as_nifti_counts(volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """Segments (K, X, Y, Z) and affine of highdicom's volume, whose slices run the other way."""
    volume = volume.flip_spatial(0)
    return volume.array.transpose(3, 2, 1, 0).astype(bool), volume.affine[:, [2, 1, 0, 3]]


def as_protocol(mm: str) -> Callable[[pydicom.Dataset, int], None]:
    def change(dataset: pydicom.Dataset, k: int) -> None:
        dataset.SliceThickness = dataset.SpacingBetweenSlices = mm

    return change


def without_thickness(dataset: pydicom.Dataset, k: int) -> None:
    del dataset.SliceThickness


def varying_thickness(dataset: pydicom.Dataset, k: int) -> None:
    dataset.SliceThickness = f"{4 + 0.01 * k:.2f}"


def turned_orientation(dataset: pydicom.Dataset, k: int) -> None:
    cosines = [float(x) for x in dataset.ImageOrientationPatient]
    cosines[4] += 1e-6 * k
    dataset.ImageOrientationPatient = [f"{x:.9f}" for x in cosines]


def varying_pixels(dataset: pydicom.Dataset, k: int) -> None:
    between_rows, between_columns = dataset.PixelSpacing
    dataset.PixelSpacing = [between_rows, f"{between_columns + 1e-6 * k:.7f}"]


def beside_the_grid(dataset: pydicom.Dataset, k: int) -> None:
    along = np.cross(*np.reshape(dataset.ImageOrientationPatient, (2, 3)).astype(float))
    moved = np.array(dataset.ImagePositionPatient, dtype=float) + along * (0.15 if k == 4 else 0)
    dataset.ImagePositionPatient = [f"{x:.9f}" for x in moved]


WRONG_TAGS = {
    "right": lambda dataset, k: None,
    "empty": as_protocol(""),
    "zero": as_protocol("0"),
    "of the protocol": as_protocol("7"),
    "absent": without_thickness,
    "of each slice": varying_thickness,
    "orientation": turned_orientation,
    "pixel spacing": varying_pixels,
    "position": beside_the_grid,
}


@pytest.mark.parametrize("wrong", WRONG_TAGS)
@pytest.mark.parametrize("orientation", ["axial", "oblique_1"])
def test_it_lies_on_the_proven_grid_whatever_the_headers_say_beside(
    tmp_path: Path, wrong: str, orientation: str
) -> None:
    """The geometry takes only positions, and highdicom would repeat what contradicts them."""
    scan = write_scan(tmp_path / "in", orientation)
    for k, file in enumerate(sorted(scan.iterdir())):
        edit(file, lambda dataset, k=k: WRONG_TAGS[wrong](dataset, k))
    series = prove_series(scan, read_headers(scan))
    labels = np.random.default_rng(0).integers(1, 3, SHAPE).astype(np.uint8)
    maker().write(tmp_path / "seg.dcm", labels, series)
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=False)
    voxels, affine_lps = as_nifti_counts(volume)
    assert np.allclose(affine_lps, to_lps(series), atol=1e-6)
    assert np.array_equal(voxels[0], labels == 1)


def test_a_missing_slice_is_missed_on_the_proven_grid(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in", "oblique_1", SliceThickness="")
    sorted(scan.iterdir())[5].unlink()
    series = prove_series(scan, read_headers(scan), allow_missing_slices=True)
    (gap,) = series.missing
    maker().write(tmp_path / "seg.dcm", np.ones((*SHAPE[:2], SHAPE[2] - 1), np.uint8), series)
    read = hd.seg.segread(tmp_path / "seg.dcm")
    volume = read.get_volume(combine_segments=False, allow_missing_positions=True)
    voxels, affine_lps = as_nifti_counts(volume)
    assert np.allclose(affine_lps, to_lps(series), atol=1e-6)
    assert np.flatnonzero(~voxels[2].any(axis=(0, 1))).tolist() == [gap]


def test_it_belongs_to_the_examination_of_its_images(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in", **SECRETS)
    series = prove_series(scan, read_headers(scan))
    labels = np.ones(SHAPE, dtype=np.uint8)
    maker().write(tmp_path / "seg.dcm", labels, series)
    source, made = (pydicom.dcmread(path) for path in (series.files[0], tmp_path / "seg.dcm"))
    for tag in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert made[tag].value == source[tag].value
    assert made.SOPClassUID == SegmentationStorage
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert referenced_series(tmp_path / "seg.dcm") == source.SeriesInstanceUID
    (referenced,) = made.ReferencedSeriesSequence
    instances = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert instances == {pydicom.dcmread(path).SOPInstanceUID for path in series.files}
    codes = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in made.SegmentSequence]
    found = [(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) for code in codes]
    assert found == [structure.code for structure in ZONES]
    for segment in made.SegmentSequence:
        category = segment.SegmentedPropertyCategoryCodeSequence[0]
        assert (category.CodeValue, category.CodeMeaning) == ("91723000", "Anatomical Structure")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == (
            "dim_prostate"
        )


def test_nothing_found_is_said_by_segments_without_a_pixel(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in")
    series = prove_series(scan, read_headers(scan))
    maker().write(tmp_path / "seg.dcm", np.zeros(SHAPE, dtype=np.uint8), series)
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert not np.asarray(made.pixel_array).any()
    assert len(made.SegmentSequence) == 3
    assert len(points_mm(made, 1)) == 0


def test_a_missing_slice_has_no_frame(prostate: SimpleNamespace, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in", "coronal")
    sorted(scan.iterdir())[5].unlink()
    words = ("--dicom-seg", "--allow-missing-slices")
    assert run(scan, tmp_path / "out", *prostate.words, *words).exit_code == 0
    mask = nib.load(tmp_path / "out" / "in_seg.nii.gz")
    assert mask.shape == SHAPE
    made = pydicom.dcmread(tmp_path / "out" / "in_seg.dcm")
    assert in_voxels(points_mm(made, 1), mask.affine) == set_voxels(np.asarray(mask.dataobj) == 1)


def test_a_header_without_what_a_segmentation_repeats_fails_the_case(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "in")
    for file in scan.iterdir():
        edit(file, lambda dataset: delattr(dataset, "FrameOfReferenceUID"))
    result = run(scan, tmp_path / "out", *prostate.words, "--dicom-seg")
    assert result.exit_code == EXIT_CODES[DataError]
    assert "no DICOM SEG can be made of this series" in result.stderr
    assert "got no FrameOfReferenceUID" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert run(scan, tmp_path / "out", *prostate.words).exit_code == 0


def test_of_what_highdicom_refuses_only_keywords_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_scan(tmp_path / "in", **SECRETS)

    def refuse(**given: Any) -> None:
        raise ValueError(f"bad PatientName of {given['source_images'][0].PatientName}: Rows, Rows")

    monkeypatch.setattr(hd.seg, "Segmentation", refuse)
    with pytest.raises(DataError, match="got ValueError about PatientName, Rows;") as refused:
        maker().write(
            tmp_path / "seg.dcm", np.ones(SHAPE, np.uint8), prove_series(scan, read_headers(scan))
        )
    assert "Doe" not in str(refused.value)


def write_and_read(scan: Path, file: Path) -> pydicom.Dataset:
    maker().write(file, np.ones(SHAPE, np.uint8), prove_series(scan, read_headers(scan)))
    hd.seg.segread(file)
    return pydicom.dcmread(file)


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 6", "Mueller"),
        (None, "Mueller"),
    ],
)
def test_a_name_stays_the_same_in_every_character_set(
    tmp_path: Path, characters: list[str] | str | None, name: str
) -> None:
    scan = write_scan(tmp_path / "in", SpecificCharacterSet=characters, PatientName=name)
    assert write_and_read(scan, tmp_path / "seg.dcm").PatientName == name


def test_a_name_stays_the_same_where_the_korean_set_is_called_as_none_of_the_standard(
    tmp_path: Path,
) -> None:
    name = "Hong^Gildong=洪^吉洞=홍^길동"
    tags = {"PatientName": name, "StudyDescription": "전립선"}
    scan = write_scan(tmp_path / "in", SpecificCharacterSet="ISO 2022 IR 149", **tags)
    for file in scan.iterdir():
        content, length = file.read_bytes(), b"\x10\0ISO 2022 IR 149 "
        assert length in content
        file.write_bytes(content.replace(length, b"\x0a\0ISO_IR 149"))
    made = write_and_read(scan, tmp_path / "seg.dcm")
    assert made.PatientName == name
    assert made.StudyDescription == "전립선"


EMPTY_WHERE_UNKNOWN = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def test_what_anonymisation_took_out_is_empty(tmp_path: Path) -> None:
    """The standard has these there, and empty where nothing is known (type 2)."""
    scan = write_scan(tmp_path / "in", **SECRETS)
    for file in scan.iterdir():
        edit(file, lambda dataset: [dataset.pop(tag, None) for tag in EMPTY_WHERE_UNKNOWN])
    made = write_and_read(scan, tmp_path / "seg.dcm")
    for tag in EMPTY_WHERE_UNKNOWN:
        assert not made[tag].value, tag


@pytest.mark.parametrize(
    ("tag", "value", "written"),
    [
        ("PatientSex", "male", ""),
        ("PatientSex", "X", ""),
        ("PatientSex", "O", "O"),
        ("PatientBirthDate", "1957-09-21", ""),
        ("PatientBirthDate", ["19570921", "19570922"], ""),
        ("StudyDate", "2024-13-40", ""),
        ("StudyDate", "20240131", "20240131"),
        ("StudyTime", "25:61", ""),
        ("StudyTime", "101112.5", "101112.5"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which writes them for the test
def test_what_is_no_value_of_its_kind_is_left_empty(
    tmp_path: Path, tag: str, value: object, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as lenient:
        settings = pydicom.config.settings
        lenient.setattr(settings, "writing_validation_mode", pydicom.config.IGNORE)
        scan = write_scan(tmp_path / "in", **{tag: value})
    assert str(write_and_read(scan, tmp_path / "seg.dcm")[tag].value or "") == written


def test_a_structure_without_a_code_is_refused_before_the_first_case(
    fundus: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="none for disc"):
        maker((Structure("disc", (1,)),))
    (tmp_path / "in").mkdir()
    result = run(tmp_path / "in", tmp_path / "out", *fundus.words, "--dicom-seg")
    assert result.exit_code == EXIT_CODES[ConfigError]


def test_without_highdicom_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match="dicom-seg"):
        maker()


def test_the_codes_of_the_bundle_are_those_of_the_dictionary() -> None:
    """pydicom carries the code tables of the standard."""
    assert codes.SCT.Prostate.value == "41216001"
    assert codes.SCT.PeripheralZoneOfTheProstate.value == "279706003"
    assert codes.DCM.ArtificialIntelligence.value == "123110"
    assert codes.cid7150.AnatomicalStructure.value == "91723000"


@pytest.mark.data
@pytest.mark.parametrize("name", ["prostate3t_03_0001", "prostatex_0000"])
def test_a_real_series_gets_a_segmentation_where_its_mask_is(
    tmp_path: Path, test_data: Path, name: str
) -> None:
    scan = test_data / "dicom" / name / "T2"
    series = prove_series(scan, read_headers(scan))
    shape = series.geometry.shape
    labels = np.zeros(shape, dtype=np.uint8)
    labels[100:140, 90:150, 3:9] = 1
    labels[120:130, 100:110, 5:15] = 2
    maker().write(tmp_path / "seg.dcm", labels, series)
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    for number, structure in enumerate(ZONES, start=1):
        voxels = in_voxels(points_mm(made, number), series.geometry.affine_ras)
        assert voxels == set_voxels(np.isin(labels, structure.classes))
