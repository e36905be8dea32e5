"""The checks before the first step: every case is opened once, and every fault is reported.

A volume and its label must be readable, stand on one grid in patient space, and hold what their
list promises. The checks write nothing and hold one case in memory; they take about as long as
reading the files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from dim_monai.data.datalist import Datalist, Entry, TrainingData
from dim_monai.data.labels import LabelMapping
from dim_monai.data.reader import read_case
from dim_monai.errors import DataError

GRID_TOLERANCE_MM = 0.1
"""Largest distance between a corner voxel of an image and the same one of its label.

A fifth of the finest in-plane voxel in use (0.5 mm); float32 headers and decimal strings in DICOM
round to below 0.001 mm, while a shift by half a voxel, a flip or another spacing is far above.
"""

Volume = tuple[NDArray[np.float32], NDArray[np.float64]]
"""Voxels (X, Y, Z) and the affine from voxel index to RAS mm, as `read_case` returns them."""

TRAINING_SPLITS = ("labeled", "unlabeled", "validation")


@dataclass(frozen=True)
class Fault:
    """One reason why a case cannot be used.

    Attributes:
        code: what is wrong, in one clause.
        file: the file or folder that is wrong; None where it is the data list itself.
        got: what was found there.
        expected: what should have been found.
        do: what the user can do about it.
    """

    code: str
    file: str | None
    got: object = None
    expected: object = None
    do: str | None = None

    def __str__(self) -> str:
        """Return the fault on one line."""
        error = DataError(
            self.code, file=self.file, got=self.got, expected=self.expected, do=self.do
        )
        return " ".join(str(error).splitlines())


@dataclass(frozen=True)
class CaseFacts:
    """What the log says of a sound case: its name, its list, and its grid as training sees it.

    Attributes:
        case: its name.
        domain: its site or scanner.
        split: its list.
        shape: voxels along right, front and head, however the file stores its axes.
        spacing_mm: spacing along the same axes.
    """

    case: str
    domain: str
    split: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def check_cases(
    datalist: Datalist | TrainingData,
    mapping: LabelMapping,
    *,
    splits: Sequence[str] = TRAINING_SPLITS,
) -> list[Fault]:
    """Return every fault of every case of ``splits``; an empty list means that all is sound.

    Args:
        datalist: the cases.
        mapping: which label values are allowed.
        splits: the lists to check. The test list is not one of them unless asked for.
    """
    found = _inspect(datalist, mapping, splits)
    return [fault for fault in found if isinstance(fault, Fault)]


def require_sound(
    datalist: Datalist | TrainingData,
    mapping: LabelMapping,
    *,
    splits: Sequence[str] = TRAINING_SPLITS,
) -> list[CaseFacts]:
    """Return the facts of every case of ``splits``, or raise one error that lists every fault.

    The arguments are those of `check_cases`.

    Raises:
        DataError: there is a fault; the message has one line for each.
    """
    found = list(_inspect(datalist, mapping, splits))
    faults = [str(fault) for fault in found if isinstance(fault, Fault)]
    if faults:
        count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
        raise DataError("\n  ".join([f"the data cannot be used, {count}:", *faults]))
    return [facts for facts in found if isinstance(facts, CaseFacts)]


def _inspect(
    datalist: Datalist | TrainingData, mapping: LabelMapping, splits: Sequence[str]
) -> Iterator[Fault | CaseFacts]:
    for split in splits:
        entries: tuple[Entry, ...] = getattr(datalist, split)
        if split == "labeled" and not entries:
            yield Fault("no labelled case", None, expected="at least one to train on")
        for entry in entries:
            yield from _inspect_case(entry, split, mapping)


def _inspect_case(entry: Entry, split: str, mapping: LabelMapping) -> Iterator[Fault | CaseFacts]:
    image = _open(entry["image"])
    if isinstance(image, Fault):
        yield image
    else:
        voxels, affine = image
        spacing_mm = tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
        axes = np.argsort(io_orientation(affine)[:, 0])
        yield CaseFacts(
            entry["case"],
            entry["domain"],
            split,
            shape=tuple(voxels.shape[axis] for axis in axes),
            spacing_mm=tuple(spacing_mm[axis] for axis in axes),
        )
        if voxels.min() == voxels.max():
            yield Fault(
                "image is constant",
                entry["image"],
                got=f"{voxels.flat[0]:g} in every voxel",
                do="export the image again, or take the case out",
            )
    if "label" in entry:
        label = _open(entry["label"])
        if isinstance(label, Fault):
            yield label
            return
        if not isinstance(image, Fault):
            yield from _compare_grids(image, label, entry)
        yield from _inspect_label(label[0], entry, split, mapping)


def _open(path: str) -> Volume | Fault:
    """Return voxels and affine, or what the reader refused them for."""
    try:
        return read_case(path)
    except DataError as error:
        return _fault_of(error, path)
    except OSError as error:
        return Fault("case cannot be opened", path, got=error.strerror or error)


def _fault_of(error: DataError, path: str) -> Fault:
    return Fault(error.what, error.file or path, error.got, error.expected, error.do)


def _compare_grids(image: Volume, label: Volume, entry: Entry) -> Iterator[Fault]:
    """Compare the grids in patient space: axes may be stored in another order or direction."""
    shape, corners_mm = _grid(*image)
    label_shape, label_corners_mm = _grid(*label)
    do = "draw the label on this image, or resample it to the grid of the image"
    if label_shape != shape:
        yield Fault(
            "label and image differ in shape",
            entry["label"],
            got=label_shape,
            expected=f"{shape} as {entry['image']}",
            do=do,
        )
        return
    apart_mm = np.linalg.norm(corners_mm - label_corners_mm, axis=1).max()
    if apart_mm > GRID_TOLERANCE_MM:
        yield Fault(
            "label and image lie apart in patient space",
            entry["label"],
            got=f"corners {apart_mm:.3g} mm away from those of {entry['image']}",
            expected=f"at most {GRID_TOLERANCE_MM} mm",
            do=do,
        )


def _grid(
    voxels: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the shape along right, front and head, and the eight corner voxels in RAS mm (8, 3).

    The same reordering of axes as MONAI's ``Orientationd("RAS")``, with which training begins.
    """
    axes = io_orientation(affine)
    canonical = affine @ inv_ornt_aff(axes, voxels.shape)
    shape = tuple(voxels.shape[axis] for axis in np.argsort(axes[:, 0]))
    corners = np.array([*itertools.product(*((0, size - 1) for size in shape))])
    return shape, corners @ canonical[:3, :3].T + canonical[:3, 3]


def _inspect_label(
    values: NDArray[np.float32], entry: Entry, split: str, mapping: LabelMapping
) -> Iterator[Fault]:
    try:
        classes = mapping.apply(values, file=entry["label"])
    except DataError as error:
        yield _fault_of(error, entry["label"])
        return
    # In validation and test an empty truth is legitimate, and scored by a rule of its own.
    if split == "labeled" and not classes.any():
        yield Fault(
            "label is all background",
            entry["label"],
            got=f"{mapping.class_names[0]} in every voxel",
            expected=f"some voxels of {' or '.join(mapping.class_names[1:])}",
            do="list the case as unlabelled, or draw its label",
        )
