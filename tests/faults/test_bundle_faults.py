"""Data that cannot be trained on stop the training workflow before it writes or learns anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import nibabel as nib
import numpy as np
import pytest

from dim_monai.dicom.write import write_series
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import DataError
from tests.bundles.examples import PROSTATE, start, tree

SHAPE = (40, 36, 5)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 500, SHAPE).astype(np.int16)


def gland() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[12:25, 10:22, 1:4] = 1
    return label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound data set: a and b labelled, c (NIfTI) and d (DICOM) unlabelled."""
    root = tmp_path / "set"
    for case in "abc":
        save(root / "images" / f"{case}.nii.gz", image())
    for case in "ab":
        save(root / "labels" / f"{case}.nii.gz", gland())
    write_series(root / "images" / "d", image(), AFFINE, seed_uid="d")
    return root


def spoil_image(array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: save(root / "images" / "a.nii.gz", array)


def spoil_label(array: np.ndarray, affine: np.ndarray = AFFINE) -> Callable[[Path], None]:
    return lambda root: save(root / "labels" / "b.nii.gz", array, affine)


def truncate(root: Path) -> None:
    path = root / "images" / "c.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])


def drop_labels(root: Path) -> None:
    for path in (root / "labels").iterdir():
        path.unlink()


def write_list(root: Path, **lists: list[dict[str, str]]) -> None:
    (root / "datalist.json").write_text(json.dumps(lists))


def listed(case: str, **more: str) -> dict[str, str]:
    return {"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz", **more}


def add_second_series(root: Path) -> None:
    for path in write_series(root / "other", image(), AFFINE, seed_uid="other"):
        path.rename(root / "images" / "d" / f"other_{path.name}")


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[1, 2, 3] = value
    return array


# name: (what spoils the set, the file at fault, what the error says)
FAULTS: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "truncated image": (truncate, "images/c.nii.gz", ["got EOFError", "expected a complete NIfTI"]),
    "NaN in an image": (
        spoil_image(with_value(image(), np.nan)),
        "images/a.nii.gz",
        ["got 1 of 7200", "expected finite voxels"],
    ),
    "four dimensions": (
        spoil_image(np.stack([image(), image()], axis=-1)),
        "images/a.nii.gz",
        ["got (40, 36, 5, 2)", "expected one volume"],
    ),
    "label of another shape": (
        spoil_label(gland()[:, :, :4]),
        "labels/b.nii.gz",
        ["got (40, 36, 4)", "expected (40, 36, 5)"],
    ),
    "label in another place": (
        spoil_label(gland(), AFFINE + np.array([[0.0, 0, 0, 2.0]] + 3 * [[0.0] * 4])),
        "labels/b.nii.gz",
        ["got corners 2 mm away", "expected at most 0.1 mm"],
    ),
    "label value of no class": (
        spoil_label(with_value(gland(), -3.0)),
        "labels/b.nii.gz",
        ["got -3 (1 voxels)", "expected background [0], prostate >0"],
    ),
    "label without the prostate": (
        spoil_label(np.zeros(SHAPE, np.uint8)),
        "labels/b.nii.gz",
        ["got background in all voxels", "expected some voxels of prostate"],
    ),
    "missing slice": (
        lambda root: sorted((root / "images" / "d").iterdir())[2].unlink(),
        "images/d",
        ["got", "6.000 mm", "expected"],
    ),
    "two series in a folder": (add_second_series, "images/d", ["got MR", "expected exactly one"]),
    "no label at all": (drop_labels, "", ["got 0 labeled, 4 unlabeled", "expected at least one"]),
    "label without an image": (
        lambda root: (root / "images" / "b.nii.gz").unlink(),
        "labels/b.nii.gz",
        ["or the folder of one DICOM series as images/b"],
    ),
    "one patient on two sides": (
        lambda root: write_list(
            root, labeled=[listed("a", patient="p")], validation=[listed("b", patient="p")]
        ),
        "images/b.nii.gz",
        ["got p as labeled[0] and validation[0]", "expected all cases of a patient in"],
    ),
    "unknown key in the list": (
        lambda root: write_list(root, labelled=[listed("a")]),
        "datalist.json",
        ["got 'labelled'", "expected one of labeled", "did you mean 'labeled'?"],
    ),
    "listed file that is not there": (
        lambda root: write_list(root, labeled=[listed("a"), listed("z")]),
        "images/z.nii.gz",
        ["image of labeled[1] does not exist"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stops_the_training_before_its_first_step(
    root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, file, fragments = FAULTS[name]
    spoil(root)
    before = tree(tmp_path)

    def refuse(*arguments: object) -> NoReturn:
        pytest.fail("a step was made")

    monkeypatch.setattr(SemiSupervisedTrainer, "_iteration", refuse)
    with pytest.raises(RuntimeError) as caught:
        train(root, tmp_path)
    error = caught.value.__cause__
    assert isinstance(error, DataError)
    for fragment in [str(root / file), *fragments]:
        assert fragment in str(error)
    assert tree(tmp_path) == before


def test_the_set_without_a_fault_trains(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path)
    assert (tmp_path / "out" / "model.pt").is_file()


def train(root: Path, tmp_path: Path) -> None:
    places = {
        "dataset_dir": str(root),
        "output_dir": str(tmp_path / "out"),
        "model_file": str(tmp_path / "out" / "model.pt"),
    }
    start(PROSTATE.folder, "train.yaml", **PROSTATE.tiny, **places).run()
