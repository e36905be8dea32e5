"""One image under several names is found, on whichever sides, and no other image is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dim_monai.data.checks import check_cases, check_dataset, equal, require_sound
from dim_monai.data.datalist import open_datalist
from dim_monai.data.labels import LabelMapping
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.data.checks.sets import AFFINE, SHAPE, entry, gland, ramp, save, state

PROSTATE = LabelMapping({"background": [0], "prostate": [1, 2]})


def codes(root: Path) -> list[str]:
    checked = check_dataset(root, PROSTATE)
    return [found.code for found in (*checked.faults, *checked.remarks)]


def cases(root: Path, **images: np.ndarray) -> Path:
    for name, image in images.items():
        save(root / "images" / f"{name}.nii.gz", image)
        save(root / "labels" / f"{name}.nii.gz", gland())
    return root


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("labeled", "labeled", "R006"),
        ("labeled", "unlabeled", "R006"),
        ("labeled", "validation", "D011"),
        ("labeled", "test", "D011"),
        ("unlabeled", "validation", "D011"),
        ("unlabeled", "test", "D011"),
        ("validation", "validation", "R006"),
        ("validation", "test", "D011"),
        ("test", "test", "R006"),
    ],
)
def test_sides_decide(tmp_path: Path, first: str, second: str, code: str) -> None:
    root = cases(tmp_path, a=ramp(1), b=ramp(1), z=ramp())
    lists: dict[str, list[dict[str, str]]] = {"labeled": [entry("z")]}
    for name, split in (("a", first), ("b", second)):
        lists.setdefault(split, []).append(entry(name, split != "unlabeled"))
    state(root, **lists)
    assert [found for found in codes(root) if found != "R002"] == [code]


def test_five_copies_are_one_line(tmp_path: Path) -> None:
    root = cases(tmp_path, z=ramp(), **{f"copy{n}": ramp(1) for n in range(5)})
    copies = [entry(f"copy{n}") for n in range(5)]
    state(root, labeled=[entry("z"), *copies])
    (remark,) = check_dataset(root, PROSTATE).remarks
    assert (remark.code, remark.file) == ("R006", str(root / "images/copy1.nii.gz"))
    assert str(remark.got).endswith(", 5 in all")
    state(root, labeled=[entry("z"), *copies[:3]], test=copies[3:])
    (fault,) = check_dataset(root, PROSTATE).faults
    assert (fault.code, fault.file) == ("D011", str(root / "images/copy3.nii.gz"))
    assert "copy0.nii.gz (labeled) and " in str(fault.got)
    assert "copy3.nii.gz (test), 5 in all" in str(fault.got)


@pytest.mark.parametrize(
    "other",
    [
        ramp()[::-1],
        ramp()[:, ::-1],
        ramp().reshape(SHAPE[1], SHAPE[0], SHAPE[2]),
        np.where(ramp() == 7, 7.5, ramp()).astype(np.float32),
    ],
    ids=["flipped", "flipped otherwise", "of another shape", "another voxel"],
)
def test_an_image_like_another_is_not_equal(tmp_path: Path, other: np.ndarray) -> None:
    root = tmp_path / "images"
    save(root / "a.nii.gz", ramp())
    save(root / "b.nii.gz", other)
    assert codes(root) == ["R004"]


@pytest.mark.parametrize("stored", [np.int16, np.float64])
def test_the_format_of_the_file_does_not_matter(tmp_path: Path, stored: type) -> None:
    image = np.random.default_rng(0).permutation(ramp().ravel()).reshape(SHAPE)
    save(tmp_path / "a.nii.gz", image)
    save(tmp_path / "b.nii", image.astype(stored))
    write_series(tmp_path / "c", image, AFFINE, seed_uid="c")
    remark = check_dataset(tmp_path).remarks[-1]
    assert remark.code == "R006"
    assert str(remark.got).endswith(", 3 in all")


def test_empty_images_are_no_copies(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.nii.gz", np.full(SHAPE, 7.0))
    assert codes(tmp_path) == ["D103", "D103", "R004"]


def test_one_file_listed_twice_is_no_copy(tmp_path: Path) -> None:
    root = cases(tmp_path, a=ramp())
    (root / "images" / "b.nii.gz").symlink_to(root / "images" / "a.nii.gz")
    state(root, labeled=[entry("a")], test=[{**entry("a"), "image": "images/b.nii.gz"}])
    assert "D004" in codes(root)
    assert "D011" not in codes(root)


def test_an_image_without_a_likeness_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cases(tmp_path, a=ramp(), b=ramp(1), c=ramp(2))

    def refuse(_: object) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(equal, "pixel_hash", refuse)
    assert codes(root) == []
    # Nor does a training, at every start, look closer at copies that do no harm.
    shutil.copy(root / "images/a.nii.gz", root / "images/d.nii.gz")
    state(root, labeled=[entry("a"), entry("b")], unlabeled=[entry("d", False)])
    require_sound(open_datalist(root).for_training(), PROSTATE)


def test_training_refuses_copies_that_it_remembers_as_sound(tmp_path: Path) -> None:
    """Each case alone is sound: what is remembered of it must not hide its copy."""
    root = cases(tmp_path / "set", a=ramp(), b=ramp(1))
    state(root, labeled=[entry("a")], validation=[entry("b")])
    cache_dir = str(tmp_path / "cache")
    require_sound(open_datalist(root).for_training(), PROSTATE, cache_dir=cache_dir)
    shutil.copy(root / "images/a.nii.gz", root / "images/c.nii.gz")
    shutil.copy(root / "labels/a.nii.gz", root / "labels/c.nii.gz")
    state(root, labeled=[entry("a")], validation=[entry("b"), entry("c")])
    datalist = open_datalist(root).for_training()
    assert [fault.code for fault in check_cases(datalist, PROSTATE)] == ["D011"]
    with pytest.raises(DataError, match=r"1 fault:\n  D011 .*images/c\.nii\.gz"):
        require_sound(datalist, PROSTATE, cache_dir=cache_dir)
