"""From the values of label files to class indices: one mapping, used wherever labels are read."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type
from numpy.typing import ArrayLike, NDArray

from dim_monai.errors import ConfigError, DataError

_VALUES_SHOWN = 5  # of the values that fit no class: enough to see what kind of file it is


class LabelMapping:
    """Say which values of a label file form which class.

    Class 0 is the first of ``classes``, the background; the others follow in their order. Every
    value that may occur in a label file is listed; any other is an error, never background.

    Args:
        classes: class name to its values: a list of integers, or ``">n"`` for every integer above
            n. For example ``{"background": [0], "prostate": ">0"}``.

    Raises:
        ConfigError: fewer than two classes, an empty or malformed rule, or a value of two classes.
    """

    def __init__(self, classes: Mapping[str, Sequence[int] | str]) -> None:
        if len(classes) < 2:
            raise ConfigError(
                "too few classes", got=list(classes), expected="the background and at least one"
            )
        self.class_names: tuple[str, ...] = tuple(classes)
        self._values: list[tuple[int, ...]] = []
        self._above: list[int | None] = []
        for name, rule in classes.items():
            values, above = _parse_rule(name, rule)
            self._values.append(values)
            self._above.append(above)
        self._rules = dict(classes)
        self._refuse_overlap()

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    @property
    def regions(self) -> dict[str, list[int]]:
        """Name of each foreground class and the class indices that form it, for scoring."""
        return {name: [index] for index, name in enumerate(self.class_names) if index > 0}

    def apply(
        self, labels: ArrayLike, *, file: str | os.PathLike[str] | None = None
    ) -> NDArray[np.int64]:
        """Return the class index of every voxel.

        Args:
            labels: values of a label file, any shape, any real dtype.
            file: where they come from, for the error message.

        Returns:
            Class indices in 0 .. ``num_classes`` - 1, int64, of the same shape.

        Raises:
            DataError: a value is of no class, or is not an integer.
        """
        array = np.asarray(labels)
        classes = np.full(array.shape, -1, dtype=np.int64)
        whole = array == np.trunc(array)  # false for 0.5 and for NaN
        for index, (values, above) in enumerate(zip(self._values, self._above, strict=True)):
            for value in values:
                classes[array == value] = index
            if above is not None:
                classes[(array > above) & whole & np.isfinite(array)] = index
        if (unlisted := classes < 0).any():
            found = zip(*np.unique(array[unlisted], return_counts=True), strict=True)
            shown = [f"{_exact(value)} ({voxels} voxels)" for value, voxels in found]
            more = len(shown) - _VALUES_SHOWN
            raise DataError(
                "label value of no class",
                file=file,
                got=", ".join(shown[:_VALUES_SHOWN]) + (f" and {more} more" if more > 0 else ""),
                expected=str(self),
                do="mend the label file, or list the value in the label mapping"
                if (whole | ~np.isfinite(array))[unlisted].all()
                else "not a whole number: round it, if the label was resampled, or mend the file",
            )
        return classes

    def __str__(self) -> str:
        """Return the rules, e.g. ``background [0], prostate >0``."""
        return ", ".join(f"{name} {rule}" for name, rule in self._rules.items())

    def _refuse_overlap(self) -> None:
        owner: dict[int, str] = {}
        for name, values in zip(self.class_names, self._values, strict=True):
            for value in values:
                if (first := owner.setdefault(value, name)) != name:
                    raise ConfigError("label value of two classes", got=f"{value}: {first}, {name}")
        bounds = [
            (bound, name)
            for bound, name in zip(self._above, self.class_names, strict=True)
            if bound is not None
        ]
        if len(bounds) > 1:
            raise ConfigError("label values of two classes", got=str(self))
        for bound, name in bounds:
            for value in (value for value in owner if value > bound):
                raise ConfigError(
                    "label value of two classes", got=f"{value}: {owner[value]}, {name} >{bound}"
                )


def _exact(value: np.generic) -> str:
    """Return a value with the digits of its type: 0.9999999 is not told as 1."""
    return f"{value:.0f}" if value == np.trunc(value) else str(value)


def _parse_rule(name: str, rule: Sequence[int] | str) -> tuple[tuple[int, ...], int | None]:
    """Return the listed values of a class, and the bound above which every value is its own."""
    if isinstance(rule, str):
        if match := re.fullmatch(r">\s*(-?\d+)", rule.strip()):
            return (), int(match[1])
    elif rule and all(isinstance(value, int) and not isinstance(value, bool) for value in rule):
        return tuple(rule), None
    raise ConfigError(
        f"malformed label values of class {name!r}",
        got=repr(rule),
        expected='a list of integers, or ">0" for every value above 0',
    )


class MapLabelsd(MapTransform):
    """Turn loaded label values into class indices, keeping affine and history.

    Belongs right after loading: resampling would make values that no file holds.

    Args:
        keys: keys of the labels.
        mapping: which values form which class.
        allow_missing_keys: skip a key that an item lacks.
    """

    def __init__(
        self, keys: KeysCollection, mapping: LabelMapping, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mapping = mapping

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Return ``data`` with int64 class indices under the keys, each of its shape and kind.

        Raises:
            DataError: a value is of no class; names the file that the label was loaded from.
        """
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            label = mapped[key]
            file = None
            if isinstance(label, MetaTensor):
                file = label.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
            values = label.detach().cpu().numpy() if isinstance(label, torch.Tensor) else label
            classes = self.mapping.apply(values, file=file)
            mapped[key], *_ = convert_to_dst_type(classes, label, dtype=classes.dtype)
        return mapped
