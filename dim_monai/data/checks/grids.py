"""Where voxels lie: an image and its label on one grid, and a spacing that can be true."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from nibabel.orientations import aff2axcodes, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from dim_monai.data.checks.faults import Fault
from dim_monai.data.kinds import Kind

GRID_TOLERANCE_MM = 0.1
"""Largest distance between a corner voxel of an image and the same one of its label.

A fifth of the finest in-plane voxel in use (0.5 mm); float32 headers and decimal strings in DICOM
round to below 0.001 mm, while a shift by half a voxel, a flip or another spacing is far above.
"""

SPACING_RANGE_MM = (0.05, 20.0)
"""Edges of a voxel that clinical scanners make: high-resolution CT of bone is about 0.1 mm, scout
slices are 15 mm apart. Metres or micrometres taken for mm lie far outside."""

Array = NDArray[np.generic]
Affine = NDArray[np.float64]


def grid_of(
    shape: tuple[int, ...], affine: Affine, kind: Kind
) -> tuple[tuple[int, ...], tuple[float, ...], str]:
    """Return shape, spacing in mm, and where the stored axes lead, such as "LPS".

    Of a volume they are along right, front and head, however it is stored. A photograph has its
    width and height, and neither spacing nor orientation.
    """
    if kind.unit == "px":
        return shape[:2], (), ""
    axes = stored_axes(affine)
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    spacing_mm = tuple(float(edges_mm[axis]) for axis in axes)
    return tuple(shape[axis] for axis in axes), spacing_mm, "".join(aff2axcodes(affine))


def stored_axes(affine: Affine) -> NDArray[np.intp]:
    """Return which stored axis of a volume is the one along right, along front and along head."""
    return np.argsort(io_orientation(affine)[:, 0])


def check_spacing(spacing_mm: tuple[float, ...], file: str) -> Iterator[Fault]:
    """Yield a fault if an edge of the voxel is none that a scanner makes."""
    low, high = SPACING_RANGE_MM
    if not all(low <= edge <= high for edge in spacing_mm):
        yield Fault(
            "D104",
            "spacing is implausible",
            file,
            got=" x ".join(f"{edge:.4g}" for edge in spacing_mm) + " mm",
            expected=f"edges between {low:g} and {high:g} mm",
            do="convert the image again from its source: its unit or its header is wrong",
        )


def compare_pixels(
    shape: tuple[int, ...], label_shape: tuple[int, ...], image: str, label: str
) -> Iterator[Fault]:
    """Yield a fault if a mask has not one pixel for each pixel of its photograph."""
    if label_shape != shape:
        yield _shapes_differ(shape, label_shape, image, label)


def compare_grids(
    shape: tuple[int, ...],
    affine: Affine,
    label_shape: tuple[int, ...],
    label_affine: Affine,
    image: str,
    label: str,
) -> Iterator[Fault]:
    """Yield a fault if the voxels of a label are not those of its image, in patient space.

    The axes may be stored in another order or direction.

    Args:
        shape: of the image, as stored.
        affine: of the image, voxel index to RAS mm.
        label_shape: of the label, as stored.
        label_affine: of the label.
        image: path, for the message.
        label: path, for the message.
    """
    if label_shape == shape and np.array_equal(label_affine, affine):
        return
    shape, corners_mm = _canonical(shape, affine)
    label_shape, label_corners_mm = _canonical(label_shape, label_affine)
    if label_shape != shape:
        yield _shapes_differ(shape, label_shape, image, label)
        return
    apart_mm = np.linalg.norm(corners_mm - label_corners_mm, axis=1).max()
    if apart_mm > GRID_TOLERANCE_MM:
        yield Fault(
            "D203",
            "label and image lie apart in patient space",
            label,
            got=f"corners {apart_mm:.3g} mm away from those of {image}",
            expected=f"at most {GRID_TOLERANCE_MM} mm",
            do="draw the label on this image, or resample it to the grid of the image",
        )


def _shapes_differ(
    shape: tuple[int, ...], label_shape: tuple[int, ...], image: str, label: str
) -> Fault:
    return Fault(
        "D202",
        "label and image differ in shape",
        label,
        got=label_shape,
        expected=f"{shape} as {image}",
        do="draw the label on this image, or resample it to the grid of the image",
    )


def _canonical(
    shape: tuple[int, ...], affine: Affine
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the shape along right, front and head, and the eight corner voxels in RAS mm (8, 3).

    The same reordering of axes as MONAI's ``Orientationd("RAS")``, with which training begins.
    """
    axes = io_orientation(affine)
    canonical = affine @ inv_ornt_aff(axes, shape)
    shape = tuple(shape[axis] for axis in np.argsort(axes[:, 0]))
    corners = np.array([*itertools.product(*((0, size - 1) for size in shape))])
    return shape, corners @ canonical[:3, :3].T + canonical[:3, 3]
