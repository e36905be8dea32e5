"""What a label says, on its own: values, emptiness, borders, and which class encloses which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dim_monai.data.checks.faults import Fault
from dim_monai.data.datalist import Entry
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import DataError

ENCLOSED = {"cup": "rim"}
"""Class -> the class around it: the optic cup lies within the rim, and both form the disc."""

MAX_VALUE = 255
"""Largest label value that is taken for a class where no mapping says what the values mean."""

Classes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LabelContent:
    """A label whose values are sound.

    Attributes:
        names: of the classes; the first is the background.
        classes: class index of every voxel, (X, Y, Z) or (W, H).
        counts: voxels of each class.
    """

    names: tuple[str, ...]
    classes: Classes
    counts: NDArray[np.int64]


def read_classes(values: NDArray[Any], mapping: LabelMapping | None, file: str) -> LabelContent:
    """Return what a label says of each voxel.

    Args:
        values: of the label file.
        mapping: which values form which class. None: each value is a class of its own, 0 the
            background, named by its number.
        file: for the message.

    Raises:
        DataError: a value is of no class; without a mapping, it is none of 0 to `MAX_VALUE`.
    """
    codes = _as_bytes(values)
    if codes is None:
        if mapping is None:
            raise _no_classes(values, file)
        mapped = mapping.apply(values, file=file)
        return _counted(mapping.class_names, mapped, np.bincount(mapped.ravel(order="K")))
    counts = np.bincount(codes.ravel(order="K"))
    if mapping is None:
        return _counted(tuple(map(str, range(len(counts)))), codes, counts)
    # A label has few values: the mapping is asked once for each, and not for every voxel.
    present = np.flatnonzero(counts)
    try:
        of_present = mapping.apply(present)
    except DataError:
        mapping.apply(values, file=file)  # raises the same, and knows how many voxels there are
        raise
    classes: Classes = codes
    if not np.array_equal(of_present, present):
        table = np.zeros(len(counts), np.uint8)
        table[present] = of_present
        classes = table.take(codes)
    per_class = np.bincount(of_present, weights=counts[present]).astype(np.int64)
    return _counted(mapping.class_names, classes, per_class)


def _counted(names: tuple[str, ...], classes: Classes, counts: NDArray[np.int64]) -> LabelContent:
    return LabelContent(names, classes, np.pad(counts, (0, len(names) - len(counts))))


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the values if all are integers from 0 to `MAX_VALUE`, else None."""
    if values.min() < 0 or values.max() > MAX_VALUE:
        return None
    codes = values.astype(np.uint8)
    return codes if (codes == values).all() else None


def _no_classes(values: NDArray[Any], file: str) -> DataError:
    got = f"values from {values.min():g} to {values.max():g}"
    whole = bool((values == np.trunc(values)).all())
    return DataError(
        "label value that is no class",
        file=file,
        got=got if whole else f"{got}, some between two integers",
        expected=f"integers from 0 to {MAX_VALUE}",
        do="check that this is the label and not the image; or say what its values mean",
    )


def check_label(label: LabelContent, entry: Entry, split: str, *, flat: bool) -> Iterator[Fault]:
    """Yield the faults and remarks of a label whose values are sound.

    Args:
        label: its content.
        entry: the case.
        split: its list.
        flat: whether it is of a photograph. Then a class at the border is remarkable; in a volume
            an organ may well begin below the first slice.
    """
    file = entry["label"]
    element = "pixels" if flat else "voxels"
    # In validation and test an empty truth is legitimate, and scored by a rule of its own.
    if split == "labeled" and not label.counts[1:].any():
        yield Fault(
            "D205",
            "label is all background",
            file,
            got=f"{label.names[0]} in all {element}",
            expected=f"some {element} of {' or '.join(label.names[1:]) or 'another value'}",
            do="list the case as unlabelled, or draw its label",
        )
    yield from _check_enclosed(label, file, element)
    if flat and any(edge.any() for edge in _edges(label.classes)):
        yield Fault(
            "R003",
            "label touches the border of its image",
            file,
            got="a class other than the background in the outermost pixels",
            do="look whether the structure is cut off",
        )


def _check_enclosed(label: LabelContent, file: str, element: str) -> Iterator[Fault]:
    for inner, outer in ENCLOSED.items():
        if inner not in label.names or outer not in label.names:
            continue
        is_inner, is_outer = (label.classes == label.names.index(name) for name in (inner, outer))
        parts, count = ndimage.label(is_inner | is_outer)
        enclosed = np.unique(parts[is_outer])
        lost = is_inner & ~np.isin(parts, enclosed)
        if lost.any():
            parts_lost = count - len(enclosed)
            yield Fault(
                "D206",
                f"{inner} outside of the {outer}",
                file,
                got=f"{int(lost.sum())} {element} of {inner} in {parts_lost} "
                f"part{'s' if parts_lost > 1 else ''} without {outer}",
                expected=f"{outer} around every part of {inner}",
                do="mend the label; check that its values mean what the label mapping says",
            )


def _edges(classes: Classes) -> Iterator[Classes]:
    for axis in range(classes.ndim):
        yield classes.take([0, -1], axis=axis)
