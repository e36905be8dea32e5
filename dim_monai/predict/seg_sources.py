"""The headers of a series as its DICOM SEG can repeat them.

Only copies in memory are changed. A header may say of the grid what the positions of its slices
contradict, and what the mask was made on is the grid that they prove. And it may lack of patient
and study what anonymisation takes out, or write them as no standard does: a SEG that says nothing
there is right, and one that is not written helps nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.valuerep import DA, TM, format_number_as_ds

from dim_monai.dicom.geometry import LPS_TO_RAS, SeriesGeometry
from dim_monai.errors import DataError
from dim_monai.predict.series import VolumeSeries

_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Of type 2 in DICOM PS3.3, C.7.1.1 and C.7.2.1: there, but empty where nothing is known."""

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
"""What a SEG refers to its images by; nothing else can stand for it."""

_SEXES = ("M", "F", "O")

_KOREAN = "ISO_IR 149"
"""What many write for ISO 2022 IR 149; pydicom does not know it and would read Latin letters."""


def read_sources(series: VolumeSeries) -> Sequence[pydicom.Dataset]:
    """Return the headers of a series, without pixels, in slice order, on the proven grid, in UTF-8.

    Raises:
        DataError: an image lacks what a SEG refers to it by.
        Exception: whatever pydicom raises of a header that it cannot read.
    """
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files]
    for k, file, dataset in zip(series.present, series.files, sources, strict=True):
        if lacks := [keyword for keyword in _NEEDED if not dataset.get(keyword)]:
            raise refused(file, f"no {', '.join(lacks)}")
        _place(dataset, series.geometry, k)
        _fill(dataset)
    return sources


def refused(file: Path, got: str) -> DataError:
    """Return the error of a series that no SEG can be made of."""
    return DataError(
        "no DICOM SEG can be made of this series",
        file=file,
        got=got,
        expected="headers with all that the standard asks of an image",
        do="export the series again from its source, or leave --dicom-seg out",
    )


def keywords_in(text: str) -> str:
    """Return the keywords of DICOM that a text from elsewhere names; it may quote values, too."""
    words = re.findall(r"[A-Z][A-Za-z]+", text)
    return ", ".join(dict.fromkeys(word for word in words if tag_for_keyword(word) is not None))


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


def _fill(dataset: pydicom.Dataset) -> None:
    """Empty what is absent or no value of its kind, and bring all text to one character set.

    highdicom knows no character set of ISO 2022 that begins with an empty value, as is usual in
    Japan and Korea; what pydicom has decoded is written again as UTF-8.
    """
    if dataset.get("SpecificCharacterSet") == _KOREAN:
        dataset.set_original_encoding(None, None, "euc_kr")
        dataset.SpecificCharacterSet = "ISO 2022 IR 149"
    dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset or dataset[keyword].value is None:
            setattr(dataset, keyword, "")
    if dataset.PatientSex not in _SEXES:
        dataset.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(dataset[keyword].value)
        except (TypeError, ValueError):
            setattr(dataset, keyword, "")


def _decimals(values: Iterable[float]) -> list[str]:
    """Return DICOM decimal strings: the closest numbers of at most 16 characters."""
    return [str(format_number_as_ds(float(value))) for value in values]
