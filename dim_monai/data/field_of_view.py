"""Patches of photographs at many scales: close to the disc and as wide as a whole photograph."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from dim_monai.errors import ConfigError

NEAR = 0.25
"""How far from the middle of a patch the labelled structure may lie, as a share of its side."""


class RandFieldOfViewd(Randomizable, MapTransform):
    """Cut a square patch of random field of view, centre, turn and stretch, in one resampling.

    The field of view is the side of the patch as a share of the image's longest side, drawn
    log-uniformly: 0.5 to 1 is as frequent as 1 to 2. The centre is drawn such that the patch stays
    within the image, or the image within the patch.

    Beyond the image every other patch has the darkest value of each channel, as a photograph has
    around the retina, and the others continue its edge, as the retina goes on around a region of
    it; labels are 0 there. With both, a network that has seen regions alone finds the disc in whole
    photographs more often than with either.

    An image that is reduced is averaged first, so that a patch looks like an antialiased
    reduction of the photograph, which is what :class:`dim_monai.networks.CoarseToFine` sees.

    MONAI's ``RandAffined`` draws scales uniformly and each axis for itself, and samples without
    averaging; ``RandZoomd`` before it would resample twice.

    Metadata are dropped: for training only.

    Args:
        keys: keys of images (C, W, H) of one size, and of the label.
        size: side of the patch, pixels.
        field_of_view: range of the field of view.
        rotate: greatest turn to either side, rad.
        stretch: greatest stretch of one axis against the other: by up to 1 + stretch.
        near_label: share of the draws whose centre lies near the middle of what is labelled,
            instead of anywhere; of items that have a label with a foreground.
        label_key: the key whose values are classes: the nearest is taken.
        allow_missing_keys: skip a key that an item lacks.

    Raises:
        ConfigError: a range that is empty or not above 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        field_of_view: Sequence[float],
        *,
        rotate: float = 0.0,
        stretch: float = 0.0,
        near_label: float = 0.0,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        smallest, largest = field_of_view
        if not 0 < smallest <= largest:
            raise ConfigError(
                "field_of_view", got=list(field_of_view), expected="two numbers, 0 < min <= max"
            )
        self.size = size
        self.log_field = (math.log(smallest), math.log(largest))
        self.rotate, self.stretch, self.near_label = rotate, stretch, near_label
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with patches under the keys: float32 images, labels of their dtype."""
        result = dict(data)
        first = result[next(iter(self.key_iterator(result)))]
        matrix, reduction = self.draw(tuple(first.shape[1:]), result.get(self.label_key))
        beyond = "zeros" if self.R.uniform() < 0.5 else "border"
        for key in self.key_iterator(result):
            tensor = _plain(result[key])
            if key == self.label_key:
                patch = _sample(tensor.float(), matrix, self.size, "nearest", "zeros").to(
                    tensor.dtype
                )
            else:
                patch = self._image_patch(tensor.float(), matrix, reduction, beyond)
            result[key] = patch
        return result

    def draw(self, shape: tuple[int, ...], label: Tensor | None) -> tuple[Tensor, float]:
        """Draw a patch.

        Args:
            shape: (W, H) of the image, pixels.
            label: (1, W, H), to centre on.

        Returns:
            (2, 3) float32, from the coordinates of the patch to those of the image, both last axis
            first and from -1 to 1 between the outer edges; and the image pixels a patch pixel.
        """
        field = math.exp(self.R.uniform(*self.log_field))
        angle = self.R.uniform(-self.rotate, self.rotate)
        stretch = math.exp(self.R.uniform(-1, 1) * math.log1p(self.stretch) / 2)
        where = self.R.uniform(-1, 1, size=2).tolist()
        near = self.R.uniform() < self.near_label
        side = field * max(shape)
        middle = _middle(label) if near and label is not None else None
        if middle is not None:
            centre = [m + w * NEAR * side for m, w in zip(middle, where, strict=True)]
        else:
            centre = [
                length / 2 + w * abs(length - side) / 2
                for length, w in zip(shape, where, strict=True)
            ]
        cos, sin = math.cos(angle) * side / 2, math.sin(angle) * side / 2
        # Rows: last axis, first axis, as grid_sample counts them; in pixels from the corner.
        pixels = torch.tensor(
            [
                [cos * stretch, -sin / stretch, centre[1]],
                [sin * stretch, cos / stretch, centre[0]],
            ]
        )
        half = torch.tensor([[shape[1] / 2], [shape[0] / 2]])
        return pixels / half - torch.tensor([0.0, 0.0, 1.0]), side / self.size

    def _image_patch(self, image: Tensor, matrix: Tensor, reduction: float, beyond: str) -> Tensor:
        dark = image.amin(dim=(1, 2), keepdim=True)
        factor = int(reduction)
        if factor > 1:
            reduced = [max(1, math.ceil(length / factor)) for length in image.shape[1:]]
            image = interpolate(image[None], reduced, mode="area")[0]
        return _sample(image - dark, matrix, self.size, "bilinear", beyond) + dark


def _sample(image: Tensor, matrix: Tensor, size: int, mode: str, beyond: str) -> Tensor:
    """Return the patch (C, size, size) of an image (C, W, H)."""
    grid = affine_grid(matrix[None], [1, len(image), size, size], align_corners=False)
    return grid_sample(image[None], grid, mode=mode, padding_mode=beyond, align_corners=False)[0]


def _middle(label: Tensor) -> tuple[float, float] | None:
    """Return the mean position of the foreground in pixels from the corner, None without one."""
    found = torch.nonzero(_plain(label)[0] > 0)
    if len(found) == 0:
        return None
    x, y = (found.float().mean(dim=0) + 0.5).tolist()
    return x, y


def _plain(tensor: Any) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else torch.as_tensor(tensor)
