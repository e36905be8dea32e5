"""Writes a volume as a plain DICOM series: one uncompressed 16-bit file per slice, no patient."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset, validate_file_meta
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from dim_monai.dicom.geometry import LPS_TO_RAS, Floats
from dim_monai.errors import DataError

_ORTHOGONAL_TOLERANCE = 1e-4
"""Largest cosine between two axes; float32 affines, the usual source, are exact to 1e-6."""

_INT16 = np.iinfo(np.int16)

# What the image module of each modality demands beyond the common part; "" is "unknown".
_MODULES: dict[str, dict[str, object]] = {
    "MR": {
        "SOPClassUID": MRImageStorage,
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": "",
        "EchoTrainLength": "",
        "RepetitionTime": "",
    },
    "CT": {
        "SOPClassUID": CTImageStorage,
        "KVP": "",
        "AcquisitionNumber": "",
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
    },
}


def write_series(
    folder: str | os.PathLike[str],
    array: NDArray[np.generic],
    affine_ras: Floats,
    *,
    modality: str = "MR",
    seed_uid: str,
) -> list[Path]:
    """Writes `array` as one DICOM series and returns its files, sorted by name and by slice index.

    The same arguments give the same bytes: every UID is derived from `seed_uid`. Two series need
    two seeds. Patient and study fields are fixed and name nobody. Reading the series back gives
    each voxel at its place in the patient; slices that run against cross(row, column) come back
    in reverse order.

    Args:
        folder: a new or empty folder.
        array: (X, Y, Z), whole numbers that int16 can hold; X are columns, Y rows, Z >= 2 slices.
        affine_ras: (4, 4), voxel index to RAS mm, with axes perpendicular to each other.
        modality: "MR" or "CT".
        seed_uid: any text that is unique to the series.

    Raises:
        DataError: `folder` is not empty.
        ValueError: an array or affine that is not as above, or another modality.
    """
    pixels = _as_int16(array)
    affine_lps = LPS_TO_RAS @ _orthogonal(affine_ras)
    if modality not in _MODULES:
        raise ValueError(f"modality {modality!r} is none of {sorted(_MODULES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(
            "folder for a new series is not empty",
            file=folder,
            do="choose a new folder or empty it",
        )
    common = _common(pixels.shape, affine_lps, modality, seed_uid)
    paths = []
    for k in range(pixels.shape[2]):
        path = folder / f"slice_{k + 1:04d}.dcm"
        _write_slice(path, common, pixels[:, :, k], affine_lps @ [0, 0, k, 1], k, seed_uid)
        paths.append(path)
    return paths


def _as_int16(array: NDArray[np.generic]) -> NDArray[np.int16]:
    values = np.asarray(array)
    if values.ndim != 3 or min(values.shape) < 1 or values.shape[2] < 2:
        raise ValueError(f"array of shape {values.shape}, expected (X, Y, Z) with Z >= 2")
    # Compared before the cast, which wraps silently; NaN and infinity fail the comparison as well.
    within = (values >= _INT16.min) & (values <= _INT16.max)
    if not (within.all() and (values == np.rint(values)).all()):
        raise ValueError("array holds values that int16 cannot: round and clip them first")
    return values.astype(np.int16)


def _orthogonal(affine: Floats) -> Floats:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError("affine_ras must be (4, 4) and finite")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() <= 0:
        raise ValueError("affine_ras has an axis of length 0")
    cosines = matrix[:3, :3] / lengths
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > _ORTHOGONAL_TOLERANCE:
        raise ValueError(
            "affine_ras has axes that are not perpendicular: resample the volume first"
        )
    return matrix


def _common(shape: tuple[int, ...], affine_lps: Floats, modality: str, seed_uid: str) -> Dataset:
    """Returns the part of the header that all slices share."""
    spacing_mm = np.linalg.norm(affine_lps[:3, :3], axis=0)
    cosines = affine_lps[:3, :3] / spacing_mm
    common = Dataset()
    for keyword in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *(
            "ReferringPhysicianName",
            "Manufacturer",
            "PositionReferenceIndicator",
            "PatientPosition",
        ),
    ):
        setattr(common, keyword, "")
    common.PatientName = common.PatientID = "ANONYMOUS"
    common.StudyInstanceUID = generate_uid(entropy_srcs=[seed_uid, "study"])
    common.SeriesInstanceUID = generate_uid(entropy_srcs=[seed_uid, "series"])
    common.FrameOfReferenceUID = generate_uid(entropy_srcs=[seed_uid, "frame of reference"])
    common.Modality = modality
    common.SeriesNumber = 1
    common.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    common.ImageOrientationPatient = _decimals(cosines[:, :2].T.ravel())
    common.PixelSpacing = _decimals(spacing_mm[[1, 0]])  # between rows first, then between columns
    common.SliceThickness = _decimals(spacing_mm[[2]])
    common.Columns, common.Rows = int(shape[0]), int(shape[1])
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit = 15
    common.PixelRepresentation = 1
    for keyword, value in _MODULES[modality].items():
        setattr(common, keyword, value)
    return common


def _write_slice(
    path: Path,
    common: Dataset,
    pixels: NDArray[np.int16],
    position_mm: Floats,
    k: int,
    seed_uid: str,
) -> None:
    """Writes slice `k`: `pixels` (columns, rows), `position_mm` of the first pixel in LPS."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # filled in on writing, but only where it is present
    meta.MediaStorageSOPClassUID = common.SOPClassUID
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[seed_uid, "instance", str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    validate_file_meta(meta, enforce_standard=True)
    # Mark, file header and encoding are all given here, so that saving needs none of the options
    # that pydicom 2 and 3 call by different names.
    dataset = FileDataset(
        str(path),
        {},
        preamble=bytes(128),
        file_meta=meta,
        is_implicit_VR=False,
        is_little_endian=True,
    )
    dataset.update(common)
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = _decimals(position_mm[:3])
    dataset.PixelData = pixels.T.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)


def _decimals(values: Floats) -> list[str]:
    """Returns DICOM decimal strings: the closest numbers of at most 16 characters."""
    return [str(format_number_as_ds(float(value))) for value in values]
