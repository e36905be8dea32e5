"""One case, opened once: its faults, its remarks, and what is told of it if it is sound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.grids import (
    check_spacing,
    compare_grids,
    compare_pixels,
    grid_of,
    stored_axes,
)
from dim_monai.data.checks.hashes import check_hash
from dim_monai.data.checks.labels import check_label, read_classes
from dim_monai.data.checks.sample import Labels, Sample, sample_photograph, sample_volume
from dim_monai.data.constant import require_variation
from dim_monai.data.datalist import Entry
from dim_monai.data.kinds import Kind, Loaded
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import DataError

INTENSITY_PERCENTILES = (1.0, 50.0, 99.0)
"""Without the few darkest and brightest values, which are air and artefacts."""

_SAMPLED = 20_000
"""Values the percentiles are taken from: their ranks are then exact to about a tenth of one."""


@dataclass(frozen=True)
class CaseFacts:
    """What is told of a case that can be read: its name, its list, its grid and its content.

    Attributes:
        case: its name.
        domain: its site, scanner or camera.
        split: its list.
        shape: voxels along right, front and head, however the file stores its axes; of a
            photograph, pixels along right and down.
        spacing_mm: spacing along the same axes; of a photograph, which has none, empty.
        orientation: where the stored axes lead, such as "LPS"; empty for a photograph.
        intensity: `INTENSITY_PERCENTILES` of the image.
        volumes: volume of each class but the background, ml, or its area, px; None without a label
            or where its label cannot be read.
        empty_slices: slices along head in which the label shows the background alone; None where
            `volumes` is, and for a photograph.
        checksum: of the values of the image; equal images have the same, and few others do.
    """

    case: str
    domain: str
    split: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str = ""
    intensity: tuple[float, ...] = ()
    volumes: Mapping[str, float] | None = None
    empty_slices: int | None = None
    checksum: int = 0


@dataclass(frozen=True)
class Inspected:
    """What the checks found in one case.

    Attributes:
        found: faults and remarks, in the order of the checks.
        facts: None where the image cannot be read.
        sample: what a contact sheet shows of it; None unless asked for, or unreadable.
    """

    found: tuple[Fault, ...] = ()
    facts: CaseFacts | None = None
    sample: Sample | None = None


@dataclass
class _Opened:
    """A case while it is inspected."""

    image: Loaded | None = None
    labels: Labels | None = None
    volumes: dict[str, float] | None = None
    empty_slices: int | None = None
    found: list[Fault] = field(default_factory=list)


def inspect_case(
    entry: Entry, split: str, mapping: LabelMapping | None, kind: Kind, *, picture: bool = False
) -> Inspected:
    """Open a case once and return everything that can be said of it.

    Args:
        entry: the case, see `Datalist`.
        split: its list.
        mapping: which label values are allowed; None allows every integer.
        kind: volume or photograph.
        picture: whether a sample for the contact sheet is wanted.
    """
    opened = _Opened()
    facts = _inspect_image(opened, entry, split, kind)
    if "label" in entry:
        _inspect_label(opened, entry, split, mapping, kind)
    if facts is None or opened.image is None:
        return Inspected(tuple(opened.found))
    sample = None
    if picture:
        fits = not any(fault.code == "D202" for fault in opened.found)
        draw = sample_photograph if kind.unit == "px" else sample_volume
        sample = draw(entry, opened.image, opened.labels if fits else None)
    facts = replace(facts, volumes=opened.volumes, empty_slices=opened.empty_slices)
    return Inspected(tuple(opened.found), facts, sample)


def _inspect_image(opened: _Opened, entry: Entry, split: str, kind: Kind) -> CaseFacts | None:
    path = entry["image"]
    opened.found += check_hash(entry, "image")
    code = "D102" if os.path.isdir(path) else "D101"
    opened.image = _open(kind.read_image, path, code, opened.found)
    if opened.image is None:
        return None
    values, affine = opened.image
    shape, spacing_mm, orientation = grid_of(values.shape, affine, kind)
    if spacing_mm:
        opened.found += check_spacing(spacing_mm, path)
    try:
        require_variation(Path(path), values, kind.element)
    except DataError as error:
        opened.found.append(Fault.of("D103", error, path))
    return CaseFacts(
        entry["case"],
        entry["domain"],
        split,
        shape,
        spacing_mm,
        orientation,
        _percentiles(values),
        checksum=_checksum(values),
    )


def _inspect_label(
    opened: _Opened, entry: Entry, split: str, mapping: LabelMapping | None, kind: Kind
) -> None:
    path = entry["label"]
    opened.found += check_hash(entry, "label")
    label = _open(kind.read_label, path, "D201", opened.found)
    if label is None:
        return
    values, affine = label
    if opened.image is not None:
        opened.found += _compare(opened.image, label, entry, kind)
    try:
        content = read_classes(values, mapping, path)
    except DataError as error:
        opened.found.append(Fault.of("D204", error, path))
        return
    opened.labels = content.classes, affine
    opened.found += check_label(content, entry, split, flat=kind.unit == "px")
    # Of a photograph the affine is the identity: one pixel counts one.
    size = abs(float(np.linalg.det(affine[:3, :3]))) / (1 if kind.unit == "px" else 1000)
    counts = zip(content.names[1:], content.counts[1:], strict=True)
    opened.volumes = {name: float(count) * size for name, count in counts}
    if kind.unit == "mm":
        head = int(stored_axes(affine)[2])
        shown = np.moveaxis(content.classes, head, 0).reshape(content.classes.shape[head], -1)
        opened.empty_slices = int((~shown.any(axis=1)).sum())


def _compare(image: Loaded, label: Loaded, entry: Entry, kind: Kind) -> Iterator[Fault]:
    paths = entry["image"], entry["label"]
    if kind.unit == "px":
        return compare_pixels(image[0].shape[:2], label[0].shape, *paths)
    return compare_grids(image[0].shape, image[1], label[0].shape, label[1], *paths)


def _open(
    read: Callable[[Path], Loaded], path: str, code: str, found: list[Fault]
) -> Loaded | None:
    """Return voxels and affine, or add what the reader refused them for."""
    try:
        return read(Path(path))
    except DataError as error:
        found.append(Fault.of(code, error, path))
    except OSError as error:
        found.append(Fault(code, "file cannot be opened", path, got=error.strerror or error))
    return None


def _percentiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    flat = values.ravel(order="K")  # as it lies in memory: no copy
    if flat.size > _SAMPLED:
        # Places drawn once and for all: a constant step could walk along one edge of the image.
        flat = flat[np.random.default_rng(0).integers(flat.size, size=_SAMPLED)]
    return tuple(float(value) for value in np.percentile(flat, INTENSITY_PERCENTILES))


def _checksum(values: NDArray[np.float32]) -> int:
    """The sum of the bits of all values: at the speed of memory, in whatever order they lie."""
    bits = values.ravel(order="K").view(np.uint32)
    return int(bits.sum(dtype=np.uint32)) & 0x7FFFFFFF  # without signs, for -0 is 0
