"""A mask as DICOM SEG, which names the images it was made from and what it shows.

The file belongs into the examination of its images, so it holds the patient's name as they do. Its
name and its log do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from dim_monai import __version__
from dim_monai.errors import ConfigError, DataError
from dim_monai.files import atomic_write
from dim_monai.predict.measure import Structure
from dim_monai.predict.quiet import quiet_headers
from dim_monai.predict.seg_sources import keywords_in, read_sources, refused
from dim_monai.predict.series import VolumeSeries

CATEGORY = ("91723000", "SCT", "Anatomical Structure")  # DICOM PS3.16, CID 7150
MANUFACTURER = "dim_monai developers"
SERIES_NUMBER = 9000
"""Of the SEG, above those of a scanner; the number of its source, which may be any, is not used."""


@dataclass(frozen=True)
class SegmentationMaker:
    """Writes DICOM SEG files of one bundle.

    Attributes:
        structures: one segment each, in this order, numbered from 1; each has a code.
        bundle: name and version of the bundle, which the file names as the algorithm.
        version: its version.
        model_sha256: of the weights; its first digits stand for the device.
    """

    structures: tuple[Structure, ...]
    bundle: str
    version: str
    model_sha256: str

    def __post_init__(self) -> None:
        """Refuse what would fail at the end of each case.

        Raises:
            ConfigError: highdicom is not installed, or a structure has no code.
        """
        try:
            import highdicom  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "a DICOM SEG needs highdicom", do="pip install 'dim-monai[dicom-seg]'"
            ) from error
        for structure in self.structures:
            if structure.code is None:
                raise ConfigError(
                    "a DICOM SEG needs a code for each structure",
                    got=f"none for {structure.name}",
                    do="add code: [value, scheme, meaning] to it in the bundle's structures",
                )

    def write(self, path: Path, labels: NDArray[np.uint8], series: VolumeSeries) -> None:
        """Write the mask of a series, whole or not at all.

        Args:
            path: where to; its folder is there.
            labels: (X, Y, Z) of the slices that have a file, in their order.
            series: what the mask was made from.

        Raises:
            DataError: the headers of the series lack what a DICOM SEG has to repeat.
        """
        try:
            with quiet_headers():
                dataset = self._dataset(read_sources(series), labels)
        except DataError:
            raise
        except Exception as error:  # what a header lacks, highdicom says in many ways
            named = keywords_in(str(error))
            kind = type(error).__name__
            raise refused(series.folder, f"{kind} about {named}" if named else kind) from error
        with atomic_write(path, "wb") as file:
            dataset.save_as(file)

    def _dataset(self, sources: Sequence[pydicom.Dataset], labels: NDArray[np.uint8]) -> Any:
        import highdicom as hd

        masks = [np.isin(labels, structure.classes) for structure in self.structures]
        frames = np.stack(masks, axis=-1).transpose(2, 1, 0, 3)  # (slice, row, column, segment)
        algorithm = hd.AlgorithmIdentificationSequence(
            name=self.bundle,
            version=self.version,
            family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        )
        segments = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=structure.name,
                segmented_property_category=hd.sr.CodedConcept(*CATEGORY),
                segmented_property_type=hd.sr.CodedConcept(*_code(structure)),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=hd.UID(),
                tracking_id=structure.name,
            )
            for number, structure in enumerate(self.structures, start=1)
        ]
        return hd.seg.Segmentation(
            source_images=sources,
            pixel_array=frames.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=self.bundle,
            software_versions=f"dim_monai {__version__}",
            device_serial_number=self.model_sha256[:16],
            series_description=f"{self.bundle}: research use only",
            content_label="SEGMENTATION",
        )


def _code(structure: Structure) -> tuple[str, str, str]:
    if structure.code is None:
        raise ValueError(f"{structure.name} has no code")
    return structure.code
