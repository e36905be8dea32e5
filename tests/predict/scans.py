"""Scans for tests of `predict`: a bright blob of known place, series and studies as hospitals have.

The blob lies off the middle and is longer in one direction than in the others, so that a mask that
is mirrored, turned or shifted does not fit it.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from typer.testing import CliRunner, Result

from dim_monai.cli import app
from dim_monai.dicom.write import write_series
from tests.bundles.examples import PROSTATE, Example
from tests.dicom_builder import affine_of, centres, edit
from tests.e2e.segmenting import threshold

SHAPE = (30, 24, 10)
SPACING_MM = (3.0, 3.5, 5.0)
HALF_AXES_MM = np.array([26.0, 17.0, 13.0])
OFFSET_MM = np.array([11.0, -9.0, 6.0])

SECRETS = {
    "PatientName": "Doe^Secretia",
    "PatientID": "SECRETID77",
    "PatientBirthDate": "19570921",
    "AccessionNumber": "SECRETACC55",
    "InstitutionName": "Secret Hospital",
    "StudyDate": "20240131",
    "SeriesDescription": "secret t2 of Doe",
    "ReferringPhysicianName": "Secret^Doctor",
}
"""What a header holds and a log does not."""


def blob(shape: Sequence[int] = SHAPE, affine: np.ndarray | None = None) -> np.ndarray:
    """Return an int16 volume that is above 500 inside an ellipsoid and below it outside."""
    affine = affine_of("axial", SPACING_MM) if affine is None else affine
    middle_mm = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    away = (centres(tuple(shape), affine) - middle_mm - OFFSET_MM) / HALF_AXES_MM
    value = 500 + 2000 * (1 - np.linalg.norm(away, axis=1))
    return np.clip(value, 0, 1000).reshape(shape).astype(np.int16)


def write_nifti(path: Path, orientation: str = "axial") -> np.ndarray:
    """Write the blob; return where it is."""
    affine = affine_of(orientation, SPACING_MM)
    image = blob(SHAPE, affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image, affine), path)
    return image > 500


def write_scan(folder: Path, orientation: str = "axial", *, seed: str = "", **tags: Any) -> Path:
    """Write the blob as a T2-weighted series, with some tags changed in all its files."""
    affine = affine_of(orientation, SPACING_MM)
    write_series(folder, blob(SHAPE, affine), affine, seed_uid=seed or str(folder))
    for file in folder.iterdir():
        edit(file, lambda dataset: change(dataset, {"EchoTime": "100", **tags}))
    return folder


def change(dataset: pydicom.Dataset, tags: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that the standard forbids
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)


def move_into(source: Path, folder: Path, prefix: str) -> None:
    """Move the files of a series into a folder of others, under names without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, file in enumerate(sorted(source.iterdir())):
        file.rename(folder / f"{prefix}{n:03d}")
    source.rmdir()


def shuffle_names(folder: Path, seed: int) -> None:
    """Give the files of a series new names, in an order that says nothing."""
    files = sorted(folder.iterdir())
    for new, old in enumerate(np.random.default_rng(seed).permutation(len(files))):
        files[old].rename(folder / f"IM{new:04d}")


def uid_of(folder: Path) -> str:
    return str(pydicom.dcmread(next(iter(sorted(folder.iterdir())))).SeriesInstanceUID)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def overlay(folder: Path, example: Example = PROSTATE, **more: Any) -> Path:
    """Write the overlay that puts a threshold in the place of the network."""
    settings = {**threshold(example), **more}
    file = folder / "threshold.json"
    file.write_text(json.dumps(settings))
    return file


def run(*words: object) -> Result:
    """Run ``dim-monai predict`` in this process."""
    return CliRunner().invoke(app, ["predict", *(str(word) for word in words)])


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def mask_in(folder: Path, name: str = "") -> Any:
    (file,) = folder.rglob(f"{name}*_seg.nii.gz")
    return nib.load(file)


def document(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content
