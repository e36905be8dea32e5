"""Pieces of a mask that are too small to be meant."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy
from scipy import ndimage
from torch import Tensor

from dim_monai.errors import ConfigError

MM3_IN_ML = 1000.0


class RemoveSmallComponentsd(MapTransform):
    """Make background of every connected piece of a mask that is smaller than a given size.

    A piece is connected by faces (edges in two dimensions) and formed by all classes together: a
    cup inside its rim is one piece with it. Where every piece is smaller, nothing remains.

    Args:
        keys: masks of class indices (1, *S), as `MetaTensor` where the unit is "ml".
        smallest: size of the smallest piece that stays; 0 keeps every piece.
        unit: of that size: "ml", by the affine of the mask, or "px", pixels or voxels.
        largest: whether of the others, too, only the largest one stays (of equal ones the first).

    Raises:
        ConfigError: a negative size or no number, or no such unit.
    """

    def __init__(
        self,
        keys: KeysCollection,
        smallest: float = 0,
        unit: Literal["ml", "px"] = "ml",
        largest: bool = False,
    ) -> None:
        super().__init__(keys)
        if not isinstance(smallest, int | float) or not smallest >= 0:
            raise ConfigError("smallest component", got=repr(smallest), expected="0 or more")
        if unit not in ("ml", "px"):
            raise ConfigError("unit of the smallest component", got=unit, expected="ml or px")
        self.smallest = smallest
        self.unit = unit
        self.largest = largest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the masks under the keys cleaned, each of its type and dtype."""
        cleaned = dict(data)
        if self.smallest > 0 or self.largest:
            for key in self.key_iterator(cleaned):
                cleaned[key] = self._clean(cleaned[key])
        return cleaned

    def _clean(self, mask: Tensor) -> Tensor:
        pieces, _ = ndimage.label(convert_to_numpy(mask)[0] > 0)
        count = np.bincount(pieces.ravel())
        stays_by_piece = np.ones(len(count), dtype=bool)
        if self.smallest > 0:
            voxel = self._voxel_ml(mask) if self.unit == "ml" else 1
            stays_by_piece &= count * voxel >= self.smallest
        if self.largest and len(count) > 2:  # the first is the background
            stays_by_piece &= np.arange(len(count)) == 1 + int(count[1:].argmax())
        stays = torch.from_numpy(stays_by_piece[pieces][None])
        return mask * stays.to(mask.device, mask.dtype)

    @staticmethod
    def _voxel_ml(mask: Tensor) -> float:
        if not isinstance(mask, MetaTensor):
            raise TypeError("a size in ml needs the affine of a MetaTensor")
        return float(torch.linalg.det(mask.affine[:3, :3]).abs()) / MM3_IN_ML
