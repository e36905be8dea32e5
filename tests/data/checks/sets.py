"""Small sound data sets of both kinds, and how to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from dim_monai.dicom.write import write_series

SHAPE = (8, 6, 5)
AFFINE = np.diag([0.5, 0.75, 3.0, 1.0])
AFFINE[:3, 3] = (-20.0, 11.0, 40.0)
SIZE = (12, 10)  # width, height of a photograph

Spoil = Callable[[Path], object]


def ramp(first: int = 0) -> np.ndarray:
    return np.arange(first, first + np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def gland() -> np.ndarray:
    """18 voxels of class 1, one of which is 2: 18 x 1.125 mm3."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:4, 1:4] = 1
    label[3, 3, 2] = 2
    return label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def volumes(root: Path) -> Path:
    """Labelled: a (NIfTI) and c (DICOM). Unlabelled: b."""
    for first, case in enumerate("ab"):
        save(root / "images" / f"{case}.nii.gz", ramp(first))
    write_series(root / "images" / "c", ramp(2), AFFINE, seed_uid="c")
    for case in "ac":
        save(root / "labels" / f"{case}.nii.gz", gland())
    return root


def image(array: np.ndarray, affine: np.ndarray = AFFINE) -> Spoil:
    """Replace the image of a in a set of volumes."""
    return lambda root: save(root / "images" / "a.nii.gz", array, affine)


def label(array: np.ndarray, affine: np.ndarray = AFFINE) -> Spoil:
    """Replace its label."""
    return lambda root: save(root / "labels" / "a.nii.gz", array, affine)


def photograph(first: int = 0) -> np.ndarray:
    """Rows x columns x 3, no two pixels equal."""
    grey = np.arange(first, first + SIZE[0] * SIZE[1], dtype=np.uint8)
    return np.stack([grey] * 3, axis=-1).reshape(SIZE[1], SIZE[0], 3)


def disc() -> np.ndarray:
    """Rows x columns: a rim of 12 pixels around a cup of 4."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[3:7, 4:8] = 1
    mask[4:6, 5:7] = 2
    return mask


def save_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photographs(root: Path) -> Path:
    """Labelled: a. Unlabelled: b."""
    for first, case in enumerate("ab"):
        save_picture(root / "images" / f"{case}.png", photograph(first))
    save_picture(root / "labels" / "a.png", disc())
    return root


def entry(name: str, label: bool = True, **more: str) -> dict[str, str]:
    paths = {"image": f"images/{name}.nii.gz"}
    return paths | ({"label": f"labels/{name}.nii.gz"} if label else {}) | more


def state(root: Path, document: dict[str, Any] | None = None, **lists: Any) -> None:
    """Write a data list; each list is one of entries."""
    (root / "datalist.json").write_text(json.dumps({**(document or {}), **lists}))
