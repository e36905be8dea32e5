"""Every bad input is named, with what was got and expected, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dim_monai.data import kinds
from dim_monai.data.checks import CaseFacts, check_cases, require_sound
from dim_monai.data.datalist import open_datalist
from dim_monai.data.labels import LabelMapping
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.data.checks.sets import AFFINE, SHAPE, gland, image, label, ramp, save, volumes

SPACING_MM = tuple(np.diag(AFFINE)[:3])
MAPPING = LabelMapping({"background": [0], "prostate": [1, 2]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound data set: a (NIfTI) and c (DICOM) labelled, b unlabelled."""
    return volumes(tmp_path / "set")


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def slices(root: Path) -> list[Path]:
    return sorted((root / "images" / "c").iterdir())


def test_a_sound_set_passes_and_its_facts_are_told(root) -> None:
    datalist = open_datalist(root)
    assert check_cases(datalist, MAPPING) == []
    facts = require_sound(datalist.for_training(), MAPPING)
    assert [(fact.case, fact.split) for fact in facts] == [
        ("a", "labeled"),
        ("c", "labeled"),
        ("b", "unlabeled"),
    ]
    for fact in facts:
        assert fact.shape == SHAPE
        assert fact.spacing_mm == pytest.approx(SPACING_MM, abs=1e-6)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def with_voxel(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[1, 2, 3] = value
    return array


def moved(*shift_mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += shift_mm
    return affine


def add_second_series(root: Path) -> None:
    write_series(root / "other", ramp(), AFFINE, seed_uid="other")
    for path in sorted((root / "other").iterdir()):
        path.rename(root / "images" / "c" / f"other_{path.name}")


def duplicate_slice(root: Path) -> None:
    first, second, *_ = slices(root)
    dataset = pydicom.dcmread(second)
    dataset.ImagePositionPatient = pydicom.dcmread(first).ImagePositionPatient
    dataset.save_as(second)


def tilt(root: Path) -> None:
    for k, path in enumerate(slices(root)):
        dataset = pydicom.dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 0.5 * k, z]
        dataset.save_as(path)


# name: (what spoils the set, the file at fault, what the line says)
FAULTS: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "truncated image": (
        lambda root: truncate(root / "images" / "b.nii.gz"),
        "images/b.nii.gz",
        ["cannot be read", "expected"],
    ),
    "truncated label": (
        lambda root: truncate(root / "labels" / "a.nii.gz"),
        "labels/a.nii.gz",
        ["cannot be read"],
    ),
    "text named as an image": (
        lambda root: (root / "images" / "b.nii.gz").write_text("no image"),
        "images/b.nii.gz",
        ["cannot be read"],
    ),
    "NaN": (image(with_voxel(ramp(), np.nan)), "images/a.nii.gz", ["not finite", "1 of 240"]),
    "infinity": (image(with_voxel(ramp(), np.inf)), "images/a.nii.gz", ["not finite", "(1, 2, 3)"]),
    "two volumes": (
        image(np.stack([ramp(), ramp()], axis=-1)),
        "images/a.nii.gz",
        ["wrong shape", "(8, 6, 5, 2)"],
    ),
    "constant image": (
        image(np.full(SHAPE, 7.0, np.float32)),
        "images/a.nii.gz",
        ["image is constant", "7 in every voxel"],
    ),
    "shapes differ": (
        label(gland()[:, :, :4]),
        "labels/a.nii.gz",
        ["differ in shape", "got (8, 6, 4)", "expected (8, 6, 5)", "images/a.nii.gz"],
    ),
    "label shifted": (
        label(gland(), moved(0.0, 0.3, 0.4)),
        "labels/a.nii.gz",
        ["lie apart", "0.5 mm", "expected at most 0.1 mm", "images/a.nii.gz"],
    ),
    "label spacing differs": (
        label(gland(), AFFINE @ np.diag([1.0, 1.0, 1.1, 1.0])),
        "labels/a.nii.gz",
        ["lie apart", "corners 1.2 mm"],  # four steps of 0.3 mm
    ),
    "label flipped": (
        label(gland(), AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])),
        "labels/a.nii.gz",
        ["lie apart", "corners 3.5 mm"],  # seven steps of 0.5 mm to the other side
    ),
    "unlisted label value": (
        label(with_voxel(gland(), 9.0)),
        "labels/a.nii.gz",
        ["label value of no class", "9 (1 voxels)", "expected background [0], prostate [1, 2]"],
    ),
    "label between two values": (
        label(with_voxel(gland(), 0.5)),
        "labels/a.nii.gz",
        ["label value of no class", "0.5 (1 voxels)"],
    ),
    "empty label": (
        label(np.zeros(SHAPE, np.uint8)),
        "labels/a.nii.gz",
        ["all background", "expected some voxels of prostate"],
    ),
    "missing slice": (lambda root: slices(root)[2].unlink(), "images/c", ["missing", "6.000 mm"]),
    "duplicate slice": (duplicate_slice, "images/c", ["same position"]),
    "tilted slices": (tilt, "images/c", ["shifted against each other"]),
    "two series": (add_second_series, "images/c", ["several DICOM series", "exactly one"]),
    "truncated slice": (
        lambda root: truncate(slices(root)[3]),
        "images/c/slice_0004.dcm",
        ["cannot be"],
    ),
    "junk beside the slices": (
        lambda root: (root / "images" / "c" / "junk.dcm").write_bytes(b"no DICOM"),
        "images/c/junk.dcm",
        ["cannot be read"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_before_anything_is_written(root, name) -> None:
    spoil, file, fragments = FAULTS[name]
    spoil(root)
    before = contents(root)
    with pytest.raises(DataError) as error:
        require_sound(open_datalist(root), MAPPING)
    first, line = str(error.value).splitlines()
    assert first == "the data cannot be used, 1 fault:"
    for fragment in [str(root / file), *fragments]:
        assert fragment in line
    assert contents(root) == before


def test_all_faults_are_told_at_once(root) -> None:
    image(np.zeros(SHAPE, np.float32))(root)
    label(np.zeros(SHAPE, np.uint8), moved(1.0, 0.0, 0.0))(root)
    truncate(root / "images" / "b.nii.gz")
    slices(root)[2].unlink()
    datalist = open_datalist(root)
    faults = check_cases(datalist, MAPPING)
    assert [fault.file for fault in faults] == [
        str(root / path)
        for path in (
            "images/a.nii.gz",
            "labels/a.nii.gz",
            "labels/a.nii.gz",
            "images/c",
            "images/b.nii.gz",
        )
    ]
    with pytest.raises(DataError) as error:
        require_sound(datalist, MAPPING)
    lines = str(error.value).splitlines()
    assert lines == ["the data cannot be used, 5 faults:", *(f"  {fault}" for fault in faults)]


def test_a_label_is_checked_even_where_its_image_cannot_be_read(root) -> None:
    truncate(root / "images" / "a.nii.gz")
    label(with_voxel(gland(), 9.0))(root)
    assert len(check_cases(open_datalist(root), MAPPING)) == 2


def test_axes_stored_in_another_order_are_the_same_grid(root) -> None:
    """A converter may store a label with rows reversed and slices first: each voxel is in place."""
    flip = np.array([[0, -1, 0, SHAPE[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    label(gland().transpose(2, 0, 1)[:, ::-1, :], AFFINE @ flip)(root)
    assert check_cases(open_datalist(root), MAPPING) == []


@pytest.mark.parametrize(("shift_mm", "sound"), [(0.099, True), (0.101, False)])
def test_the_tolerance_of_the_grid_is_in_mm(root, shift_mm, sound) -> None:
    label(gland(), moved(0.0, 0.0, -shift_mm))(root)
    assert (check_cases(open_datalist(root), MAPPING) == []) == sound


def test_an_empty_truth_may_validate_beside_another(root) -> None:
    save(root / "images" / "d.nii.gz", ramp() + 3)
    save(root / "labels" / "d.nii.gz", gland())
    label(np.zeros(SHAPE, np.uint8))(root)
    datalist = open_datalist(root)
    lists = {entry["case"]: entry for entry in (*datalist.labeled, *datalist.validation)}
    both = replace(datalist, labeled=(lists["c"],), validation=(lists["a"], lists["d"]))
    assert check_cases(both, MAPPING) == []
    alone = replace(both, validation=(lists["a"],))
    (fault,) = check_cases(alone, MAPPING)
    assert fault.code == "D208"
    assert check_cases(alone, MAPPING, splits=("validation", "test")) == []  # may be scored


def test_test_cases_are_opened_only_if_asked_for(root) -> None:
    truncate(root / "images" / "a.nii.gz")
    datalist = open_datalist(root)
    bad, good = datalist.labeled
    datalist = replace(datalist, labeled=(good,), test=(bad,))
    assert check_cases(datalist, MAPPING) == []
    assert len(check_cases(datalist, MAPPING, splits=("test",))) == 1
    with pytest.raises(DataError, match="test list cannot be opened"):
        check_cases(datalist.for_training(), MAPPING, splits=("test",))


def test_a_list_without_a_labelled_case_is_a_fault(root) -> None:
    datalist = replace(open_datalist(root), labeled=())
    with pytest.raises(DataError, match="no labelled case"):
        require_sound(datalist, MAPPING)


def test_a_file_that_went_away_is_a_fault_and_not_a_crash(root) -> None:
    datalist = open_datalist(root)
    (root / "images" / "b.nii.gz").unlink()
    (fault,) = check_cases(datalist, MAPPING)
    assert fault.file == str(root / "images" / "b.nii.gz")


def test_a_file_that_may_not_be_read_is_a_fault_and_not_a_crash(root, monkeypatch) -> None:
    datalist = open_datalist(root)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    refusing = replace(kinds.VOLUME, read_image=refuse, read_label=refuse)
    monkeypatch.setitem(kinds.KINDS, "volume", refusing)
    faults = check_cases(replace(datalist, unlabeled=()), MAPPING)
    assert [fault.file for fault in faults] == [
        entry[key] for entry in datalist.labeled for key in ("image", "label")
    ]
    assert all("got Permission denied" in str(fault) for fault in faults)


@pytest.fixture
def real() -> Path:
    if "DIM_TEST_DATA" not in os.environ:
        pytest.skip("DIM_TEST_DATA is not set: the real images are not there")
    return Path(os.environ["DIM_TEST_DATA"])


@pytest.mark.data
def test_real_prostates_of_two_protocols_pass(real, tmp_path) -> None:
    protocols = {"rumc_320": 22, "rumc_384": 7}
    for protocol in protocols:
        for kind, suffix in (("images", "_t2"), ("labels", "_seg")):
            (tmp_path / kind / protocol).mkdir(parents=True)
            for path in (real / "prostate_t2" / protocol).glob(f"*{suffix}.nii.gz"):
                name = path.name.replace(suffix, "")
                (tmp_path / kind / protocol / name).symlink_to(path)
    zones = LabelMapping({"background": [0], "peripheral_zone": [1], "central_gland": [2]})
    datalist = open_datalist(tmp_path)
    facts = require_sound(datalist, zones)
    assert len(datalist.validation) == round(0.2 * 29)
    found = [fact.domain for fact in facts if isinstance(fact, CaseFacts)]
    assert {protocol: found.count(protocol) for protocol in protocols} == protocols
    # In-plane and slice spacing as the data set's own description states them.
    for fact in facts:
        low, high = ((0.6, 0.625), (3.6, 4.0)) if fact.domain == "rumc_320" else ((0.5,), (3.0,))
        assert min(low) - 1e-3 < fact.spacing_mm[0] < max(low) + 1e-3
        assert min(high) - 1e-3 < fact.spacing_mm[2] < max(high) + 1e-3


@pytest.mark.data
def test_a_real_series_passes_with_its_label_and_not_with_a_slice_missing(real, tmp_path) -> None:
    series = real / "dicom" / "prostate3t_03_0001"
    entry = {
        "image": str(series / "T2"),
        "label": str(series / "seg_1pz_2cg.nii.gz"),
        "domain": "rumc",
        "case": "03_0001",
        "patient": "03_0001",
    }
    missing = {"image": str(real / "dicom" / "prostatex_0000_missing_slice")}
    save(tmp_path / "images" / "a.nii.gz", ramp())
    save(tmp_path / "labels" / "a.nii.gz", gland())
    datalist = open_datalist(tmp_path)
    assert check_cases(replace(datalist, labeled=(entry,)), MAPPING) == []
    gap = {**entry, **missing}
    del gap["label"]
    (fault,) = check_cases(replace(datalist, unlabeled=(gap,)), MAPPING)
    assert fault.file == missing["image"]
    assert fault.code == "D102"
    assert "missing" in fault.what
