"""Maps beside a mask: missing slices left empty, files whole or not there."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dim_monai.data.photograph import read_header, write_mask
from dim_monai.files import atomic_write

FULL = 255
"""Grey value of the uncertainty 1 in a PNG."""


def insert_slices(volume: NDArray[Any], missing: Sequence[int]) -> NDArray[Any]:
    """Return a volume with slices of zeros put in.

    Args:
        volume: (X, Y, Z), without the missing slices.
        missing: their indices among all slices, in order.

    Returns:
        (X, Y, Z + number of missing slices).
    """
    if not missing:
        return volume
    whole = np.zeros((*volume.shape[:2], volume.shape[2] + len(missing)), dtype=volume.dtype)
    whole[:, :, [k for k in range(whole.shape[2]) if k not in set(missing)]] = volume
    return whole


def write_map(
    path: Path,
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    image: Path,
    photograph: bool,
) -> None:
    """Write a map of values from 0 to 1, whole or not at all.

    Args:
        path: where to; its folder is there.
        values: (X, Y, Z), or (W, H) of a photograph, upright.
        affine: of a volume, index to RAS mm.
        image: the case.
        photograph: whether to write an 8-bit PNG on the photograph's stored grid, 255 for 1, and no
            float32 NIfTI.
    """
    if photograph:
        orientation = read_header(image).orientation
        write_mask(path, np.rint(values * FULL).astype(np.uint8), orientation)
        return
    whole = nib.Nifti1Image(values, affine).to_bytes()
    with atomic_write(path, "wb") as file:
        file.write(gzip.compress(whole, mtime=0))  # without the time, the same map is the same file
