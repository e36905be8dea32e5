"""The headers of a series as its DICOM SEG can repeat them.

Only copies in memory are changed: a header may say of the grid what the positions of its slices
contradict, and what the mask was made on is the grid that they prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pydicom
from pydicom.valuerep import format_number_as_ds

from dim_monai.dicom.geometry import LPS_TO_RAS, SeriesGeometry
from dim_monai.predict.series import VolumeSeries


def read_sources(series: VolumeSeries) -> Sequence[pydicom.Dataset]:
    """Return the headers of a series, without pixels, in slice order and on the proven grid.

    Raises:
        Exception: whatever pydicom raises of a file that it cannot read.
    """
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files]
    for k, dataset in zip(series.present, sources, strict=True):
        _place(dataset, series.geometry, k)
    return sources


def _place(dataset: pydicom.Dataset, geometry: SeriesGeometry, k: int) -> None:
    """Say of slice ``k`` what the geometry proves, whatever stood there.

    A DICOM SEG has one orientation and one spacing for all frames, and its readers take
    SliceThickness, which may be empty, and SpacingBetweenSlices, which may be the protocol's, at
    their word. Positions move by what `prove_geometry` lets a slice lie off its place at the most.
    """
    affine_lps = LPS_TO_RAS @ geometry.affine_ras
    cosines = affine_lps[:3, :3] / geometry.spacing_mm
    column_mm, row_mm, slice_mm = geometry.spacing_mm
    dataset.ImageOrientationPatient = _decimals(cosines[:, :2].T.ravel())
    dataset.ImagePositionPatient = _decimals(affine_lps[:3] @ [0, 0, k, 1])
    dataset.PixelSpacing = _decimals([row_mm, column_mm])  # between rows first
    (dataset.SliceThickness,) = (dataset.SpacingBetweenSlices,) = _decimals([slice_mm])


def _decimals(values: Iterable[float]) -> list[str]:
    """Return DICOM decimal strings: the closest numbers of at most 16 characters."""
    return [str(format_number_as_ds(float(value))) for value in values]
