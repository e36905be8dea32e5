"""Photographs of any size on a grid of one longest side, and predictions back on their own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Resized
from monai.utils import ImageMetaKey, TraceKeys
from torch import Tensor

from dim_monai.errors import DataError


class WorkingSized(Resized):
    """MONAI's ``Resized`` to a longest side, with the right interpolation each way.

    An image is averaged where it shrinks, without which vessels would break up, and interpolated
    where it grows; a label takes the nearest value. ``Resized`` uses the one mode that it is given
    for both ways: "area" would bring probabilities back in steps, and its ``anti_aliasing`` takes
    ten seconds for a photograph of 4288 x 2848 pixels, this 0.3.

    Args:
        keys: keys of images (C, W, H) and of the label.
        longest: longest side of the result, pixels.
        label_key: the key of the label.
        allow_missing_keys: skip a key that an item lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        longest: int,
        *,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, longest, "longest", allow_missing_keys=allow_missing_keys)
        self.longest = longest
        self.label_key = label_key

    def __call__(
        self, data: Mapping[Hashable, Tensor], lazy: bool | None = None
    ) -> dict[Hashable, Tensor]:
        """Return ``data`` with images, float32, and label on the grid; the inverse undoes it.

        Raises:
            DataError: a side would be shorter than half a pixel.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            self._require_width(result[key])
            if key == self.label_key:
                result[key] = self.resizer(result[key], mode="nearest")
                continue
            shrinks = max(result[key].shape[1:]) > self.longest
            resized: MetaTensor = self.resizer(result[key], mode="area" if shrinks else "bilinear")  # type: ignore[assignment]
            resized.applied_operations[-1][TraceKeys.EXTRA_INFO]["mode"] = "bilinear"
            result[key] = resized
        return result

    def _require_width(self, image: Tensor) -> None:
        size = tuple(image.shape[1:])
        if round(min(size) * self.longest / max(size)) < 1:
            meta = image.meta if isinstance(image, MetaTensor) else {}
            raise DataError(
                "image is a line on the working grid",
                file=meta.get(ImageMetaKey.FILENAME_OR_OBJ),
                got=f"{size[0]} x {size[1]} pixels",
                expected=f"at most {2 * self.longest - 1} times as long as wide",
                do="is it a photograph? take the case out",
            )
