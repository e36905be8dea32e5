"""Masks to score, and scores of them by looking at every pair of surface points."""

from __future__ import annotations

import math

import numpy as np

from dim_monai.metrics import score_case

PROSTATE = {"prostate": [1]}
SPACING_MM = (0.6, 0.8, 3.5)


def score(prediction, truth, spacing_mm=SPACING_MM, **choices):
    return score_case(prediction, truth, spacing_mm, PROSTATE, **choices)[0]


def random_masks(seed, shape=(9, 8, 7), density=0.3):
    """Two ragged masks, which reach the border of the image."""
    random = np.random.default_rng(seed)
    return tuple((random.random(shape) < density).astype(np.int16) for _ in range(2))


def blob(shape=(24, 22, 14), centre=(12, 10, 7), radii=(6, 5, 3)):
    grid = np.indices(shape)
    parts = [((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)]
    return (sum(parts) <= 1).astype(np.uint8)


def surface_points_mm(mask, spacing_mm):
    """Centres of the foreground voxels with a face neighbour outside, by looking at each."""
    padded = np.pad(mask > 0, 1)
    points = []
    for index in np.argwhere(padded):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = index.copy()
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    points.append(tuple(index * np.asarray(spacing_mm)))
    return np.array(sorted(set(points)))


def all_pairs_mm(prediction, truth, spacing_mm):
    """Distance of every surface point to the other surface, there and back, over all pairs."""
    p, t = (surface_points_mm(mask, spacing_mm) for mask in (prediction, truth))
    pairs = np.sqrt(((p[:, None] - t[None]) ** 2).sum(-1))
    return pairs.min(axis=1), pairs.min(axis=0)


def distances_by_hand_mm(prediction, truth, spacing_mm):
    """HD95 and ASSD."""
    there, back = all_pairs_mm(prediction, truth, spacing_mm)
    return max(percentile_95(there), percentile_95(back)), np.concatenate([there, back]).mean()


def percentile_95(values):
    ordered = np.sort(values)
    place = 0.95 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
