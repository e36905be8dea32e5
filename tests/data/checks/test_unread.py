"""Images in a format that is not read do not vanish without a word, and nothing else is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dim_monai.data.checks import check_dataset
from dim_monai.data.datalist import open_datalist
from dim_monai.data.kinds import PHOTOGRAPH, VOLUME, Kind
from dim_monai.data.unread import unread_images
from dim_monai.dicom.series import find_cases
from dim_monai.errors import DataError
from tests.data.checks.sets import entry, gland, photographs, save, state, volumes


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def remarks(root: Path, kind: str = "volume") -> list[tuple[str, str | None, object]]:
    checked = check_dataset(root, kind=kind)
    assert checked.faults == ()
    return [(remark.code, remark.file, remark.got) for remark in checked.remarks]


@pytest.mark.parametrize(
    ("kind", "named", "passed_over"),
    [
        (
            VOLUME,
            [
                "a.mha",
                "b.MHD",
                "c.nrrd",
                "d.nhdr",
                "e.img",
                "e.hdr",
                "f.mgz",
                "g.mgh",
                "h.mnc",
                "i.img.gz",
            ],
            ["notes.txt", "a.json", "a.csv", ".DS_Store", ".a.mha", "preview.png", "mha", "a.nii"],
        ),
        (
            PHOTOGRAPH,
            ["a.bmp", "b.GIF", "c.webp", "d.jp2", "e.heic", "f.dcm"],
            ["notes.txt", "a.json", "a.csv", ".DS_Store", "._a.bmp", "Thumbs.db", "a.png", "a.xml"],
        ),
    ],
)
def test_only_what_is_an_image_by_its_name_is_named(
    tmp_path: Path, kind: Kind, named: list[str], passed_over: list[str]
) -> None:
    touch(tmp_path, *named, *passed_over, ".cache/z.mha", ".cache/z.bmp")
    assert unread_images(tmp_path, [], kind) == {
        tmp_path: [tmp_path / name for name in sorted(named)]
    }


def test_a_whole_site_is_not_lost(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    touch(root, "images/far/k.mha", "images/far/j.mha", "images/near/z.nrrd")
    assert remarks(root) == [
        ("R005", str(root / "images/far"), "2 files, the first j.mha"),
        ("R005", str(root / "images/near"), "1 file, the first z.nrrd"),
    ]


def test_a_converted_image_is_not_missing(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    touch(root, "images/a.mha", "images/c.nrrd")  # beside a.nii.gz, and c, a DICOM series
    assert remarks(root) == []
    eyes = photographs(tmp_path / "eyes")
    touch(eyes, "images/a.bmp")
    assert remarks(eyes, "photograph") == []


def test_a_data_list_says_what_is_used_and_any_folder_does_not(tmp_path: Path) -> None:
    root = volumes(tmp_path / "set")
    touch(root, "images/x/z.mha")
    state(root, labeled=[entry("a")], unlabeled=[entry("b", False)])
    assert remarks(root) == [("R002", str(root / "labels"), "1, the first c.nii.gz")]
    found = remarks(root / "images")
    assert ("R005", str(root / "images/x"), "1 file, the first z.mha") in found
    assert remarks(root / "images" / "a.nii.gz")[0][0] == "R004"


def test_a_label_of_an_unread_image_names_the_image_and_is_told_once(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    touch(root, "images/far/a1.mha")
    save(root / "labels" / "far" / "a1.nii.gz", gland())
    checked = check_dataset(root)
    (fault,) = checked.faults
    assert (fault.code, fault.file) == ("D008", str(root / "labels/far/a1.nii.gz"))
    assert str(root / "images/far/a1.mha") in str(fault)
    assert "convert" in str(fault)
    assert "closest" not in str(fault)
    assert [remark.code for remark in checked.remarks] == ["R005"]
    with pytest.raises(DataError, match=r"label without image: .*a1\.nii\.gz; .*a1\.mha"):
        open_datalist(root)


def test_a_label_without_any_image_is_told_once(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    save(root / "labels" / "aa.nii.gz", gland())
    checked = check_dataset(root)
    assert [found.code for found in (*checked.faults, *checked.remarks)] == ["D008"]


@pytest.mark.parametrize("links", [False, True])
def test_a_folder_that_cannot_be_used_is_told_as_before(tmp_path: Path, links: bool) -> None:
    root = volumes(tmp_path)
    touch(root, "images/x/z.mha")
    if links:
        (root / "images" / "more").symlink_to(tmp_path)
    else:
        for case in ("a.nii.gz", "b.nii.gz", "c"):
            (root / "images" / case).rename(root / case)
    checked = check_dataset(root)
    assert [fault.code for fault in checked.faults] == ["D001"]
    assert [remark.code for remark in checked.remarks] == ["R005"]


def test_a_folder_of_unread_images_alone_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "x/b.mha", "x/a.nrrd", "x/c.txt")
    with pytest.raises(DataError, match=r"no case found: .*got 2 .*the first a\.nrrd"):
        find_cases(tmp_path)
    touch(tmp_path, "eyes/b.bmp")
    with pytest.raises(DataError, match=r"no case found: .*got 1 .*the first b\.bmp"):
        PHOTOGRAPH.find(tmp_path / "eyes")
