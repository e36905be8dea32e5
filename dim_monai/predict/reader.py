"""The reader of the cases that were found, in the place of the one that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.constant import require_variation
from dim_monai.data.photograph import is_photograph
from dim_monai.data.reader import CaseReader
from dim_monai.predict.series import VolumeSeries


class SeriesReader(CaseReader):
    """A `CaseReader` to which some paths stand for one series among others of its folder.

    It is for images, not for labels: one that is constant is refused.

    Args:
        series: path of the case, as `LoadImaged` is given it, to the series.
    """

    def __init__(self, series: Mapping[Path, VolumeSeries]) -> None:
        super().__init__()
        self.series = series

    def get_data(self, img: tuple[Path, ...]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return one image and its metadata, as a `CaseReader` does.

        Raises:
            DataError: see there; also if the image is constant.
        """
        values, metadata = super().get_data(img)
        (path,) = img
        element = "pixel" if is_photograph(path) and path.is_file() else "voxel"
        require_variation(path, values, element)
        return values, metadata

    def read_volume(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the voxels and the affine of the series or file at ``path``."""
        return self.series[path].read() if path in self.series else super().read_volume(path)
