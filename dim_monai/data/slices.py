"""Slices of volumes, or whole photographs, each read and resampled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset

from dim_monai.data.cache import CaseCache, OnDisk
from dim_monai.errors import DataError, DimError


class SliceDataset(Dataset[dict[str, Tensor]]):
    """The slices of preprocessed volumes, as plain tensors.

    Every volume goes through ``transform`` once, at construction, and is then held in memory or
    read from disk slice by slice, as the cache decides. An item is a dict with ``image`` (C, H, W)
    and, for labelled cases, ``label`` (1, H, W), of the dtypes that ``transform`` gives: what it
    leaves as uint8 is kept as uint8. With ``slice_axis=None`` an item is a whole case: a volume
    (C, X, Y, Z) for three-dimensional networks, or a photograph (C, W, H).

    Args:
        data: entries with ``image`` and, where there is one, ``label``. May be empty.
        transform: deterministic preprocessing of one entry.
        slice_axis: spatial axis to slice along, 2 for the last of three; None for whole volumes
            and for photographs.
        num_workers: threads that read volumes; two keep two cores busy with decompression.
        progress: show a bar while reading.
        cache: where prepared cases are kept; None holds them all in memory.

    Raises:
        DataError: a case cannot be read or preprocessed; names it. The cache cannot be written.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Any], Any],
        *,
        slice_axis: int | None = 2,
        num_workers: int = 2,
        progress: bool = True,
        cache: CaseCache | None = None,
    ) -> None:
        self.data = list(data)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.slice_axis = slice_axis
        self.cache = CaseCache() if cache is None else cache
        self.cases = self.cache.prepare(
            self.data, self._make, slice_axis=slice_axis, threads=num_workers, progress=progress
        )
        self._ends = np.cumsum([len(case) for case in self.cases], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of slices (or whole cases)."""
        return int(self._ends[-1]) if self.cases else 0

    def case_of(self, item: int) -> str:
        """Return the image that an item was taken from."""
        return str(self.data[self._place(item)[0]].get("image"))

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        """Return one slice (or whole case): views of what is held, or what was read."""
        place, position = self._place(item)
        case = self.cases[place]
        if not isinstance(case, OnDisk):
            return case.read(position)
        found = case.read(position)
        if found is not None:
            return found
        axis = self.slice_axis
        again = self.cache.make_again(self.data[place], case, self._make, slice_axis=axis)
        return again.read(position)

    def _place(self, item: int) -> tuple[int, int]:
        """Return the case of an item, and its position there."""
        if not -len(self) <= item < len(self):
            raise IndexError(item)
        item %= len(self)
        place = int(np.searchsorted(self._ends, item, side="right"))
        return place, item - int(self._ends[place]) + len(self.cases[place])

    def _make(self, entry: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return image and label of a case, (S, C, H, W): a slice lies in one piece."""
        try:
            # Threads: a transform that draws numbers is copied before it is used.
            made = self.transform(dict(entry), threading=True)
            keys = [key for key in ("image", "label") if key in made]
            return {key: _slices_first(made[key], self.slice_axis) for key in keys}
        except Exception as error:  # of any transform, wrapped by MONAI
            causes = list(_chain(error))
            if any(isinstance(cause, DimError) for cause in causes):
                raise  # it names the case itself
            raise DataError(
                "the case cannot be prepared",
                file=entry.get("image"),
                got=f"{type(causes[-1]).__name__}: {causes[-1]}".removesuffix(": "),
                do="if the memory is full, make room or train on fewer cases; else see whether "
                "the case is what dim-monai check takes for sound",
            ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _slices_first(tensor: Tensor, slice_axis: int | None) -> Tensor:
    """Drop the metadata, which cost time at every operation, and put the axis of slices first."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else torch.as_tensor(tensor)
    return (plain[None] if slice_axis is None else plain.movedim(slice_axis + 1, 0)).contiguous()
