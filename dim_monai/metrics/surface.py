"""Distances between the surfaces of two masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

_ROUNDING = 1e-5
"""Of a distance: 3 pixels of 0.4 mm, 1.2000000000000002, are within 1.2 mm.

A header holds the affine as float32, of which 3.0 mm come back as 3.0000023: with less, what counts
along one axis would not count along another.
"""


def surface_distances(
    one: Mask, other: Mask, steps: Sequence[float]
) -> tuple[Distances, Distances]:
    """Return the distance of every surface voxel to the nearest one of the other surface.

    A surface voxel belongs to the mask and shares a face with what does not; what lies outside the
    image does not. Distances are between centres.

    Args:
        one: mask on two or three axes, not empty.
        other: the same grid, not empty.
        steps: voxel size along each axis; the distances have its unit.

    Returns:
        From `one` to `other`, and from `other` to `one`.
    """
    # Only the box around both masks is looked at. No margin is needed for the result to equal that
    # of the whole image: every surface voxel lies in the box, and what is outside it is background,
    # which is also what the erosion takes it for.
    (box,) = ndimage.find_objects((one | other).view(np.uint8))
    surface, other_surface = _surface(one[box]), _surface(other[box])
    return _distances(surface, other_surface, steps), _distances(other_surface, surface, steps)


def share_within(distances: Distances, tolerance: float) -> float:
    """Return the share of the distances that do not exceed the tolerance, but for rounding."""
    return float((distances <= tolerance * (1 + _ROUNDING)).mean())


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask), dtype=np.bool_)


def _distances(origin: Mask, target: Mask, steps: Sequence[float]) -> Distances:
    if origin.ndim == 2:
        # A speck far from the disc makes the box the whole photograph, of which a distance map
        # takes 0.4 GB at 4288 x 2848; the surfaces stay a few thousand points.
        points, targets = (np.argwhere(surface) * np.asarray(steps) for surface in (origin, target))
        return np.asarray(KDTree(targets).query(points)[0], dtype=np.float64)
    to_target = ndimage.distance_transform_edt(~target, sampling=steps)
    return np.asarray(to_target[origin], dtype=np.float64)
