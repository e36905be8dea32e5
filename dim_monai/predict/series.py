"""One DICOM series as a volume: its proven geometry, with gaps only where the user allows them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.dicom.geometry import DUPLICATE_MM, SeriesGeometry, SliceHeader, prove_geometry
from dim_monai.dicom.instance import read_pixels

_DIGITS = 8


@dataclass(frozen=True)
class VolumeSeries:
    """A series whose files form a volume.

    Attributes:
        folder: where its files lie.
        files: in slice order; fewer than the geometry has slices where some are missing.
        geometry: of the whole volume, missing slices included.
        missing: indices of the slices that have no file.
    """

    folder: Path
    files: tuple[Path, ...]
    geometry: SeriesGeometry
    missing: tuple[int, ...] = ()

    @property
    def present(self) -> list[int]:
        """Indices of the slices that have a file."""
        return [k for k in range(self.geometry.shape[2]) if k not in self.missing]

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the voxels of the slices that have a file, and the affine.

        Returns:
            Voxels, float32 (X, Y, Z) in modality units, where the neighbours of a missing slice
            follow each other; affine, float64 (4, 4), index to RAS mm, right up to the first
            missing slice. Nothing stands in for a missing slice.

        Raises:
            DataError: see `dim_monai.dicom.instance.read_pixels`.
        """
        columns_rows = self.geometry.shape[:2]
        slices = [read_pixels(file, columns_rows) for file in self.files]
        return np.stack(slices, axis=2), self.geometry.affine_ras


def prove_series(
    folder: Path, headers: Sequence[SliceHeader], *, allow_missing_slices: bool = False
) -> VolumeSeries:
    """Return the series as a volume, or refuse it.

    Args:
        folder: where its files lie.
        headers: of its files, in any order.
        allow_missing_slices: whether there may be gaps of whole slices. Everything else is refused
            as without it.

    Raises:
        DataError: see `dim_monai.dicom.geometry.prove_geometry`.
    """
    absent = _missing(headers) if allow_missing_slices else []
    geometry = prove_geometry([*headers, *absent])
    files = tuple(headers[n].file for n in geometry.order if n < len(headers))
    missing = tuple(k for k, n in enumerate(geometry.order) if n >= len(headers))
    return VolumeSeries(folder, files, geometry, missing)


def pseudonym(uid: str) -> str:
    """Return what stands for a series in names and reports: 8 digits of the SHA-256 of its UID.

    A UID often holds the date and time of the examination, which names a patient to those who know
    the day. Whoever has the files can compute the same digits and find the series.
    """
    return hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]


def _missing(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Return stand-ins for the slices that gaps of whole slice distances have lost.

    Where no regular grid explains the positions, there are none, and `prove_geometry`, which sees
    them all, says what is wrong.
    """
    try:
        positions = np.array([header.position_mm for header in headers], dtype=np.float64)
        cosines = np.asarray(headers[0].orientation, dtype=np.float64)
        normal = np.cross(cosines[:3], cosines[3:6])
    except (TypeError, ValueError):
        return []
    if len(headers) < 3 or positions.shape[1:] != (3,) or not np.isfinite(positions).all():
        return []
    order = np.argsort(positions @ normal, kind="stable")
    distances_mm = (positions @ normal)[order]
    gaps_mm = np.diff(distances_mm)
    smallest_mm = float(gaps_mm.min())
    if smallest_mm < DUPLICATE_MM:
        return []
    steps = np.rint(gaps_mm / smallest_mm).astype(int)
    # So many are rather a sign of one slice that lies too near and makes a finer grid of all.
    if 2 * (steps.sum() - len(gaps_mm)) > len(headers):
        return []
    return [
        replace(
            headers[order[k]],
            position_mm=_between(positions[order[k]], positions[order[k + 1]], n / steps[k]),
        )
        for k in np.flatnonzero(steps > 1)
        for n in range(1, steps[k])
    ]


def _between(first: NDArray[np.float64], last: NDArray[np.float64], share: float) -> list[float]:
    position: list[float] = (first + share * (last - first)).tolist()
    return position
