"""Folders of one's own: two folders, pairs by suffix, DICOM trees, and what other tools keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from dim_monai.data.datalist import LISTS, open_datalist
from dim_monai.data.prepare.prepare import Prepared, prepare
from dim_monai.data.reader import read_case
from dim_monai.errors import DataError
from tests.data.prepare.trees import (
    AFFINE,
    dicom_seg,
    label,
    nifti,
    photo,
    png,
    series,
)

MASK = np.eye(6, 5, dtype=np.uint8)


def labels_of(prepared: Prepared, root: Path) -> dict[str, str | None]:
    """Returns what each case has for a label, relative to the source."""
    found: dict[str, str | None] = {}
    for name in LISTS:
        for entry in getattr(prepared.datalist, name):
            path = entry.get("label")
            key = f"{entry['domain']}/{entry['case']}"
            found[key] = None if path is None else Path(path).relative_to(root).as_posix()
    return found


def test_two_folders_give_the_split_of_the_plain_layout(tmp_path) -> None:
    for n in range(12):
        domain = ("", "a", "b")[n % 3]
        nifti(tmp_path / "images" / domain / f"c{n:02d}.nii.gz")
        if n % 4:
            label(tmp_path / "labels" / domain / f"c{n:02d}.nii.gz")
    for seed in range(5):
        wish = {"seed": seed, "validation_fraction": 0.3}
        prepared = prepare(tmp_path, tmp_path / "out", **wish)
        plain = open_datalist(tmp_path, **wish)
        for name in LISTS:
            assert getattr(prepared.datalist, name) == getattr(plain, name)


@pytest.mark.parametrize(
    ("images", "labels", "domain"),
    [
        ("images", "labels", "unknown"),
        ("image", "mask", "unknown"),
        ("Images/north", "Masks/north", "north"),
        ("north/image", "north/mask", "north"),
    ],
)
def test_two_folders_of_photographs_by_any_usual_name(tmp_path, images, labels, domain) -> None:
    for n in range(3):
        photo(tmp_path / images / f"e{n}.jpg")
        png(tmp_path / labels / f"e{n}.png", MASK)
    photo(tmp_path / images / "new.tif")
    prepared = prepare(tmp_path, tmp_path / "out")
    assert (prepared.layout, prepared.kind) == ("folder", "photograph")
    expected = {f"{domain}/e{n}": f"{labels}/e{n}.png" for n in range(3)}
    assert labels_of(prepared, tmp_path) == {**expected, f"{domain}/new": None}


def test_pairs_by_suffix_with_domains(tmp_path) -> None:
    for domain in ("", "a"):
        for n in range(3):
            nifti(tmp_path / domain / f"p{n}_x_t2.nii.gz")
        label(tmp_path / domain / "p0_x_seg.nii.gz")
        label(tmp_path / domain / "p2_x_Segmentation.nii.gz")
    (tmp_path / "cases.csv").write_text("any other file")
    prepared = prepare(tmp_path, tmp_path / "out")
    assert prepared.layout == "folder"
    assert labels_of(prepared, tmp_path) == {
        "unknown/p0_x": "p0_x_seg.nii.gz",
        "unknown/p1_x": None,
        "unknown/p2_x": "p2_x_Segmentation.nii.gz",
        "a/p0_x": "a/p0_x_seg.nii.gz",
        "a/p1_x": None,
        "a/p2_x": "a/p2_x_Segmentation.nii.gz",
    }


def test_photographs_with_masks_beside(tmp_path) -> None:
    for n in range(3):
        photo(tmp_path / f"eye{n}.jpg")
        png(tmp_path / f"eye{n}_mask.png", MASK)
    prepared = prepare(tmp_path, tmp_path / "out")
    assert prepared.kind == "photograph"
    assert labels_of(prepared, tmp_path)["unknown/eye1"] == "eye1_mask.png"


def test_a_decathlon_folder(tmp_path) -> None:
    document = {"training": [], "test": ["./imagesTs/z.nii.gz"], "labels": {"0": "background"}}
    nifti(tmp_path / "imagesTs/z.nii.gz")
    for n in range(3):
        nifti(tmp_path / f"imagesTr/c{n}.nii.gz")
        label(tmp_path / f"labelsTr/c{n}.nii.gz")
        paths = {"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"}
        document["training"].append(paths)
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    prepared = prepare(tmp_path, tmp_path / "out")
    assert prepared.layout == "decathlon"
    expected = {f"unknown/c{n}": f"labelsTr/c{n}.nii.gz" for n in range(3)}
    assert labels_of(prepared, tmp_path) == {**expected, "unknown/z": None}
    assert any("count as unlabelled" in note for note in prepared.notes)


def nnunet(root: Path) -> None:
    document = {"channel_names": {"0": "T2"}, "labels": {"background": 0}, "numTraining": 2}
    for n in range(2):
        nifti(root / f"imagesTr/c_{n}_0000.nii.gz")
        label(root / f"labelsTr/c_{n}.nii.gz")
    nifti(root / "imagesTs/z_0000.nii.gz")
    (root / "dataset.json").write_text(json.dumps(document))


def test_an_nnunet_folder(tmp_path) -> None:
    nnunet(tmp_path)
    nifti(tmp_path / "imagesTr/new_0000.nii.gz")
    label(tmp_path / "labelsTs/z.nii.gz")
    prepared = prepare(tmp_path, tmp_path / "out")
    assert prepared.layout == "nnunet"
    assert labels_of(prepared, tmp_path) == {
        "unknown/c_0": "labelsTr/c_0.nii.gz",
        "unknown/c_1": "labelsTr/c_1.nii.gz",
        "unknown/new": None,
        "unknown/z": None,
    }
    assert any("count as unlabelled" in note for note in prepared.notes)


def test_a_decathlon_folder_whose_cases_end_with_four_digits(tmp_path) -> None:
    paths = {"image": "imagesTr/c_0000.nii.gz", "label": "labelsTr/c_0000.nii.gz"}
    nifti(tmp_path / paths["image"])
    label(tmp_path / paths["label"])
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [paths]}))
    prepared = prepare(tmp_path, tmp_path / "out")
    assert labels_of(prepared, tmp_path) == {"unknown/c_0000": paths["label"]}


def test_a_monai_label_folder(tmp_path) -> None:
    for n in range(4):
        nifti(tmp_path / f"c{n}.nii.gz")
    for n in range(3):
        label(tmp_path / f"labels/final/c{n}.nii.gz")
    label(tmp_path / "labels/original/c3.nii.gz")
    (tmp_path / "datastore_v2.json").write_text("{}")
    prepared = prepare(tmp_path, tmp_path / "out")
    assert prepared.layout == "monailabel"
    expected = {f"unknown/c{n}": f"labels/final/c{n}.nii.gz" for n in range(3)}
    assert labels_of(prepared, tmp_path) == {**expected, "unknown/c3": None}


def dicom_tree(root: Path) -> dict[str, np.ndarray]:
    """Three patients, one of them with two series; NIfTI labels for two, a DICOM SEG for one."""
    voxels = {}
    for patient, name in (("A", "T2"), ("B", "T2"), ("B", "ADC"), ("C", "T2")):
        affine = AFFINE if name == "T2" else np.diag([0.5, 0.5, 4.0, 1.0])
        voxels[f"{patient}_{name}"] = series(root / patient / name, patient=patient, affine=affine)
    label(root / "A" / "seg_of_a.nii.gz")
    label(root / "B" / "b_label.nii.gz", affine=np.diag([0.5, 0.5, 4.0, 1.0]))
    nifti(root / "B" / "converted.nii.gz")
    return voxels


def segments(shape: tuple[int, ...] = (4, 5, 3)) -> dict[int, np.ndarray]:
    """A large, a small and a medium segment (X, Y, Z) that overlap."""
    large, small, medium = np.zeros((3, *shape), dtype=bool)
    large[:, :, :2] = True
    small[1, 1, 0] = small[1, 1, 2] = True
    medium[1, :, 0] = True
    return {2: large, 5: small, 7: medium}


def as_frames(parts: dict[int, np.ndarray], folder: Path) -> dict[int, np.ndarray]:
    """Returns (slices, rows, columns) in the order of the files of the series."""
    heights = [float(pydicom.dcmread(p).ImagePositionPatient[2]) for p in sorted(folder.iterdir())]
    _, affine = read_case(folder)
    order = [round((z - affine[2, 3]) / affine[2, 2]) for z in heights]
    return {n: part.transpose(2, 1, 0)[order] for n, part in parts.items()}


def test_a_dicom_tree_with_both_kinds_of_label(tmp_path) -> None:
    root = tmp_path / "in"
    dicom_tree(root)
    parts = segments()
    dicom_seg(root / "C" / "seg" / "1.dcm", root / "C/T2", as_frames(parts, root / "C/T2"))
    prepared = prepare(root, tmp_path / "out", validation_fraction=0)
    assert (prepared.layout, prepared.kind) == ("dicom", "volume")
    found = {entry["case"]: entry for entry in prepared.datalist.labeled}
    assert set(found) == {"A_T2", "B_ADC", "C_T2"}
    assert [entry["case"] for entry in prepared.datalist.unlabeled] == ["B_T2"]
    assert {entry["domain"] for entry in found.values()} == {"ACME-Inc-One-T"}
    assert found["B_ADC"]["patient"] == prepared.datalist.unlabeled[0]["patient"]
    assert found["B_ADC"]["label"] == str(root / "B/b_label.nii.gz")
    assert "B" not in {entry["patient"] for entry in found.values()}

    image, affine = read_case(root / "C/T2")
    converted = nib.load(found["C_T2"]["label"])
    np.testing.assert_allclose(converted.affine, affine, atol=1e-5)
    expected = np.zeros(image.shape, int)
    for number in (2, 7, 5):  # by size: the smallest is painted last
        expected[parts[number]] = number
    np.testing.assert_array_equal(np.asarray(converted.dataobj), expected)
    notes = "\n".join(prepared.notes)
    assert "values 2 Part 2, 5 Part 5, 7 Part 7; 5 voxels in several segments" in notes
    assert "let be: B/converted.nii.gz" in notes
    assert "typed by somebody" not in (tmp_path / "out/datalist.json").read_text()


def test_one_patient_of_a_dicom_tree_stays_on_one_side(tmp_path) -> None:
    root = tmp_path / "in"
    for patient in "ABCD":
        for visit in "12":
            series(root / patient / visit, patient=patient)
            label(root / patient / visit / "label.nii.gz")
    wish = {"validation_fraction": 0.25, "test_fraction": 0.25}
    lists = prepare(root, tmp_path / "out", **wish).datalist
    for name, count in (("labeled", 4), ("validation", 2), ("test", 2)):
        entries = getattr(lists, name)
        assert len(entries) == count
        assert len({entry["patient"] for entry in entries}) == count // 2


def test_series_of_one_folder_are_parted_by_copying(tmp_path) -> None:
    root, made = tmp_path / "in", tmp_path / "made"
    voxels = {patient: series(made / patient, patient=patient) for patient in "ABC"}
    dicom_seg(root / "seg" / "1.dcm", made / "A", {1: np.ones((3, 5, 4), bool)})
    for file in sorted(made.rglob("*.dcm")):
        file.rename(root / f"{file.parent.name}{file.stem}")
    with pytest.raises(DataError, match=r"several DICOM series: .*--copy"):
        prepare(root, tmp_path / "out")
    lists = prepare(root, tmp_path / "out", copy=True).datalist
    (entry,) = lists.labeled
    assert Path(entry["image"]).is_relative_to(tmp_path / "out" / "images")
    np.testing.assert_array_equal(
        np.sort(read_case(entry["image"])[0], None), np.sort(voxels["A"], None)
    )
    assert len(lists.unlabeled) == 2


def two(root: Path, *names: str) -> None:
    for name in names:
        nifti(root / name)


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "no image at all",
        lambda root: (root / "notes.txt").write_text("x"),
        "unknown layout: .*; got 1 files; expected saml: .*; midss-prostate: .*dicom: DICOM files",
    ),
    (
        "volumes and photographs",
        lambda root: (
            (two(root, "images/a.nii"), photo(root / "images/b.png"))
            and label(root / "labels/a.nii")
        ),
        "volumes and photographs in one data set",
    ),
    (
        "label without image",
        lambda root: (two(root, "images/case1.nii"), label(root / "labels/cases1.nii")),
        r"label without image: .*labels/cases1\.nii; .*the closest image is .*images/case1\.nii",
    ),
    (
        "two images of one name",
        lambda root: (two(root, "images/a.nii", "images/a.nii.gz"), label(root / "labels/a.nii")),
        r"two files for one case: .*images/a\.nii\.gz; got also .*images/a\.nii",
    ),
    (
        "two label folders",
        lambda root: (
            two(root, "images/a.nii"),
            label(root / "labels/a.nii"),
            label(root / "masks/a.nii"),
        ),
        "several folders of labels: .*got labels, masks",
    ),
    (
        "a domain above and below",
        lambda root: (two(root, "n/images/s/a.nii"), label(root / "n/labels/s/a.nii")),
        r"image at the wrong depth: .*a\.nii; expected n/images/case",
    ),
    (
        "no labelled case",
        lambda root: (
            (two(root, "images/a.nii"), (root / "labels").mkdir())
            and (root / "labels/x.txt").touch()
        ),
        "no labelled case",
    ),
    (
        "pair: label without image",
        lambda root: (two(root, "a_t2.nii"), label(root / "b_seg.nii")),
        r"label without image: .*b_seg\.nii; expected one image b or b_word",
    ),
    (
        "pair: two images",
        lambda root: (two(root, "a_t2.nii", "a_adc.nii"), label(root / "a_seg.nii")),
        "label of several images: .*; got a_adc, a_t2",
    ),
    (
        "pair: two words",
        lambda root: (
            two(root, "a_t2.nii", "b_adc.nii"),
            label(root / "a_seg.nii"),
            label(root / "b_seg.nii"),
        ),
        r"images of several kinds: .*; got b_adc\.nii and a_t2\.nii",
    ),
    (
        "pair: another word without label",
        lambda root: (two(root, "a_t2.nii", "b_adc.nii"), label(root / "a_seg.nii")),
        r"image of another name: .*b_adc\.nii; expected a name with '_t2'",
    ),
    (
        "pair: two labels",
        lambda root: (
            two(root, "a_t2.nii"),
            label(root / "a_seg.nii"),
            label(root / "a_label.nii"),
        ),
        "two files for one case",
    ),
    (
        "pair: too deep",
        lambda root: (two(root, "x/y/a.nii"), label(root / "x/y/a_seg.nii")),
        "image at the wrong depth: .*; expected case or domain/case",
    ),
    (
        "decathlon: malformed",
        lambda root: (root / "dataset.json").write_text('{"training": {}}'),
        'malformed dataset.json: .*; expected "training" a list',
    ),
    (
        "decathlon: another tool's",
        lambda root: (root / "dataset.json").write_text('{"channel_names": {}, "labels": {}}'),
        'malformed dataset.json: .*; got the keys channel_names, labels; .*"training".*nnU-Net',
    ),
    (
        "nnunet: two channels",
        lambda root: (nnunet(root), nifti(root / "imagesTr/c_1_0001.nii.gz")),
        r"several channels of one case: .*c_1_0001\.nii\.gz; .*_0000; copy",
    ),
    (
        "nnunet: no channel",
        lambda root: (nnunet(root), nifti(root / "imagesTs/y.nii.gz")),
        r"image without the number of a channel: .*y\.nii\.gz",
    ),
    (
        "nnunet: label without image",
        lambda root: (nnunet(root), label(root / "labelsTr/z.nii.gz")),
        r"label without image: .*labelsTr.z\.nii\.gz; expected an image z_0000 in imagesTr",
    ),
    (
        "nnunet: two files",
        lambda root: (nnunet(root), nifti(root / "imagesTs/c_1_0000.nii.gz")),
        r"two files for one case: .*c_1_0000\.nii\.gz",
    ),
    (
        "decathlon: outside",
        lambda root: (root / "dataset.json").write_text('{"test": ["../a.nii.gz"]}'),
        "file of dataset.json is not in the folder",
    ),
    (
        "decathlon: twice",
        lambda root: (
            two(root, "a.nii"),
            (root / "dataset.json").write_text('{"test": ["a.nii", "./a.nii"]}'),
        ),
        r"image listed twice: .*a\.nii",
    ),
    (
        "monailabel: label without image",
        lambda root: (two(root, "a.nii"), label(root / "labels/final/b.nii")),
        r"label without image: .*final/b\.nii; expected an image b",
    ),
    (
        "dicom: label of another grid",
        lambda root: (
            series(root / "T2", patient="A"),
            label(root / "label.nii", affine=np.diag([1.0, 1, 3, 1])),
        ),
        r"label without image: .*label\.nii; expected one series of its grid",
    ),
    (
        "dicom: two labels",
        lambda root: (
            series(root / "T2", patient="A"),
            label(root / "label.nii"),
            label(root / "seg.nii"),
        ),
        r"two labels of one series: .*seg\.nii; got another one of .*T2",
    ),
    (
        "saml: no site",
        lambda root: (two(root, "HK/a.nii", "north/b.nii"), label(root / "HK/a_segmentation.nii")),
        "unknown domain: .*north; got 'north'",
    ),
    (
        "two public layouts",
        lambda root: (
            two(root, "HK/a.nii"),
            label(root / "HK/a_segmentation.nii"),
            (root / "dataset.json").touch(),
        ),
        "ambiguous layout: .*; got saml .*, decathlon .*; .*--layout",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in REFUSED])
def test_what_cannot_be_told_is_refused(tmp_path, spoil, message) -> None:
    (tmp_path / "in").mkdir()
    spoil(tmp_path / "in")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_unreadable_images_are_named_at_once(tmp_path) -> None:
    for n in range(3):
        nifti(tmp_path / "images" / f"c{n}.nii")
        label(tmp_path / "labels" / f"c{n}.nii")
    for n in (0, 2):
        (tmp_path / "images" / f"c{n}.nii").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"(?s)cannot be read:.*c0\.nii.*c2\.nii") as caught:
        prepare(tmp_path, tmp_path / "out")
    assert "c1.nii" not in str(caught.value)


def test_files_that_are_passed_over_are_told_and_stay_in_the_data_list(tmp_path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        nifti(root / "images" / f"{name}.nii.gz")
        label(root / "labels" / f"{name}.nii.gz")
    silent = prepare(root, out).notes
    for name in ("a.mha", "c.nrrd", "d.nrrd", ".e.nrrd", "notes.txt"):  # a has been converted
        (root / "images" / name).write_bytes(b"")
    told = (
        "2 files in images not used, because the format is not read (the first is c.nrrd): "
        "convert to NIfTI"
    )
    assert prepare(root, out).notes == (*silent, told)
    assert open_datalist(out).notes == (*silent, told)


def test_what_was_converted_is_not_told(tmp_path) -> None:
    root = tmp_path / "in"
    nifti(root / "a_t2.nii.gz")
    label(root / "a_seg.nii.gz")
    silent = prepare(root, tmp_path / "out").notes
    for name in ("a_t2.mha", "a_seg.nrrd"):
        (root / name).write_bytes(b"")
    assert prepare(root, tmp_path / "out").notes == silent
    (root / "b_t2.mha").write_bytes(b"")
    assert len(prepare(root, tmp_path / "out").notes) == len(silent) + 1
