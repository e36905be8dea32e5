"""What a contact sheet shows of a case: one small plane of it, as a person looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes, apply_orientation, io_orientation
from numpy.typing import NDArray

from dim_monai.data.datalist import Entry
from dim_monai.data.kinds import Loaded

WINDOW_PERCENTILES = (1.0, 99.0)
"""Of the report's overlays, too: leaves out air and the few brightest voxels."""

Labels = tuple[NDArray[np.integer[Any]], NDArray[np.float64]]
"""Class indices of a case, and the affine of the label file they come from."""


@dataclass(frozen=True)
class Sample:
    """One plane of a case.

    Attributes:
        case: its name.
        domain: its domain.
        where: which plane it is, in words; empty for a photograph, which has one.
        pixels: uint8, (rows, columns) or (rows, columns, 3).
        classes: class indices, (rows, columns); None without a label that fits the image.
        aspect: height of a pixel over its width.
    """

    case: str
    domain: str
    where: str
    pixels: NDArray[np.uint8]
    classes: NDArray[np.integer[Any]] | None
    aspect: float


def choose(entries: Sequence[Entry], limit: int) -> set[int]:
    """Return up to ``limit`` places per domain, evenly spread, those with a label first."""
    chosen: set[int] = set()
    for domain in {entry["domain"] for entry in entries}:
        ours = [n for n, entry in enumerate(entries) if entry["domain"] == domain]
        labelled = _spread([n for n in ours if "label" in entries[n]], limit)
        others = _spread([n for n in ours if "label" not in entries[n]], limit - len(labelled))
        chosen.update(labelled, others)
    return chosen


def sample_photograph(entry: Entry, image: Loaded, labels: Labels | None) -> Sample:
    """Return a photograph with its mask."""
    pixels = image[0].astype(np.uint8).transpose(1, 0, 2)
    classes = None if labels is None else labels[0].T
    return Sample(entry["case"], entry["domain"], "", pixels, classes, 1.0)


def sample_volume(entry: Entry, image: Loaded, labels: Labels | None) -> Sample:
    """Return the axial slice with most of the label; without a label, the middle one.

    It lies as a radiologist looks at it: patient anterior up, patient right on the viewer's left.
    """
    volume = _to_ras(*image)
    truth = None if labels is None else _to_ras(*labels)
    z = volume.shape[2] // 2
    if truth is not None and truth.any():
        z = int(np.count_nonzero(truth, axis=(0, 1)).argmax())
    plane = radiological(volume[:, :, z])
    low, high = np.percentile(plane, WINDOW_PERCENTILES)
    width = max(float(high - low), np.finfo(np.float32).tiny)  # of a constant plane it is 0
    axes = aff2axcodes(image[1])
    edges_mm = np.linalg.norm(image[1][:3, :3], axis=0)
    right, front = (_axis(axes, pair) for pair in ("LR", "PA"))
    return Sample(
        entry["case"],
        entry["domain"],
        f"slice {z + 1} of {volume.shape[2]}",
        (np.clip((plane - low) / width, 0, 1) * 255).astype(np.uint8),
        None if truth is None else radiological(truth[:, :, z]),
        float(edges_mm[front] / edges_mm[right]),
    )


def _spread(places: Sequence[int], limit: int) -> list[int]:
    """Up to ``limit`` of the places, from the middle of equal parts."""
    count = min(len(places), limit)
    return [places[int((n + 0.5) * len(places) / count)] for n in range(count)]


def _to_ras(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    turned: NDArray[Any] = apply_orientation(array, io_orientation(affine))
    return turned


def _axis(codes: Sequence[str], pair: str) -> int:
    return next(n for n, code in enumerate(codes) if code in pair)


def radiological(plane: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns to show for an (X, Y) plane whose axes go to the right and anterior."""
    return plane[::-1, ::-1].T
