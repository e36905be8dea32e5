"""What is taken from a tree, what is skipped by which rule, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser
from pydicom.uid import SecondaryCaptureImageStorage

from dim_monai.data.kinds import PHOTOGRAPH, VOLUME
from dim_monai.dicom.series import read_headers
from dim_monai.errors import ConfigError, DataError
from dim_monai.predict.cases import Found, find_cases, root_of
from dim_monai.predict.rules import SeriesRules, reason_to_skip
from dim_monai.predict.series import pseudonym
from tests import photograph_builder
from tests.bundles.examples import BUNDLES
from tests.dicom_builder import ORIENTATIONS, affine_of, edit
from tests.predict.scans import copy, move_into, shuffle_names, uid_of, write_nifti, write_scan

CONFIG = ConfigParser.load_config_file(BUNDLES / "dim_prostate" / "configs" / "inference.yaml")
RULES = SeriesRules.from_config(CONFIG["series"])


def find(root: Path, **options: Any) -> Found:
    return find_cases(root, VOLUME, RULES, **options)


def names(found: Found) -> list[str]:
    return [case.name for case in found.cases]


def reasons(found: Found) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in found.skipped}


def refusals(found: Found) -> dict[str, str]:
    return {refused.name: str(refused.error) for refused in found.refused}


# --- rules for DICOM series


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, "modality CT, not MR"),
        ({"Modality": "Doe^John"}, "modality unknown, not MR"),
        ({"Modality": "SEG"}, "no images (SEG)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer, by its ImageType"),
        ({"ScanningSequence": "EP"}, "ScanningSequence EP"),
        ({"ScanningSequence": ["SE", "EP"]}, "ScanningSequence EP"),
        ({"EchoTime": "12.5"}, "EchoTime 12.5 ms, below 60 ms"),
    ],
)
def test_a_series_is_skipped_by_a_rule(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    write_scan(tmp_path / "in" / "scan", **tags)
    found = find(tmp_path / "in")
    assert names(found) == []
    assert found.refused == []
    assert list(reasons(found).values()) == [reason]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"EchoTime": "", "ScanningSequence": ""},
        {"EchoTime": "60"},
        {"ImageType": ""},
        {"ScanningSequence": ["SE", "IR"]},
        {"Modality": ""},
    ],
)
def test_what_a_header_does_not_say_excludes_nothing(tmp_path: Path, tags: dict[str, Any]) -> None:
    write_scan(tmp_path / "in" / "scan", **tags)
    assert names(find(tmp_path / "in")) == ["scan"]


def test_a_header_without_a_modality_excludes_nothing(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "scan")
    for file in scan.iterdir():
        edit(file, lambda dataset: delattr(dataset, "Modality"))
    assert names(find(tmp_path / "in")) == ["scan"]


@pytest.mark.parametrize("tags", [{"Modality": "CT"}, {"ScanningSequence": "EP"}])
def test_a_series_that_the_user_names_is_taken_whatever_was_scanned(
    tmp_path: Path, tags: dict[str, Any]
) -> None:
    scan = write_scan(tmp_path / "in" / "scan", **tags)
    assert names(find(scan)) == ["scan"]
    (case,) = find(min(scan.iterdir())).cases
    assert case.series is not None
    assert len(case.series.files) == 10
    assert names(find(tmp_path / "in")) == []
    move_into(write_scan(tmp_path / "other", **tags), scan, "other")
    assert names(find(scan)) == []  # two of them: the folder names neither


@pytest.mark.parametrize(
    ("tags", "word"),
    [({"Modality": "SEG"}, "no images"), ({"ImageType": ["ORIGINAL", "LOCALIZER"]}, "localizer")],
)
def test_what_is_no_volume_stays_none_when_it_is_named(
    tmp_path: Path, tags: dict[str, Any], word: str
) -> None:
    found = find(write_scan(tmp_path / "scan", **tags))
    assert names(found) == []
    (reason,) = reasons(found).values()
    assert word in reason


def test_without_rules_every_volume_is_taken(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "scan", Modality="CT", EchoTime="5")
    found = find_cases(tmp_path / "in", VOLUME, SeriesRules.from_config(None))
    assert names(found) == ["scan"]


def test_images_in_several_directions_are_a_localizer(tmp_path: Path) -> None:
    for orientation in ("axial", "coronal", "sagittal"):
        scan = write_scan(tmp_path / orientation, orientation, SeriesInstanceUID="1.2.3")
        move_into(scan, tmp_path / "in" / "scout", orientation)
    found = find(tmp_path / "in")
    (reason,) = reasons(found).values()
    assert reason == "a localizer: 3 directions, none of them that of most images"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_series_in_another_plane_is_skipped_and_can_be_named(
    tmp_path: Path, orientation: str
) -> None:
    """The plane is that of the slices: the axis along which they are stacked."""
    scan = write_scan(tmp_path / "in" / "scan", orientation)
    stacked_along = np.abs(affine_of(orientation)[:3, 2]).argmax()
    plane = ("sagittal", "coronal", "axial")[stacked_along]
    found = find(tmp_path / "in")
    if plane == "axial":
        assert names(found) == ["scan"]
    else:
        assert list(reasons(found).values()) == [f"{plane} images, not axial"]
    assert names(find(scan)) == ["scan"]
    assert names(find_cases(tmp_path / "in", VOLUME, SeriesRules())) == ["scan"]


@pytest.mark.parametrize(
    "direction", [None, "x", [0.0] * 6, [1.0, 0, 0, 1, 0, 0], [0, 2.0, 0, 0, 0, 2]]
)
def test_a_plane_that_is_not_told_excludes_nothing(tmp_path: Path, direction: object) -> None:
    scan = write_scan(tmp_path / "in" / "scan")
    headers = [replace(header, orientation=direction) for header in read_headers(scan)]
    assert reason_to_skip(headers, RULES) is None


def test_one_stray_image_does_not_make_a_volume_a_localizer(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "scan", SeriesInstanceUID="1.2.3")
    stray = write_scan(tmp_path / "coronal", "coronal", SeriesInstanceUID="1.2.3")
    shutil.copy(min(stray.iterdir()), scan / "stray.dcm")
    found = find(tmp_path / "in")
    assert names(found) == []
    assert "differ in ImageOrientationPatient" in refusals(found)["scan"]


def test_a_single_image_is_skipped(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "scan")
    for file in sorted(scan.iterdir())[1:]:
        file.unlink()
    (reason,) = reasons(find(tmp_path / "in")).values()
    assert reason == "a single image, no volume"


def test_a_multi_frame_object_is_refused_and_not_skipped(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "scan", NumberOfFrames=2)
    for file in sorted(scan.iterdir())[1:]:
        file.unlink()
    assert "multi-frame" in refusals(find(tmp_path / "in"))["scan"]


@pytest.mark.parametrize(
    "section",
    [
        {"modalities": ["MR"]},
        {"modality": "MR"},
        {"smallest_echo_time_ms": -1},
        {"modality": [1]},
        {"plane": "transverse"},
    ],
)
def test_rules_that_cannot_be_meant_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="series"):
        SeriesRules.from_config(section)


# --- trees


def test_a_tree_of_everything(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_nifti(root / "a.nii")
    write_nifti(root / "deep" / "b.nii.gz")
    write_nifti(root / "deep" / "b_seg.nii.gz")
    write_nifti(root / "deep" / "b_uncertainty.nii.gz")
    write_scan(root / "study" / "t2")
    write_scan(root / "study" / "dwi", ScanningSequence="EP")
    uids = {}
    for name in ("t2_axial", "t2_again", "t2_coronal", "t1", "scout"):
        orientation = "coronal" if "coronal" in name else "axial"
        scan = write_scan(tmp_path / name, orientation, EchoTime="10" if name == "t1" else "100")
        if name == "scout":
            for file in scan.iterdir():
                edit(file, lambda d: setattr(d, "ImageType", ["ORIGINAL", "LOCALIZER"]))
        uids[name] = pseudonym(uid_of(scan))
        move_into(scan, root / "flat", name)
    (root / "flat" / "DICOMDIR").write_bytes(b"")
    (root / "flat" / "DICOMDIR").unlink()
    (root / "notes.txt").write_text("x")
    (root / "study" / "one.txt").write_text("x")
    (root / "study" / "two.json").write_text("{}")
    (root / ".hidden.nii").write_bytes(b"")
    found = find(root)
    assert names(found) == [
        "a.nii",
        "deep/b.nii.gz",
        *sorted(f"flat/series-{uids[name]}" for name in ("t2_axial", "t2_again")),
        "study/t2",
    ]
    assert found.refused == []
    assert reasons(found) == {
        "deep/b_seg.nii.gz": "named as a mask",
        "deep/b_uncertainty.nii.gz": "named as an uncertainty map",
        f"flat/series-{uids['t1']} (10 files)": "EchoTime 10 ms, below 60 ms",
        f"flat/series-{uids['t2_coronal']} (10 files)": "coronal images, not axial",
        f"flat/series-{uids['scout']} (10 files)": "a localizer, by its ImageType",
        "notes.txt": "neither NIfTI nor DICOM images",
        "study (2 files)": "neither NIfTI nor DICOM images",
        "study/dwi (10 files)": "ScanningSequence EP",
    }


def test_one_file_of_a_series_stands_for_the_series(tmp_path: Path) -> None:
    for name in ("one", "two"):
        move_into(write_scan(tmp_path / name), tmp_path / "in", name)
    given = tmp_path / "in" / "two003"
    found = find(given)
    (case,) = found.cases
    assert case.series is not None
    assert {file.name for file in case.series.files} == {f"two{n:03d}" for n in range(10)}
    assert found.root == root_of(given) == tmp_path / "in"


def test_one_image_is_taken_whatever_its_name(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a_seg.nii.gz")
    assert names(find(tmp_path / "a_seg.nii.gz")) == ["a_seg.nii.gz"]
    photograph_builder.save(tmp_path / "eye_mask.png", photograph_builder.scene())
    found = find_cases(tmp_path / "eye_mask.png", PHOTOGRAPH, SeriesRules())
    assert names(found) == ["eye_mask.png"]


def test_photographs_are_found_among_other_files(tmp_path: Path) -> None:
    for name in ("a.JPG", "deep/b.tiff", "deep/b_seg.png", "c_uncertainty.png"):
        photograph_builder.save(tmp_path / name, photograph_builder.scene())
    (tmp_path / "list.csv").write_text("x")
    found = find_cases(tmp_path, PHOTOGRAPH, SeriesRules())
    assert names(found) == ["a.JPG", "deep/b.tiff"]
    assert set(reasons(found)) == {"deep/b_seg.png", "c_uncertainty.png", "list.csv"}


@pytest.mark.parametrize("name", ["nothing", "notes.txt"])
def test_a_path_that_is_no_case_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=name):
        find(tmp_path / name)


def test_results_are_not_looked_into(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    write_nifti(tmp_path / "out" / "b.nii.gz")
    assert names(find(tmp_path, leave_out=tmp_path / "out")) == ["a.nii.gz"]
    assert len(names(find(tmp_path, leave_out=tmp_path))) == 2


def test_damage_is_refused_and_the_rest_is_found(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "sound")
    bad = write_scan(tmp_path / "in" / "bad")
    (bad / "slice_0004.dcm").write_bytes(b"no DICOM")
    found = find(tmp_path / "in")
    assert names(found) == ["sound"]
    assert "slice_0004.dcm" in refusals(found)["bad"]


def test_links_are_not_followed_and_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_scan(tmp_path / "elsewhere")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "nowhere")
    found = find(tmp_path / "in")
    assert names(found) == []
    assert set(refusals(found)) == {"a", "b"}


def test_two_cases_of_one_mask_are_not_both_segmented(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    write_nifti(tmp_path / "a.nii")
    found = find(tmp_path)
    assert names(found) == ["a.nii"]
    assert "two cases of one name" in refusals(found)["a.nii.gz"]


def test_a_copy_is_segmented_once(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "a")
    shuffle_names(Path(copy(scan, tmp_path / "in" / "b")), seed=1)
    found = find(tmp_path / "in")
    assert names(found) == ["a"]
    assert reasons(found) == {"b": "a copy of a"}


def test_parts_of_a_series_are_no_volumes(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "a")
    (tmp_path / "in" / "b").mkdir()
    for file in sorted(scan.iterdir())[5:]:
        file.rename(tmp_path / "in" / "b" / file.name)
    found = find(tmp_path / "in")
    assert names(found) == []
    assert set(refusals(found)) == {"a", "b"}
    assert all("several folders" in message for message in refusals(found).values())


def test_one_image_of_a_series_elsewhere_makes_the_rest_no_volume(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "a")
    (tmp_path / "in" / "b").mkdir()
    last = max(scan.iterdir())
    last.rename(tmp_path / "in" / "b" / last.name)
    found = find(tmp_path / "in")
    assert names(found) == []
    assert "several folders" in refusals(found)["a"]
    assert [refused.image for refused in found.refused] == [tmp_path / "in" / "a"]


def test_a_series_with_a_folder_for_each_image_is_no_volume(tmp_path: Path) -> None:
    """Nothing would be left of it but lines that say "a single image"."""
    scan = write_scan(tmp_path / "scan")
    write_scan(tmp_path / "in" / "other")
    for n, file in enumerate(sorted(scan.iterdir())):
        (tmp_path / "in" / "scan" / f"{n}").mkdir(parents=True)
        file.rename(tmp_path / "in" / "scan" / f"{n}" / "IM")
    found = find(tmp_path / "in")
    assert names(found) == ["other"]
    assert reasons(found) == {}
    ((name, message),) = refusals(found).items()
    assert name == "scan/0"
    assert "several folders" in message
    assert "and 6 more" in message


def test_single_multi_frame_objects_are_refused_once_each(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan", NumberOfFrames=2)
    for n, file in enumerate(sorted(scan.iterdir())[:2]):
        (tmp_path / "in" / f"{n}").mkdir(parents=True)
        file.rename(tmp_path / "in" / f"{n}" / "IM")
    found = find(tmp_path / "in")
    assert [refused.name for refused in found.refused] == ["0", "1"]
    assert all("multi-frame" in message for message in refusals(found).values())


def test_copies_of_one_image_are_single_images(tmp_path: Path) -> None:
    file = min(write_scan(tmp_path / "scan").iterdir())
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(file, tmp_path / "in" / name)
    found = find(tmp_path / "in")
    assert found.refused == []
    assert set(reasons(found).values()) == {"a single image, no volume"}


def test_one_copied_image_of_a_series_elsewhere_is_only_skipped(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "a")
    (tmp_path / "in" / "b").mkdir()
    shutil.copy(max(scan.iterdir()), tmp_path / "in" / "b")
    found = find(tmp_path / "in")
    assert names(found) == ["a"]
    assert reasons(found) == {"b (1 files)": "a single image, no volume"}


def test_a_series_and_a_file_in_it_of_its_name_are_not_both_segmented(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "T2")
    write_nifti(scan / "T2.nii.gz")
    found = find(scan)
    assert len(found.cases) == 1
    (message,) = refusals(found).values()
    assert "two cases of one name" in message


@pytest.mark.parametrize("given", ["..", "../in", "sub/..", "../in/a.nii.gz"])
def test_a_path_may_go_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    write_nifti(tmp_path / "in" / "sub" / "out" / "left.nii.gz")
    monkeypatch.chdir(tmp_path / "in" / ("sub" if given == ".." else ""))
    (found,) = find(Path(given), leave_out=tmp_path / "in" / "sub" / "x" / ".." / "out").cases
    assert found.image == tmp_path / "in" / "a.nii.gz"


def test_a_series_of_another_class_beside_it_does_not_change_its_name(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "t2")
    other = write_scan(tmp_path / "seg", Modality="SEG", SOPClassUID=SecondaryCaptureImageStorage)
    shutil.copy(min(other.iterdir()), scan / "seg.dcm")
    assert names(find(tmp_path / "in")) == ["t2"]


def test_a_missing_slice_needs_permission(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "t2")
    sorted(scan.iterdir())[4].unlink()
    assert "missing" in refusals(find(tmp_path / "in"))["t2"]
    (case,) = find(tmp_path / "in", allow_missing_slices=True).cases
    assert case.series is not None
    assert len(case.series.missing) == 1


@pytest.mark.data
def test_real_series_are_told_apart(test_data: Path) -> None:
    found = find(test_data / "dicom")
    assert [case.name for case in found.cases if case.series] == [
        "prostate3t_03_0001/T2",
        "prostatex_0000/T2",
    ]
    skipped = {name.partition(" ")[0]: reason for name, reason in reasons(found).items()}
    assert skipped["qin_prostate_pcampmri_00001/ADC"] == "ScanningSequence EP"
    assert skipped["qin_prostate_pcampmri_00001/seg"] == "no images (SEG)"
    assert skipped["prostatex_0000_missing_slice"] == "ScanningSequence EP"
    assert refusals(found) == {}
    shapes = {case.name: case.series.geometry.shape for case in found.cases if case.series}
    assert all(shape[2] == 19 for shape in shapes.values())
    assert np.prod(shapes["prostatex_0000/T2"]) > 0
