"""A slice together with its neighbours, so that a network of slices sees through the volume."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from dim_monai.errors import ConfigError


class NeighbouringSlicesd(MapTransform):
    """Turn a volume (C, X, Y, Z) into one whose channels are slices at several offsets ("2.5-D").

    Where an organ ends, a slice by itself often looks like one a step further in. A network that
    sees the next slices, too, finds the ends; trained on one labelled volume and many unlabelled
    ones it put a third as much outside of them (setting R1 of ``benchmarks/evidence.py``). The
    network stays two-dimensional, and so do augmentation, inferer and export.

    At the ends the first or last slice stands for those that are not there. What is known of the
    grid stays; nothing is inverted, for the mask has the slices of the volume.

    Args:
        keys: volumes.
        offsets: in slices, each C channels in this order. Put 0 first: what shows one channel of an
            image alone, such as TensorBoard, then shows the slice itself. ``[0]`` changes nothing.
        axis: spatial axis of the slices, 2 for the last of three.
        allow_missing_keys: skip a key that an item lacks.

    Raises:
        ConfigError: no offset.
    """

    def __init__(
        self,
        keys: KeysCollection,
        offsets: Sequence[int] = (0, -1, 1),
        axis: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not offsets:
            raise ConfigError("no slice is seen", got=offsets, expected="offsets, such as [0]")
        self.offsets, self.axis = tuple(offsets), axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the channels under the keys; a `MetaTensor` stays one."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._with_neighbours(result[key])
        return result

    def _with_neighbours(self, volume: torch.Tensor) -> torch.Tensor:
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        along, last = self.axis + 1, volume.shape[self.axis + 1] - 1
        positions = torch.arange(last + 1, device=plain.device)
        channels = torch.cat(
            [plain.index_select(along, (positions + k).clamp(0, last)) for k in self.offsets]
        )
        if isinstance(volume, MetaTensor):
            return MetaTensor(
                channels, meta=volume.meta, applied_operations=volume.applied_operations
            )
        return channels
