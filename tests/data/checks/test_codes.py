"""Every code is found where its fault was made, and nothing else is; the page lists them all."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dim_monai.data.checks import CODES, Fault, check_dataset, require_sound
from dim_monai.data.checks.lists import read_lists
from dim_monai.data.datalist import load_saved_datalist, open_datalist
from dim_monai.data.kinds import VOLUME
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import DataError
from tests.data.checks.sets import (
    AFFINE,
    SHAPE,
    Spoil,
    disc,
    entry,
    gland,
    image,
    label,
    photograph,
    photographs,
    ramp,
    save,
    save_picture,
    state,
    volumes,
)

PROSTATE = LabelMapping({"background": [0], "prostate": [1, 2]})
DISC = LabelMapping({"background": [0], "rim": [1], "cup": [2]})
PAGE = Path(__file__).resolve().parents[3] / "docs" / "data-checks.md"


def copy(root: Path, old: str, new: str) -> None:
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / old, root / new)


def touch(*names: str) -> Spoil:
    def spoil(root: Path) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

    return spoil


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def stored_otherwise(root: Path) -> None:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    save(root / "images" / "b.nii.gz", ramp()[::-1], AFFINE @ flip)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed_image(root: Path) -> None:
    hashes = {f"{key}_sha256": sha256(root / f"{key}s" / "a.nii.gz") for key in ("image", "label")}
    state(root, labeled=[entry("a", **hashes)])
    image(ramp() + 1)(root)


def label_without_hash(root: Path) -> None:
    state(root, labeled=[entry("a", image_sha256=sha256(root / "images" / "a.nii.gz"))])


def scaled(affine: np.ndarray, factor: float) -> np.ndarray:
    return affine * np.array([[factor]] * 3 + [[1.0]])


def moved(along_mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[2, 3] += along_mm
    return affine


def without_lists(root: Path) -> None:
    (root / "images").rename(root / "cases")


def labelled_photograph(mask: np.ndarray) -> Spoil:
    return lambda root: save_picture(root / "labels" / "a.png", mask)


def throughout(root: Path) -> None:
    """Let both labels show the structure in every slice."""
    for case in "ac":
        label_of = np.zeros(SHAPE, np.uint8)
        label_of[3, 3] = 1
        save(root / "labels" / f"{case}.nii.gz", label_of)


def nothing_to_choose_by(root: Path) -> None:
    state(root, labeled=[entry("a")], validation=[entry("b")])
    save(root / "labels" / "b.nii.gz", np.zeros(SHAPE, np.uint8))


def lost_cup() -> np.ndarray:
    mask = disc()
    mask[8, 1:3] = 2
    return mask


def at_the_border() -> np.ndarray:
    mask = np.zeros_like(disc())
    mask[0:3, 4:8] = 1
    mask[1, 5:7] = 2
    return mask


# code, what spoils a sound set of volumes, the file at fault, words of its line
VOLUMES: list[tuple[str, Spoil, str | None, list[str]]] = [
    (
        "D001",
        lambda root: state(root, labelled=[], labeled=[entry("a")]),
        "datalist.json",
        ["unknown key"],
    ),
    ("D001", lambda root: (root / "datalist.json").write_text("{"), "datalist.json", ["line 1"]),
    (
        "D002",
        lambda root: state(root, labeled=[entry("a")], unlabeled=[entry("b", False), {}]),
        "datalist.json",
        ["unlabeled[1] has no image"],
    ),
    (
        "D002",
        lambda root: state(root, labeled=[entry("a"), {**entry("a"), "image": "images/b.nii.gz"}]),
        "labels/a.nii.gz",
        ["label listed twice", "labeled[0] and labeled[1]"],
    ),
    (
        "D002",
        lambda root: state(root, labeled=[{**entry("a"), "image": "labels/a.nii.gz"}]),
        "labels/a.nii.gz",
        ["label that is an image", "image of labeled[0], label of labeled[0]"],
    ),
    ("D002", lambda root: save(root / "images/x/y/b.nii.gz", ramp()), "images/x/y/b.nii.gz", []),
    (
        "D003",
        lambda root: state(root, labeled=[entry("a")], unlabeled=[entry("z", False)]),
        "images/z.nii.gz",
        ["image of unlabeled[0] does not exist"],
    ),
    (
        "D004",
        lambda root: state(root, labeled=[entry("a"), entry("a", case="z")]),
        "images/a.nii.gz",
        ["labeled[0] and labeled[1]"],
    ),
    (
        "D005",
        lambda root: state(root, labeled=[entry("a")], unlabeled=[entry("b", False, case="a")]),
        "images/b.nii.gz",
        ["unknown/a as labeled[0] and unlabeled[0]"],
    ),
    (
        "D006",
        lambda root: (
            save(root / "labels" / "b.nii.gz", gland()),
            state(root, labeled=[entry("a", patient="p")], test=[entry("b", patient="p")]),
        ),
        "images/b.nii.gz",
        ["p as labeled[0] and test[0]"],
    ),
    ("D007", lambda root: state(root, labeled=[], unlabeled=[entry("b", False)]), None, []),
    (
        "D008",
        lambda root: save(root / "labels" / "aa.nii.gz", gland()),
        "labels/aa.nii.gz",
        ["the closest image is", "images/a.nii.gz"],
    ),
    (
        "D009",
        changed_image,
        "images/a.nii.gz",
        ["image differs from its hash", "as when the data list was written"],
    ),
    ("D010", label_without_hash, "labels/a.nii.gz", ["label_sha256"]),
    (
        "D011",
        lambda root: (
            copy(root, "images/a.nii.gz", "images/b.nii.gz"),
            copy(root, "labels/a.nii.gz", "labels/b.nii.gz"),
            state(root, labeled=[entry("a")], validation=[entry("b")]),
        ),
        "images/b.nii.gz",
        ["images/a.nii.gz (labeled) and ", "images/b.nii.gz (validation)"],
    ),
    ("D101", lambda root: truncate(root / "images" / "b.nii.gz"), "images/b.nii.gz", []),
    (
        "D102",
        lambda root: sorted((root / "images" / "c").iterdir())[2].unlink(),
        "images/c",
        ["about 1 slice(s) missing"],
    ),
    ("D103", image(np.full(SHAPE, 7.0)), "images/a.nii.gz", ["7 in every voxel"]),
    (
        "D104",
        lambda root: save(root / "images" / "b.nii.gz", ramp(), scaled(AFFINE, 1e-3)),
        "images/b.nii.gz",
        ["0.0005 x 0.00075 x 0.003 mm", "between 0.05 and 20 mm"],
    ),
    ("D201", lambda root: truncate(root / "labels" / "a.nii.gz"), "labels/a.nii.gz", []),
    ("D202", label(np.pad(gland(), 1)), "labels/a.nii.gz", ["(10, 8, 7)", "(8, 6, 5)"]),
    ("D203", label(gland(), moved(1.0)), "labels/a.nii.gz", ["corners 1 mm away", "0.1 mm"]),
    ("D204", label(gland() * 9), "labels/a.nii.gz", ["9 (17 voxels)"]),
    ("D205", label(gland() * 0), "labels/a.nii.gz", ["background in all voxels"]),
    ("R001", stored_otherwise, None, ["LAS (1)", "RAS (2)"]),
    (
        "R002",
        lambda root: (
            save(root / "labels" / "b.nii.gz", gland()),
            state(root, labeled=[entry("a")], unlabeled=[entry("b", False)]),
        ),
        "labels",
        ["got 2, the first b.nii.gz"],
    ),
    ("R004", without_lists, "", ["checked as for inference"]),
    (
        "R005",
        touch("images/site/d.mha", "images/site/e.MHA", "images/site/notes.txt"),
        "images/site",
        ["got 2 files, the first d.mha", "convert them to NIfTI"],
    ),
    (
        "R006",
        lambda root: copy(root, "images/a.nii.gz", "images/d.nii.gz"),
        "images/d.nii.gz",
        ["images/a.nii.gz (labeled) and ", "images/d.nii.gz (unlabeled)"],
    ),
    ("R007", throughout, None, ["0 of 10 slices", "goes on beyond the structure at both ends"]),
    (
        "D208",
        nothing_to_choose_by,
        None,
        ["no structure in 1 validation case", "or list none"],
    ),
]

PHOTOGRAPHS: list[tuple[str, Spoil, str | None, list[str]]] = [
    (
        "D206",
        labelled_photograph(lost_cup()),
        "labels/a.png",
        ["2 pixels of cup in 1 part without rim"],
    ),
    (
        "D207",
        labelled_photograph(np.minimum(disc(), 1)),
        None,
        ["cup in none of 1 labelled cases", "a label mapping that has no such class"],
    ),
    ("D202", labelled_photograph(np.pad(disc(), 1)), "labels/a.png", ["(14, 12)", "(12, 10)"]),
    ("D204", labelled_photograph(disc() * 100), "labels/a.png", ["100 (12 voxels)"]),
    (
        "D103",
        lambda root: save_picture(root / "images" / "b.png", np.full((10, 12, 3), 7, np.uint8)),
        "images/b.png",
        ["7 in every pixel"],
    ),
    ("D101", lambda root: truncate(root / "images" / "b.png"), "images/b.png", []),
    ("R003", labelled_photograph(at_the_border()), "labels/a.png", []),
    (
        "R005",
        touch("images/d.bmp", "images/d.txt"),
        "images",
        ["got 1 file, the first d.bmp", "convert them to PNG"],
    ),
    (
        "R006",
        lambda root: save_picture(root / "images" / "d.tif", photograph()),
        "images/d.tif",
        ["images/a.png (labeled) and ", "images/d.tif (unlabeled)"],
    ),
]
CASES = [
    *(("volume", PROSTATE, volumes, *case) for case in VOLUMES),
    *(("photograph", DISC, photographs, *case) for case in PHOTOGRAPHS),
]


@pytest.mark.parametrize(("kind", "mapping"), [("volume", PROSTATE), ("photograph", DISC)])
def test_a_sound_set_has_no_fault(tmp_path: Path, kind: str, mapping: LabelMapping) -> None:
    root = (volumes if kind == "volume" else photographs)(tmp_path)
    checked = check_dataset(root, mapping, kind=kind)
    assert checked.is_sound
    assert checked.faults == checked.remarks == ()


@pytest.mark.parametrize(
    ("kind", "mapping", "make", "code", "spoil", "file", "words"),
    CASES,
    ids=[f"{kind}-{code}-{n}" for n, (kind, _, _, code, *_) in enumerate(CASES)],
)
def test_a_code_is_found_where_its_fault_was_made(
    tmp_path: Path,
    kind: str,
    mapping: LabelMapping,
    make: Callable[[Path], Path],
    code: str,
    spoil: Spoil,
    file: str | None,
    words: list[str],
) -> None:
    root = make(tmp_path / "set")
    spoil(root)
    checked = check_dataset(root, mapping, kind=kind)
    assert {fault.code for fault in checked.faults} == ({code} if code[0] == "D" else set())
    (line,) = [found for found in (*checked.faults, *checked.remarks) if found.code == code]
    if file is not None:
        assert line.file == str(root / file).rstrip("/")
    assert str(line).startswith(f"{code} ")
    assert "\n" not in str(line)
    for word in words:
        assert word in str(line)


FAULTS = [case for case in CASES if case[3][0] == "D"]


@pytest.mark.parametrize(
    ("kind", "mapping", "make", "spoil"),
    [(kind, mapping, make, spoil) for kind, mapping, make, _, spoil, *_ in FAULTS],
    ids=[f"{kind}-{code}-{n}" for n, (kind, _, _, code, *_) in enumerate(FAULTS)],
)
def test_training_refuses_what_is_a_fault(
    tmp_path: Path, kind: str, mapping: LabelMapping, make: Callable[[Path], Path], spoil: Spoil
) -> None:
    """The same gate: by the strict reader of lists, or by the checks of the cases."""
    root = make(tmp_path / "set")
    spoil(root)
    with pytest.raises(DataError):
        require_sound(open_datalist(root, kind=kind).for_training(), mapping, kind=kind)


def test_every_code_of_the_table_is_tested() -> None:
    assert {code for *_, code, _, _, _ in CASES} == set(CODES)


def test_the_page_explains_every_code_and_no_other() -> None:
    rows = re.findall(r"^\| `([DR]\d{3})` \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == CODES
    assert len(rows) == len(CODES)


def test_a_code_outside_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="D999"):
        Fault("D999", "something", None)


def test_all_faults_are_told_in_one_run(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    save(root / "labels" / "b.nii.gz", gland())
    truncate(root / "images" / "b.nii.gz")
    label(gland() * 9, moved(1.0))(root)
    state(
        root,
        labeled=[entry("a", patient="p"), entry("a", patient="p"), entry("z")],
        test=[entry("b", patient="p"), {"image": "images/b.nii.gz", "lable": "x"}],
    )
    codes = [fault.code for fault in check_dataset(root, PROSTATE).faults]
    # z misses its image and its label; the last entry has an unknown key and no label, and is the
    # image and the patient of the entry before; a is checked as often as it is listed.
    lists = ["D003", "D003", "D002", "D002", "D004", "D004", "D005", "D005", "D006"]
    assert codes == [*lists, "D203", "D204", "D203", "D204", "D101", "D101"]


def test_a_list_that_training_accepts_is_read_as_training_reads_it(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    state(root, labeled=[entry("a", domain="x")], unlabeled=[entry("b", False)])
    strict = load_saved_datalist(root / "datalist.json")
    for path in (root, root / "datalist.json"):
        lists = read_lists(path, VOLUME)
        assert [case for case, _ in lists.cases] == [*strict.labeled, *strict.unlabeled]
        assert lists.found == ()
