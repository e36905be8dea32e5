"""The public layouts, each from a small tree in its own encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dim_monai.data.datalist import LISTS
from dim_monai.data.prepare.prepare import Prepared, prepare
from dim_monai.errors import DataError
from tests.data.prepare.trees import class_of, grey_slice, label, nifti, photo, png

PARTS = ("train", "test")


def entries(prepared: Prepared) -> list[dict[str, str]]:
    return [entry for name in LISTS for entry in getattr(prepared.datalist, name)]


def names(prepared: Prepared, which: str) -> list[str]:
    return sorted(f"{e['domain']}/{e['case']}" for e in getattr(prepared.datalist, which))


def fundus(root: Path, per_part: int = 4, container: str = "") -> np.ndarray:
    """Masks: rows of cup (0), rim (128), background (255), grey stored as RGB; returns classes."""
    values = np.repeat(np.array([[0], [128], [128], [255], [255], [255]], np.uint8), 5, axis=1)
    for domain in ("Domain1", "Domain2"):
        for part in PARTS:
            for n in range(per_part):
                folder = root / container / domain / part / "ROIs"
                photo(folder / "image" / f"g{n}.png")
                png(folder / "mask" / f"g{n}.png", np.repeat(values[..., None], 3, axis=2))
    return np.repeat(np.array([[2], [1], [1], [0], [0], [0]]), 5, axis=1)


def prostate(root: Path, volumes: int = 4, test_from: int = 4) -> np.ndarray:
    """Masks: gland 0 on background 255; volume numbers of test begin at `test_from`."""
    values = np.full((6, 5), 255, np.uint8)
    values[2:4, 1:3] = 0
    for site in ("BIDMC", "HCRUDB"):
        for part, first in (("train", 0), ("test", test_from)):
            for volume in range(first, first + volumes):
                for n in range(2):
                    name = f"{volume:02d}_{n:02d}.png"
                    grey_slice(root / site / part / "image" / name)
                    png(root / site / part / "mask" / name, values)
    return (values == 0).astype(int)


def mnms(root: Path) -> np.ndarray:
    colours = np.zeros((6, 5, 3), np.uint8)
    colours[0, :, 0] = colours[1, :, 1] = colours[2, :, 2] = 255
    for vendor in "AB":
        for part in PARTS:
            for n in range(4):
                folder = root / f"vendor{vendor}" / part
                grey_slice(folder / "image" / f"{n:06d}.png")
                png(folder / "mask" / f"{n:06d}.png", colours)
    return np.repeat(np.array([[1], [2], [3], [0], [0], [0]]), 5, axis=1)


def busi(root: Path, counts: dict[str, int]) -> np.ndarray:
    one, two = np.zeros((6, 5), np.uint8), np.zeros((6, 5), np.uint8)
    one[0], two[:, 0] = 255, 255
    for domain, count in counts.items():
        for n in range(count):
            photo(root / domain / f"{domain} ({n + 1}).png")
            mask = root / domain / f"{domain} ({n + 1})_mask.png"
            Image.fromarray(one > 0).save(png(mask, one))  # one bit a pixel
            if n % 2 == 0:
                rgba = np.dstack([two, two, two, np.full_like(two, 255)])
                png(root / domain / f"{domain} ({n + 1})_mask_1.png", rgba)
    return np.maximum(one, two) // 255


@pytest.mark.parametrize("container", ["", "Fundus"])
def test_fundus_masks_become_rim_and_cup_and_folders_are_kept(tmp_path, container) -> None:
    classes = fundus(tmp_path / "in", container=container)
    prepared = prepare(tmp_path / "in", tmp_path / "out", labeled_domain="Domain1", labeled=2)
    assert (prepared.layout, prepared.kind) == ("midss-fundus", "photograph")
    assert names(prepared, "test") == sorted(
        f"{domain}/test_g{n}" for domain in ("Drishti-GS", "RIM-ONE-r3") for n in range(4)
    )
    assert prepared.counts["labeled"] == {"Drishti-GS": 2}
    assert prepared.counts["unlabeled"] == {"Drishti-GS": 1, "RIM-ONE-r3": 4}
    assert prepared.counts["validation"] == {"Drishti-GS": 1}
    for entry in entries(prepared):
        part, name = entry["case"].split("_")
        domain = {"Drishti-GS": "Domain1", "RIM-ONE-r3": "Domain2"}[entry["domain"]]
        where = tmp_path / "in" / container / domain / part / "ROIs/image" / f"{name}.png"
        assert entry["image"] == str(where)
        if "label" in entry:
            np.testing.assert_array_equal(class_of(entry["label"]), classes)


def test_prostate_masks_are_inverted_and_volumes_are_patients(tmp_path) -> None:
    classes = prostate(tmp_path / "in")
    prepared = prepare(tmp_path / "in", tmp_path / "out", labeled_domain="I2CVB")
    assert prepared.layout == "midss-prostate"
    assert set(prepared.counts["test"]) == {"BIDMC", "I2CVB"}
    assert prepared.counts["validation"] == {"I2CVB": 2}  # one of four volumes, both its slices
    assert prepared.counts["labeled"] == {"I2CVB": 6}
    for entry in entries(prepared):
        volume = entry["case"].split("_")[1]
        assert entry["patient"] == f"{entry['domain']}/{volume}"
        if "label" in entry:
            np.testing.assert_array_equal(class_of(entry["label"]), classes)


def test_a_volume_of_the_test_folder_does_not_train(tmp_path) -> None:
    prostate(tmp_path / "in", volumes=4, test_from=3)
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    trained = {e["patient"] for e in (*prepared.datalist.labeled, *prepared.datalist.unlabeled)}
    assert not trained & {"BIDMC/03", "I2CVB/03"}
    assert any(note.startswith("left out: 4 images") for note in prepared.notes)


def test_colours_of_mnms_become_its_three_structures(tmp_path) -> None:
    classes = mnms(tmp_path / "in")
    prepared = prepare(tmp_path / "in", tmp_path / "out", labeled_domain="b")
    assert prepared.layout == "midss-mnms"
    assert set(prepared.counts["labeled"]) == {"vendorB"}
    assert any("patients are not known" in note for note in prepared.notes)
    for entry in prepared.datalist.labeled:
        np.testing.assert_array_equal(class_of(entry["label"]), classes)


def test_masks_of_busi_are_united(tmp_path) -> None:
    both = busi(tmp_path / "in", {"benign": 6, "malignant": 5})
    photo(tmp_path / "in" / "normal" / "normal (1).png")
    prepared = prepare(tmp_path / "in", tmp_path / "out", test_fraction=0.3)
    assert prepared.layout == "busi"
    assert prepared.counts["test"] == {"benign": 2, "malignant": 2}  # round(1.8), round(1.5)
    assert sum(sum(c.values()) for c in prepared.counts.values()) == 11
    assert any("left out: 1 files of normal" in note for note in prepared.notes)
    for entry in entries(prepared):
        number = int(entry["case"].split("(")[1].rstrip(")"))
        expected = both if number % 2 else (np.arange(6) == 0)[:, None].repeat(5, axis=1)
        np.testing.assert_array_equal(class_of(entry["label"]), expected)


def test_saml_volumes_by_site(tmp_path) -> None:
    for site in ("HK", "I2CVB"):
        for n in range(4):
            nifti(tmp_path / "in" / site / f"Case{n:02d}.nii.gz")
            label(tmp_path / "in" / site / f"Case{n:02d}_Segmentation.nii.gz")
    nifti(tmp_path / "in/HK/Case09.nii.gz")
    prepared = prepare(tmp_path / "in", tmp_path / "out", labeled_domain="HCRUDB", labeled=1)
    assert (prepared.layout, prepared.kind) == ("saml", "volume")
    assert prepared.counts["labeled"] == {"I2CVB": 1}
    assert prepared.counts["unlabeled"] == {"HK": 5, "I2CVB": 2}
    (entry,) = prepared.datalist.labeled
    assert entry["label"] == entry["image"].replace(".nii", "_Segmentation.nii")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["datalist.json"]


def test_the_reference_protocol_takes_the_first_files(tmp_path) -> None:
    prostate(tmp_path / "in", volumes=2, test_from=1)
    wish = {"labeled_domain": "BIDMC", "labeled": 3, "paper_protocol": True}
    prepared = prepare(tmp_path / "in", tmp_path / "out", **wish)
    assert names(prepared, "labeled") == [f"BIDMC/train_{v}" for v in ("00_00", "00_01", "01_00")]
    assert prepared.counts["validation"] == {}
    assert prepared.counts["unlabeled"] == {"BIDMC": 1, "I2CVB": 4}
    assert prepared.counts["test"] == {"BIDMC": 4, "I2CVB": 4}
    assert prepared.notes[0].startswith("selected on test data")
    assert any("4 training images show patients" in note for note in prepared.notes)
    assert prepared.datalist.facts["protocol"] == "reference"


def test_the_reference_protocol_of_busi_tests_the_last_fifth(tmp_path) -> None:
    busi(tmp_path / "in", {"benign": 11, "malignant": 5})
    wish = {"labeled_domain": "benign", "labeled": 1, "paper_protocol": True}
    prepared = prepare(tmp_path / "in", tmp_path / "out", **wish)
    # Sorted by name, 10 and 11 come before 2.
    assert names(prepared, "test") == [
        "benign/benign (8)",
        "benign/benign (9)",
        "malignant/malignant (5)",
    ]
    assert names(prepared, "labeled") == ["benign/benign (1)"]


def spoil_colour(root: Path) -> None:
    png(root / "Domain1/train/ROIs/mask/g0.png", np.full((6, 5), 127, np.uint8))


REFUSED = [
    (spoil_colour, r"not in the code of its layout: .*mask/g0\.png; got grey values 127"),
    (
        lambda root: (root / "Domain1/train/ROIs/mask/g0.png").unlink(),
        r"image without mask: .*image/g0\.png",
    ),
    (
        lambda root: (root / "Domain1/train/ROIs/image/g0.png").unlink(),
        r"label without image: .*mask/g0\.png",
    ),
    (
        lambda root: (root / "Domain2").rename(root / "Domain7"),
        "unknown domain: .*Domain7.*; got 'Domain7'; expected one of Drishti-GS",
    ),
    (
        lambda root: (root / "Domain1/train/ROIs/image/g0.png").write_bytes(b"\x89PNG"),
        r"nothing was written, these images cannot be read:\n .*image/g0\.png",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED)
def test_a_damaged_collection_is_refused_and_nothing_is_written(tmp_path, spoil, message) -> None:
    fundus(tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_of_one_image_have_one_size(tmp_path) -> None:
    busi(tmp_path / "in", {"benign": 4})
    png(tmp_path / "in/benign/benign (1)_mask_1.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"mask_1\.png; got size \(5, 5\); expected \(5, 6\)"):
        prepare(tmp_path / "in", tmp_path / "out", validation_fraction=0)


def test_a_colour_that_is_no_structure_is_refused(tmp_path) -> None:
    mnms(tmp_path / "in")
    for path in (tmp_path / "in").rglob("mask/000000.png"):
        png(path, np.full((6, 5, 3), 255, np.uint8))
    with pytest.raises(DataError, match=r"got RGB \[255, 255, 255\]; expected black, pure red"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_a_slice_names_its_volume(tmp_path) -> None:
    prostate(tmp_path / "in")
    for folder in ("image", "mask"):
        where = tmp_path / "in/BIDMC/train" / folder
        (where / "00_00.png").rename(where / "first.png")
    with pytest.raises(DataError, match=r"slice without the number of its volume: .*first\.png"):
        prepare(tmp_path / "in", tmp_path / "out")
