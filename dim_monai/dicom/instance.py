"""One DICOM instance on disk: whether a file is one, what its header says, its pixels.

Calls into the parser are wrapped whole: damaged bytes make it raise almost anything, and what it
raises, warns and logs may quote the header. Only the names of exceptions, files and tags, numbers
and terms of the standard reach a message: a tag of the wrong type may hold anything.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import UID

from dim_monai.dicom.geometry import SliceHeader
from dim_monai.errors import DataError

_MEDIA_DIRECTORY = UID("1.2.840.10008.1.3.10")
_PREAMBLE_BYTES = 132
_LONGEST_VALUE = 6  # numbers: ImageOrientationPatient
_HEADER_TAGS = [
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
]

_TERMS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"),
)
"""Defined terms of PhotometricInterpretation."""

_MORE_DECODERS = "pip install 'dim-monai[compressed]'"

# Silencing a warning is not safe between threads, and data sets are read by several.
_silence = threading.RLock()


@contextmanager
def parsing() -> Iterator[None]:
    """Keeps what the parser would warn and log to itself; values are parsed on access, too."""
    log = logging.getLogger("pydicom")
    with _silence, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = before


def sop_class(path: Path) -> UID | None:
    """Returns the SOP class of a DICOM instance, None for any other file and for a DICOMDIR.

    The content decides: an instance bears the mark "DICM" after 128 bytes.

    Raises:
        DataError: the file has the mark but no readable file header, or is called .dcm without
        the mark.
    """
    try:
        with path.open("rb") as stream:
            marked = stream.read(_PREAMBLE_BYTES)[-4:] == b"DICM"
        with parsing():
            meta = read_file_meta_info(path) if marked else None
            found = None if meta is None else UID(str(meta.get("MediaStorageSOPClassUID", "")))
    except Exception as error:
        raise damaged(path, type(error).__name__) from error
    if found is None and path.suffix.lower() == ".dcm":
        raise damaged(path, "no DICOM mark in its first 132 bytes")
    return None if found == _MEDIA_DIRECTORY else found


def read_header(path: Path) -> SliceHeader:
    """Returns what the header of the instance at `path` says about its series and place, unchecked.

    Raises:
        DataError: the file or one of the tags cannot be parsed, or SeriesInstanceUID is missing.
    """
    try:
        with parsing():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    except Exception as error:
        raise damaged(path, type(error).__name__) from error
    tags = {keyword: _tag(dataset, keyword, path) for keyword in _HEADER_TAGS}
    if not tags["SeriesInstanceUID"]:
        raise damaged(path, "no SeriesInstanceUID")
    many_frames = tags["NumberOfFrames"] not in (None, "", 1)
    return SliceHeader(
        file=path,
        series_uid=str(tags["SeriesInstanceUID"]),
        modality=str(tags["Modality"] or ""),
        rows=_numbers(tags, "Rows", path),
        columns=_numbers(tags, "Columns", path),
        pixel_spacing_mm=_numbers(tags, "PixelSpacing", path),
        orientation=_numbers(tags, "ImageOrientationPatient", path),
        position_mm=_numbers(tags, "ImagePositionPatient", path),
        multi_frame=many_frames or tags["PerFrameFunctionalGroupsSequence"] is not None,
    )


def read_pixels(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Returns one slice in modality units, float32 (columns, rows).

    RescaleSlope and RescaleIntercept are applied. MONOCHROME1 is refused: its stored values may run
    backwards, and whether they do cannot be told from the file.

    Args:
        path: a single-frame instance.
        shape: (columns, rows) that the header gave.

    Raises:
        DataError: colour, MONOCHROME1 or a modality lookup table; pixel data that is truncated,
            compressed without a decoder, of another size or not finite; an unusable rescaling.
    """
    try:
        with parsing():
            dataset = pydicom.dcmread(path)
    except Exception as error:
        raise damaged(path, type(error).__name__) from error
    _require_plain_grey(dataset, path)
    try:
        with parsing():
            stored = np.asarray(dataset.pixel_array)
    except Exception as error:
        raise _undecoded(dataset, path, shape, error) from error
    if stored.shape != (shape[1], shape[0]):
        raise damaged(path, f"pixel array of shape {stored.shape}")
    slope, intercept = _rescale(dataset, path)
    # What float32 cannot hold becomes infinite: refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        values = (stored.T.astype(np.float64) * slope + intercept).astype(np.float32)
    if not np.isfinite(values).all():
        raise damaged(path, f"{int((~np.isfinite(values)).sum())} pixels that are not finite")
    return values


