"""What `prepare` writes, where, and what it refuses to write."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dim_monai.data.prepare.prepare as module
from dim_monai.data.datalist import LISTS, hashed, load_saved_datalist, open_datalist
from dim_monai.data.prepare.prepare import prepare
from dim_monai.data.prepare.tree import list_tree
from dim_monai.errors import ConfigError, DataError
from tests.data.prepare.trees import dicom_seg, label, nifti, photo, png, series


def eyes(root: Path, count: int = 6, labelled: int = 5) -> Path:
    for n in range(count):
        photo(root / "images" / f"e{n}.png")
        if n < labelled:
            png(root / "labels" / f"e{n}.png", np.eye(6, 5, dtype=np.uint8))
    return root


def busi(root: Path) -> Path:
    for n in range(5):
        photo(root / "benign" / f"b{n}.png")
        png(root / "benign" / f"b{n}_mask.png", np.eye(6, 5, dtype=np.uint8) * 255)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path) -> None:
    root = tmp_path / "in"
    for patient in "ABC":
        series(root / patient / "T2", patient=patient)
        dicom_seg(
            root / patient / "s" / "1.dcm", root / patient / "T2", {1: np.ones((3, 5, 4), bool)}
        )
    wish = {"seed": 3, "command": "dim-monai prepare in --out out"}
    prepare(root, tmp_path / "out", **wish)
    first = content(tmp_path / "out")
    assert sum(name.endswith(".nii.gz") for name in first) == 3
    prepare(root, tmp_path / "out", **wish)
    prepare(root, tmp_path / "other", **wish)
    assert content(tmp_path / "out") == content(tmp_path / "other") == first


def test_the_source_is_only_read(tmp_path) -> None:
    root = busi(tmp_path / "in")
    before = content(root)
    for path in (*root.rglob("*"), root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    prepare(root, tmp_path / "out", copy=True)
    assert content(root) == before
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)  # so that pytest can clear up


def test_the_data_list_says_how_it_was_made(tmp_path) -> None:
    eyes(tmp_path / "in")
    wish = {"labeled": 2, "seed": 4, "test_fraction": 0.3, "command": "the command line"}
    prepare(tmp_path / "in", tmp_path / "out", **wish)
    document = json.loads((tmp_path / "out/datalist.json").read_text())
    assert {key: document[key] for key in document if key not in LISTS} == {
        "layout": "folder",
        "kind": "photograph",
        "protocol": "held out by patient",
        "seed": 4,
        "labeled_cases": 2,
        "validation_fraction": 0.2,
        "test_fraction": 0.3,
        "command": "the command line",
        "source": "prepared from the layout folder",
        "notes": [],
    }
    first = document["labeled"][0]
    assert first["image"].startswith("../in/images/e")
    name = first["case"]
    for key, kind in (("image", "images"), ("label", "labels")):
        raw = (tmp_path / "in" / kind / f"{name}.png").read_bytes()
        assert first[f"{key}_sha256"] == hashlib.sha256(raw).hexdigest()


def test_the_hash_of_a_series_is_that_of_its_files_in_order(tmp_path) -> None:
    for patient in "ABC":
        series(tmp_path / "in" / patient, patient=patient)
        label(tmp_path / "in" / patient / "label.nii.gz")
    lists = prepare(tmp_path / "in", tmp_path / "out").datalist
    for entry in hashed(lists, "labeled"):
        files = sorted(Path(entry["image"]).glob("*.dcm"))
        raw = b"".join(path.read_bytes() for path in files)
        assert entry["image_sha256"] == hashlib.sha256(raw).hexdigest()
        assert "image_sha256" not in lists.labeled[0]


def test_data_and_list_can_be_moved_together(tmp_path) -> None:
    eyes(tmp_path / "a" / "in")
    prepare(tmp_path / "a" / "in", tmp_path / "a" / "out")
    shutil.move(tmp_path / "a", tmp_path / "b")
    lists = open_datalist(tmp_path / "b" / "out")
    assert all(Path(entry["image"]).is_file() for entry in lists.labeled)


def test_the_truth_of_an_unlabelled_case_is_not_reachable(tmp_path) -> None:
    busi(tmp_path / "in")
    prepared = prepare(tmp_path / "in", tmp_path / "out", labeled=1, validation_fraction=0.2)
    unlabelled = [entry["case"] for entry in prepared.datalist.unlabeled]
    assert len(unlabelled) == 3
    written = [path.stem for path in (tmp_path / "out").rglob("*.png")]
    assert not set(written) & set(unlabelled)
    text = (tmp_path / "out" / "datalist.json").read_text()
    assert not any(f"{case}_mask" in text for case in unlabelled)


def test_copies_stand_alone(tmp_path) -> None:
    eyes(tmp_path / "in")
    expected = prepare(tmp_path / "in", tmp_path / "list").datalist
    prepare(tmp_path / "in", tmp_path / "out", copy=True)
    originals = content(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    lists = load_saved_datalist(tmp_path / "out/datalist.json")
    for name in LISTS:
        assert [e["case"] for e in getattr(lists, name)] == [
            e["case"] for e in getattr(expected, name)
        ]
        for entry in getattr(lists, name):
            for key, folder in (("image", "images"), ("label", "labels")):
                if key in entry:
                    path = Path(entry[key])
                    assert path.is_relative_to(tmp_path / "out")
                    assert path.read_bytes() == originals[f"{folder}/{entry['case']}.png"]
    assert not any("label" in entry for entry in lists.unlabeled)


def test_equal_images_are_never_on_two_sides(tmp_path) -> None:
    eyes(tmp_path / "in", count=8, labelled=8)
    for twin, image in (("e5", "e0"), ("e7", "e2")):
        # Another file with the same pixels: the bytes differ.
        pixels = np.asarray(Image.open(tmp_path / "in/images" / f"{image}.png"))
        (tmp_path / "in/images" / f"{twin}.png").unlink()
        png(tmp_path / "in/images" / f"{twin}.tif", pixels)
    for seed in range(12):
        prepared = prepare(tmp_path / "in", tmp_path / "out", seed=seed, test_fraction=0.3)
        lists = prepared.datalist
        sides = ((*lists.labeled, *lists.unlabeled), lists.validation, lists.test)
        where = {entry["case"]: n for n, side in enumerate(sides) for entry in side}
        assert where["e0"] == where["e5"]
        assert where["e2"] == where["e7"]
        note = (
            "4 images are equal pixel for pixel to another one, such as unknown/e0 and unknown/e5"
        )
        assert any(note in text for text in prepared.notes)


def test_progress_is_told_of_every_image(tmp_path) -> None:
    told: list[tuple[int, int]] = []
    eyes(tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out", progress=lambda *done: told.append(done))
    assert told == [(n, 6) for n in range(1, 7)]


def test_counts_and_notes_are_those_of_the_file(tmp_path) -> None:
    eyes(tmp_path / "in", count=3, labelled=2)
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    assert prepared.counts == {
        "labeled": {"unknown": 2},
        "unlabeled": {"unknown": 1},
        "validation": {},
        "test": {},
    }
    assert prepared.notes == open_datalist(tmp_path / "out").notes
    assert prepared.notes[0].startswith("nothing was selected: 2 labelled patients are too few")


def test_a_failure_while_writing_leaves_everything_as_it_was(tmp_path, monkeypatch) -> None:
    root = busi(tmp_path / "in")
    prepare(root, tmp_path / "out")
    before = content(tmp_path / "out")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_datalist", fail)
    for out in ("out", "new"):
        with pytest.raises(DataError, match=r"cannot be written: .*; got No space left"):
            prepare(root, tmp_path / out, seed=1)
    assert content(tmp_path / "out") == before
    assert not (tmp_path / "new").exists()


def test_labels_of_an_earlier_run_do_not_stay(tmp_path) -> None:
    busi(tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out")
    prepare(tmp_path / "in", tmp_path / "out", labeled=1, validation_fraction=0)
    assert len(list((tmp_path / "out" / "labels").rglob("*.png"))) == 1


def test_files_of_another_origin_are_not_replaced(tmp_path) -> None:
    eyes(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "datalist.json").write_text('{"labeled": []}')
    with pytest.raises(DataError, match=r"files of another origin: .*datalist\.json"):
        prepare(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "datalist.json").unlink()
    png(tmp_path / "out" / "labels" / "mine.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match=r"files of another origin: .*labels"):
        prepare(tmp_path / "in", tmp_path / "out", copy=True)
    prepare(tmp_path / "in", tmp_path / "out")  # writes no labels


def test_no_folder_of_files_is_written_into_the_source(tmp_path) -> None:
    for root, wish in ((eyes(tmp_path / "a"), {"copy": True}), (busi(tmp_path / "b"), {})):
        for out in (root, root / "below"):
            with pytest.raises(DataError, match=r"output folder inside the source folder"):
                prepare(root, out, **wish)
    prepare(tmp_path / "a", tmp_path / "a")  # the data list alone may stand there
    assert open_datalist(tmp_path / "a").facts["layout"] == "folder"


def test_an_output_that_is_a_file_is_refused(tmp_path) -> None:
    eyes(tmp_path / "in")
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match=r"output folder cannot be written"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_a_layout_can_be_given(tmp_path) -> None:
    eyes(tmp_path / "in")
    (tmp_path / "in" / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"malformed dataset.json: .*; got no key"):
        prepare(tmp_path / "in", tmp_path / "out")
    assert prepare(tmp_path / "in", tmp_path / "out", layout="folder").layout == "folder"
    with pytest.raises(
        DataError, match=r"no case of the layout midss-fundus: .*; expected Domain1"
    ):
        prepare(tmp_path / "in", tmp_path / "out", layout="midss-fundus")
    with pytest.raises(ConfigError, match=r"unknown layout; got 'foldr'; .* mean 'folder'?"):
        prepare(tmp_path / "in", tmp_path / "out", layout="foldr")
    wish = {"paper_protocol": True, "labeled": 1, "labeled_domain": "unknown"}
    with pytest.raises(ConfigError, match=r"reference protocol knows no such layout; got folder"):
        prepare(tmp_path / "in", tmp_path / "out", layout="folder", **wish)


def test_no_source_is_said(tmp_path) -> None:
    with pytest.raises(DataError, match=r"source folder not found: .*gone"):
        prepare(tmp_path / "gone", tmp_path / "out")


def test_links_inside_the_source_are_followed_once_and_loops_end(tmp_path) -> None:
    for n in range(3):
        nifti(tmp_path / "raw" / f"c{n}.nii")
        label(tmp_path / "labels" / "site" / f"c{n}.nii")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "site").symlink_to("../raw", target_is_directory=True)
    (tmp_path / "raw" / "loop").symlink_to("..", target_is_directory=True)
    assert len(list_tree(tmp_path).paths) == 6
    lists = prepare(tmp_path / "images" / "..", tmp_path / "out").datalist
    # By name, "images" is walked before "raw": that is the way by which the files are known.
    assert lists.labeled[0]["image"].startswith(str(tmp_path / "images" / "site"))


def test_a_folder_is_known_by_its_own_name_before_that_of_a_link(tmp_path) -> None:
    nifti(tmp_path / "z" / "c.nii")
    (tmp_path / "a").symlink_to("z", target_is_directory=True)
    assert list_tree(tmp_path).paths == (Path("z/c.nii"),)


@pytest.mark.parametrize(
    ("target", "message"),
    [("../../elsewhere", "a link out of the source folder"), ("gone", "a link to nothing")],
)
def test_links_that_lead_out_or_nowhere_are_refused(tmp_path, target, message) -> None:
    eyes(tmp_path / "in")
    nifti(tmp_path / "elsewhere" / "c.nii")
    (tmp_path / "in" / "images" / "more").symlink_to(target)
    with pytest.raises(DataError, match=rf"cannot be followed: .*images/more; got {message}"):
        prepare(tmp_path / "in", tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path) -> None:
    eyes(tmp_path / "in")
    (tmp_path / "in" / "locked").mkdir(mode=0)
    with pytest.raises(DataError, match=r"folder cannot be read: .*locked"):
        prepare(tmp_path / "in", tmp_path / "out")
