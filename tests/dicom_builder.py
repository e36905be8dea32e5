"""What DICOM and reader tests share: volumes with known voxels, comparison in the patient."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

ROTATIONS = {
    # Columns: directions of i, j, k in RAS. Every handedness and sign is met by some row.
    "axial": [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "axial_downwards": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "axial_mirrored": [[1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "coronal": [[-1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "sagittal": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]],
    "swapped": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
}


def rotation(name: str) -> np.ndarray:
    """Returns the (3, 3) directions of a named orientation, "oblique_<seed>" being random."""
    if name in ROTATIONS:
        return np.array(ROTATIONS[name], dtype=float)
    random = np.random.default_rng(int(name.removeprefix("oblique_")))
    return np.linalg.qr(random.normal(size=(3, 3)))[0]


ORIENTATIONS = [*ROTATIONS, "oblique_0", "oblique_1", "oblique_2", "oblique_3"]


def affine_of(name: str, spacing_mm: tuple[float, float, float] = (0.5, 0.75, 3.0)) -> np.ndarray:
    """Returns a (4, 4) RAS affine of a named orientation with an origin off every axis."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(name) * spacing_mm
    affine[:3, 3] = (12.5, -34.25, 56.125)
    return affine


def numbered(shape: tuple[int, int, int] = (5, 4, 6)) -> np.ndarray:
    """Returns an int16 volume in which no two voxels are equal, negative ones among them."""
    return (np.arange(np.prod(shape)) - 20).reshape(shape).astype(np.int16)


def voxels_at(
    volume: np.ndarray, affine: np.ndarray, points: np.ndarray, tolerance_voxels: float = 1e-2
) -> np.ndarray:
    """Returns the voxels of `volume` at (N, 3) points in mm, each of which must hit a centre."""
    index = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(affine).T)[:, :3]
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < tolerance_voxels
    assert (nearest >= 0).all()
    assert (nearest < volume.shape).all()
    return volume[tuple(nearest.T)]


def centres(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Returns the (N, 3) centres in mm of all voxels, in C order."""
    index = np.indices(shape).reshape(3, -1).T
    return index @ affine[:3, :3].T + affine[:3, 3]


def edit(path: Path, change: Callable[[pydicom.Dataset], object]) -> None:
    """Applies `change` to the instance at `path` in place."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def real_data(*parts: str) -> Path:
    """Returns a path below DIM_TEST_DATA, or skips the test."""
    root = os.environ.get("DIM_TEST_DATA")
    if not root:
        pytest.skip("DIM_TEST_DATA is not set: no real images to test with")
    return Path(root, *parts)
