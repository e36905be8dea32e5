"""What the tree of vessels looks like on a grid: how much blood lies over each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.phantom.fundus.eye import Floats
from dim_monai.data.phantom.fundus.vessels import Vessel

_SPACING_PX = 0.7  # of samples along and across a vessel; no pixel is farther off than half of one
_FULL_DEPTH_MM = 0.06  # radius from which a vessel looks as dark as it can


@dataclass(frozen=True)
class Blood:
    """Blood over each point of a grid, each (W, H) float32.

    Attributes:
        arterial: optical depth of the arteries, 0 to about 1.
        venous: optical depth of the veins, 0 to about 1.
        reflex: the light streak along the middle of a vessel, 0 to 1.
    """

    arterial: Floats
    venous: Floats
    reflex: Floats


def paint_vessels(vessels: Sequence[Vessel], x: Floats, y: Floats) -> Blood:
    """Paint vessels on an evenly spaced open grid, with edges softened over one pixel.

    Args:
        vessels: see :func:`dim_monai.data.phantom.fundus.vessels.grow_vessels`.
        x: (W, 1) mm towards the temple, ascending or descending.
        y: (1, H) mm downward, ascending.
    """
    shape = (x.size, y.size)
    depth = {artery: np.zeros(shape, dtype=np.float32) for artery in (True, False)}
    reflex = np.zeros(shape, dtype=np.float32)
    for artery, painted in depth.items():
        chosen = [v for v in vessels if v.artery is artery and _may_touch(v, x, y)]
        samples = [np.empty((6, 0)), *(_sample(vessel, x, y) for vessel in chosen)]
        _stamp(painted, reflex, np.concatenate(samples, axis=1), 1.0 if artery else 0.55)
    return Blood(depth[True], depth[False], reflex)


def _may_touch(vessel: Vessel, x: Floats, y: Floats) -> bool:
    """Whether the box around a vessel meets the grid; most vessels are nowhere near a close-up."""
    low, high = vessel.points_mm.min(axis=0), vessel.points_mm.max(axis=0)
    margin = float(vessel.radius_mm.max() + abs(y[0, 1] - y[0, 0]))
    first, last = np.array([x.min(), y.min()]) - margin, np.array([x.max(), y.max()]) + margin
    return bool((low <= last).all() and (high >= first).all())


def _sample(vessel: Vessel, x: Floats, y: Floats) -> NDArray[np.float64]:
    """Sample the middle line of a vessel evenly and keep what lies on the grid.

    Returns:
        (6, n); x, y, both components of the normal and the radius in pixels, the radius in mm.
    """
    step_x, step_y = float(x[1, 0] - x[0, 0]), float(y[0, 1] - y[0, 0])
    px = (vessel.points_mm[:, 0] - float(x[0, 0])) / step_x
    py = (vessel.points_mm[:, 1] - float(y[0, 0])) / step_y
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(px), np.diff(py)))])
    at = np.arange(0, along[-1], _SPACING_PX)
    normal_x, normal_y = -np.gradient(py, along), np.gradient(px, along)
    radius_px = vessel.radius_mm / step_y
    columns = (px, py, normal_x, normal_y, radius_px, vessel.radius_mm)
    samples = np.stack([np.interp(at, along, column) for column in columns])
    middle, margin = samples[:2], samples[4] + 1
    near = (middle > -margin) & (middle < np.array([[x.size], [y.size]]) + margin)
    return np.asarray(samples[:, near.all(axis=0)])


def _stamp(
    depth: Floats, reflex: Floats, samples: NDArray[np.float64], reflex_strength: float
) -> None:
    """Paint the cross-section at every sample; where two overlap, the darker one shows."""
    reach = np.ceil((samples[4] + 1) / _SPACING_PX).astype(np.int64)
    counts = 2 * reach + 1
    first = np.repeat(np.cumsum(counts) - counts, counts)
    across = (np.arange(counts.sum()) - first - np.repeat(reach, counts)) * _SPACING_PX
    px, py, nx, ny, radius, radius_mm = np.repeat(samples.astype(np.float32), counts, axis=1)
    i, j = np.rint(px + across * nx).astype(np.int64), np.rint(py + across * ny).astype(np.int64)
    painted = (i >= 0) & (i < depth.shape[0]) & (j >= 0) & (j < depth.shape[1])
    offset = np.abs((i - px) * nx + (j - py) * ny)  # of the pixel's centre from the middle line
    cover = np.clip(radius - offset + 0.5, 0, np.minimum(2 * radius, 1))
    painted &= cover > 0
    i, j, offset, cover, radius, radius_mm = (
        values[painted] for values in (i, j, offset, cover, radius, radius_mm)
    )
    chord = np.sqrt(np.clip(1 - (offset / (radius + 0.5)) ** 2, 0, 1))
    dark = np.sqrt(np.minimum(radius_mm / _FULL_DEPTH_MM, 1))
    flat = i * depth.shape[1] + j
    np.maximum.at(depth.reshape(-1), flat, cover * dark * (0.55 + 0.45 * chord))
    streak = np.exp(-((offset / (0.3 * radius)) ** 2)) * np.clip(radius_mm / 0.06 - 0.3, 0, 1)
    np.maximum.at(reflex.reshape(-1), flat, reflex_strength * cover * streak)
