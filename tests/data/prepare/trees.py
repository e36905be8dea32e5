"""Small source folders in the layouts that people have, written without the package's writers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from dim_monai.dicom.write import write_series

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def random_of(path: Path) -> np.random.Generator:
    """Returns a generator that is a function of the last parts of a path."""
    name = "/".join(path.parts[-6:])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def png(path: Path, rows: np.ndarray) -> Path:
    """Writes rows (H, W) or (H, W, 3) as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rows).save(path)
    return path


def photo(path: Path, size: tuple[int, int] = (6, 5)) -> Path:
    """Writes a colour photograph, another one for each path."""
    return png(path, random_of(path).integers(0, 256, (*size, 3), dtype=np.uint8))


def grey_slice(path: Path, size: tuple[int, int] = (6, 5)) -> Path:
    return png(path, random_of(path).integers(0, 256, size, dtype=np.uint8))


def nifti(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    """Writes a volume, another one for each path unless its voxels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if voxels is None:
        voxels = random_of(path).integers(0, 1000, (4, 5, 3), dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def label(path: Path, shape: tuple[int, ...] = (4, 5, 3), affine: np.ndarray = AFFINE) -> Path:
    return nifti(path, random_of(path).integers(0, 3, shape, dtype=np.uint8), affine)


def series(folder: Path, *, patient: str, affine: np.ndarray = AFFINE) -> np.ndarray:
    """Writes a DICOM series (4, 5, 3) of a patient and returns its voxels."""
    voxels = random_of(folder).integers(0, 1000, (4, 5, 3), dtype=np.int16)
    for path in write_series(folder, voxels, affine, seed_uid="/".join(folder.parts[-2:])):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = patient
        dataset.Manufacturer, dataset.ManufacturerModelName = "ACME Inc.", "One/T"
        dataset.save_as(path)
    return voxels


def dicom_seg(path: Path, folder: Path, segments: dict[int, np.ndarray], **changes: object) -> Path:
    """Writes a DICOM SEG of a series; ``segments`` are (frames, rows, columns) in file order.

    Its frames come last slice first and its columns run backwards, as a writer may choose.
    """
    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    first = slices[0]
    cosines = np.array(first.ImageOrientationPatient, dtype=float)
    backwards = [*(-cosines[:3]), *cosines[3:]]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SegmentationStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    seg.SOPClassUID, seg.SOPInstanceUID = SegmentationStorage, meta.MediaStorageSOPInstanceUID
    seg.SeriesInstanceUID, seg.Modality = generate_uid(), "SEG"
    seg.PatientID = str(first.PatientID)
    seg.SegmentationType = "BINARY"
    seg.Rows, seg.Columns = first.Rows, first.Columns
    seg.SamplesPerPixel, seg.PhotometricInterpretation = 1, "MONOCHROME2"
    seg.BitsAllocated = seg.BitsStored = 1
    seg.HighBit = seg.PixelRepresentation = 0
    seg.ReferencedSeriesSequence = Sequence([item(SeriesInstanceUID=first.SeriesInstanceUID)])
    seg.SegmentSequence = Sequence(
        [
            item(
                SegmentNumber=number,
                SegmentLabel="typed by somebody",
                SegmentedPropertyTypeCodeSequence=Sequence([item(CodeMeaning=f"Part {number}")]),
            )
            for number in segments
        ]
    )
    spacing = item(PixelSpacing=first.PixelSpacing)
    orientation = item(ImageOrientationPatient=[float(f"{c:.8f}") for c in backwards])
    seg.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([spacing]),
                PlaneOrientationSequence=Sequence([orientation]),
            )
        ]
    )
    frames, groups = [], []
    for number, stack in segments.items():
        for plane, dataset in reversed(list(zip(stack, slices, strict=True))):
            far = np.array(dataset.ImagePositionPatient, dtype=float) + cosines[:3] * float(
                first.PixelSpacing[1]
            ) * (first.Columns - 1)
            place = item(ImagePositionPatient=[float(f"{c:.8f}") for c in far])
            which = item(ReferencedSegmentNumber=number)
            groups.append(
                item(
                    PlanePositionSequence=Sequence([place]),
                    SegmentIdentificationSequence=Sequence([which]),
                )
            )
            frames.append(plane[:, ::-1])
    seg.PerFrameFunctionalGroupsSequence = Sequence(groups)
    seg.NumberOfFrames = len(frames)
    seg.PixelData = pack_bits(np.stack(frames).astype(np.uint8))
    for keyword, value in changes.items():
        setattr(seg, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def class_of(path: str) -> np.ndarray:
    """Returns the rows of a class-index PNG, and that it is one."""
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)
