"""Smooth random fields over a plane, as coarse or as fine as asked, in one matrix product."""

from __future__ import annotations

import numpy as np

from dim_monai.data.phantom.fundus.eye import Floats


def smooth_field(
    x: Floats, y: Floats, scale_mm: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """Return a stationary Gaussian random field of mean 0 and deviation 1, (W, H) float32.

    White noise on a lattice of nodes, each spread by a Gaussian that measures `scale_mm` across.
    The sum is separable, so that it takes two small matrix products and no filter.

    Args:
        x: (W, 1) mm.
        y: (1, H) mm.
        scale_mm: size of the features along x and along y.
        rng: draws the nodes.
    """
    along_x, along_y = _spread(x.ravel(), scale_mm[0]), _spread(y.ravel(), scale_mm[1])
    nodes = rng.standard_normal((along_x.shape[1], along_y.shape[1]), dtype=np.float32)
    return np.asarray(along_x @ nodes @ along_y.T, dtype=np.float32)


def _spread(at: Floats, scale_mm: float) -> Floats:
    """(n, nodes): how much each node counts at each place; every row's squares sum to 1."""
    sigma = scale_mm / 2
    nodes = np.arange(np.floor(at.min() / sigma) - 3, np.ceil(at.max() / sigma) + 4)
    weights = np.exp(-((at[:, None] / sigma - nodes) ** 2) / 2).astype(np.float32)
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=1, keepdims=True)), dtype=np.float32)
