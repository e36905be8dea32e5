"""The reader of the cases that were found, in the place of the one that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.reader import CaseReader
from dim_monai.predict.series import VolumeSeries


class SeriesReader(CaseReader):
    """A `CaseReader` to which some paths stand for one series among others of its folder.

    Args:
        series: path of the case, as `LoadImaged` is given it, to the series.
    """

    def __init__(self, series: Mapping[Path, VolumeSeries]) -> None:
        super().__init__()
        self.series = series

    def read_volume(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the voxels and the affine of the series or file at ``path``."""
        return self.series[path].read() if path in self.series else super().read_volume(path)
