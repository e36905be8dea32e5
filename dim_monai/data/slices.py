"""Slices of volumes, or whole photographs, each read and resampled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.data import CacheDataset, MetaTensor
from torch import Tensor
from torch.utils.data import Dataset

from dim_monai.errors import DataError, DimError


class SliceDataset(Dataset[dict[str, Tensor]]):
    """The slices of preprocessed volumes, held in memory as plain tensors.

    Every volume goes through ``transform`` once, at construction. An item is a dict with ``image``
    (C, H, W) and, for labelled cases, ``label`` (1, H, W), of the dtypes that ``transform`` gives:
    what it leaves as uint8 is held as uint8. With ``slice_axis=None`` an item is a whole case: a
    volume (C, X, Y, Z) for three-dimensional networks, or a photograph (C, W, H).

    Args:
        data: entries with ``image`` and, where there is one, ``label``. May be empty.
        transform: deterministic preprocessing of one entry.
        slice_axis: spatial axis to slice along, 2 for the last of three; None for whole volumes
            and for photographs.
        num_workers: threads that read volumes; two keep two cores busy with decompression.
        progress: show a bar while reading.

    Raises:
        DataError: a case cannot be read or preprocessed; names it.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Any], Any],
        *,
        slice_axis: int | None = 2,
        num_workers: int = 2,
        progress: bool = True,
    ) -> None:
        self.data = list(data)
        volumes = _Cases(
            [dict(entry) for entry in data], transform, num_workers=num_workers, progress=progress
        )
        keys = ("image", "label")
        self.volumes = [
            {key: _plain(item[key]) for key in keys if key in item}
            for item in (volumes[case] for case in range(len(data)))
        ]
        self.slice_axis = slice_axis
        self.index = [
            (case, position)
            for case, volume in enumerate(self.volumes)
            for position in range(_positions(volume["image"], slice_axis))
        ]

    def __len__(self) -> int:
        """Return the number of slices (or whole cases)."""
        return len(self.index)

    def case_of(self, item: int) -> str:
        """Return the image that an item was taken from."""
        return str(self.data[self.index[item][0]].get("image"))

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        """Return one slice (or whole case) as views of the cached tensors."""
        case, position = self.index[item]
        volume = self.volumes[case]
        if self.slice_axis is None:
            return dict(volume)
        axis = self.slice_axis + 1
        return {key: value.select(axis, position) for key, value in volume.items()}


class _Cases(CacheDataset):
    """Names the case that one of its threads could not prepare."""

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:  # of any transform, wrapped by MONAI
            causes = list(_chain(error))
            if any(isinstance(cause, DimError) for cause in causes):
                raise  # it names the case itself
            raise DataError(
                "the case cannot be prepared",
                file=self.data[idx].get("image"),
                got=f"{type(causes[-1]).__name__}: {causes[-1]}".removesuffix(": "),
                do="if the memory is full, make room or train on fewer cases; else see whether "
                "the case is what dim-monai check takes for sound",
            ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _positions(image: Tensor, slice_axis: int | None) -> int:
    return 1 if slice_axis is None else image.shape[slice_axis + 1]


def _plain(tensor: Tensor) -> Tensor:
    """Drop the metadata: it costs time at every operation and slices do not need it."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else torch.as_tensor(tensor)
    return plain.contiguous()