def _undecoded(
    dataset: pydicom.Dataset, path: Path, shape: tuple[int, int], error: Exception
) -> DataError:
    """Returns the error for pixels that no installed decoder makes sense of."""
    # Whatever stands there: what pydicom warns of, it quotes.
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")), IGNORE)
    # One of the standard has a name there; whatever else stands in the tag is not repeated.
    is_known = syntax.is_transfer_syntax and not syntax.is_private
    do = "copy the file again, it may be truncated"
    if is_known and syntax.is_compressed:
        do += f"; for more compressions {_MORE_DECODERS}"
    return DataError(
        "pixel data cannot be decoded",
        file=path,
        got=f"{type(error).__name__}, {syntax.name if is_known else 'unknown transfer syntax'}",
        expected=f"{shape[1]} rows of {shape[0]} pixels",
        do=do,
    )


def damaged(path: Path, got: str) -> DataError:
    """Returns the error for an instance that is not whole."""
    return DataError(
        "DICOM file cannot be read",
        file=path,
        got=got,
        expected="a complete DICOM instance",
        do="copy or export the file again",
    )


def _tag(dataset: pydicom.Dataset, keyword: str, path: Path) -> object:
    """Returns the value, None where absent. Values are parsed, and fail, on access."""
    try:
        with parsing():
            return dataset.get(keyword)
    except Exception as error:
        raise _mistyped(keyword, path) from error


def _numbers(tags: dict[str, object], keyword: str, path: Path) -> object:
    """Returns a number or a list of them, None where absent, and refuses text and long lists."""
    value = tags[keyword]
    if value is None or isinstance(value, int | float):
        return value if value is None else float(value)
    if isinstance(value, MultiValue) and len(value) <= _LONGEST_VALUE:
        items = list(value)
        if all(isinstance(item, int | float) for item in items):
            return [float(item) for item in items]
    raise _mistyped(keyword, path)


def _mistyped(keyword: str, path: Path) -> DataError:
    return DataError(
        "DICOM tag cannot be read",
        file=path,
        got=f"{keyword} that is not of its type",
        expected=f"a valid {keyword}",
        do="export the series again from its source",
    )


def _require_plain_grey(dataset: pydicom.Dataset, path: Path) -> None:
    samples = _tag(dataset, "SamplesPerPixel", path)
    photometric = _tag(dataset, "PhotometricInterpretation", path)
    if samples != 1 or photometric != "MONOCHROME2" or "ModalityLUTSequence" in dataset:
        table = " with a modality lookup table" if "ModalityLUTSequence" in dataset else ""
        raise DataError(
            "pixels are not plain grey values",
            file=path,
            got=f"SamplesPerPixel {_shown(samples)}, "
            f"PhotometricInterpretation {_shown(photometric)}{table}",
            expected="1 sample, MONOCHROME2, no modality lookup table",
            do="export or convert the series as MONOCHROME2 grey values",
        )
    stored, high = _tag(dataset, "BitsStored", path), _tag(dataset, "HighBit", path)
    if high is not None and (not isinstance(stored, int) or high != stored - 1):
        raise DataError(  # the decoder would take the lowest bits whatever HighBit says
            "pixels are not in the lowest bits",
            file=path,
            got=f"BitsStored {_shown(stored)}, HighBit {_shown(high)}",
            expected="a HighBit that is BitsStored - 1",
            do="export the series again from its source",
        )


def _shown(value: object) -> str:
    """Returns numbers and terms of the standard as text, and of anything else only that it is."""
    if isinstance(value, int | float):
        return f"{float(value):g}"
    return "missing" if value is None else str(value) if value in _TERMS else "of another kind"


def _rescale(dataset: pydicom.Dataset, path: Path) -> tuple[float, float]:
    slope, intercept = _tag(dataset, "RescaleSlope", path), _tag(dataset, "RescaleIntercept", path)
    if slope is None and intercept is None:
        return 1.0, 0.0
    try:
        pair = np.array([slope, intercept], dtype=np.float64)
    except (TypeError, ValueError):
        pair = np.full(2, np.nan)
    if pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] == 0:
        raise DataError(
            "slice has no usable rescaling",
            file=path,
            got=f"RescaleSlope {_shown(slope)}, RescaleIntercept {_shown(intercept)}",
            expected="two finite numbers, the slope not 0",
            do="export the series again from its source",
        )
    return float(pair[0]), float(pair[1])
