"""Laws of the slice data set: planes of volumes, each volume transformed once."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Transform

from dim_monai.data.slices import SliceDataset
from dim_monai.errors import CheckpointError, DataError

SHAPES = {"a": (4, 5, 3), "b": (6, 2, 7)}


def image_of(name: str) -> np.ndarray:
    """Two channels of numbers that occur once in all volumes."""
    start = 1000 * sorted(SHAPES).index(name)
    size = 2 * int(np.prod(SHAPES[name]))
    return np.arange(start, start + size, dtype=np.float32).reshape(2, *SHAPES[name])


def label_of(name: str) -> np.ndarray:
    return (image_of(name)[:1] % 3).astype(np.int64)


class Read(Transform):
    """Makes the volumes of a named case and counts how often."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._lock = Lock()

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append(entry["image"])
        made = {"image": MetaTensor(image_of(entry["image"])), "case": entry["image"]}
        if "label" in entry:
            made["label"] = MetaTensor(label_of(entry["label"]))
        return made


DATA = [{"image": name, "label": name} for name in SHAPES]


def dataset(data: Any = DATA, transform: Any = None, **settings: Any) -> SliceDataset:
    return SliceDataset(data, transform or Compose([Read()]), progress=False, **settings)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_items_are_the_planes_of_all_volumes_in_order(axis) -> None:
    slices = dataset(slice_axis=axis)
    places = [(name, p) for name in SHAPES for p in range(SHAPES[name][axis])]
    assert len(slices) == len(places)
    for number, (name, position) in enumerate(places):
        item = slices[number]
        assert set(item) == {"image", "label"}
        np.testing.assert_array_equal(
            item["image"].numpy(), image_of(name).take(position, axis=axis + 1)
        )
        np.testing.assert_array_equal(
            item["label"].numpy(), label_of(name).take(position, axis=axis + 1)
        )


def test_the_last_axis_is_sliced_by_default() -> None:
    assert len(dataset()) == sum(shape[2] for shape in SHAPES.values())


def test_without_an_axis_items_are_volumes() -> None:
    volumes = dataset(slice_axis=None)
    assert len(volumes) == 2
    for number, name in enumerate(SHAPES):
        np.testing.assert_array_equal(volumes[number]["image"].numpy(), image_of(name))
        np.testing.assert_array_equal(volumes[number]["label"].numpy(), label_of(name))
    volumes[0]["image"] = torch.zeros(1)
    assert volumes[0]["image"].shape == (2, *SHAPES["a"])  # an item is not the store


@pytest.mark.parametrize(
    "wrap", [lambda read: Compose([read]), lambda read: read], ids=["compose", "bare"]
)
def test_each_volume_is_transformed_once(wrap) -> None:
    read = Read()
    slices = dataset(transform=wrap(read))
    for _ in range(2):
        for number in range(len(slices)):
            slices[number]
    assert sorted(read.calls) == ["a", "b"]


def test_tensors_are_plain_and_keep_their_type() -> None:
    item = dataset()[0]
    assert {type(value) for value in item.values()} == {torch.Tensor}
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.int64)


def test_slices_share_the_memory_of_their_volume() -> None:
    slices = dataset()
    first, second = slices[0]["image"], slices[1]["image"]
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_cases_without_a_label_have_no_label() -> None:
    slices = dataset([{"image": "a"}])
    assert all(set(slices[number]) == {"image"} for number in range(len(slices)))


@pytest.mark.parametrize("axis", [2, None])
def test_no_case_gives_no_slice(axis) -> None:
    assert len(dataset([], slice_axis=axis)) == 0


def test_the_entries_are_not_changed() -> None:
    data = [dict(entry) for entry in DATA]
    assert dataset(data).data == DATA
    assert data == DATA


def test_photographs_are_items_as_they_are_and_stay_bytes() -> None:
    photograph = torch.arange(3 * 5 * 4, dtype=torch.uint8).view(3, 5, 4)

    def read(entry: dict[str, Any]) -> dict[str, Any]:
        return {"image": MetaTensor(photograph + entry["image"]), "label": photograph[:1] % 2}

    items = SliceDataset(
        [{"image": n} for n in range(3)], read, slice_axis=None, num_workers=0, progress=False
    )
    assert len(items) == 3
    for n in range(3):
        assert type(items[n]["image"]) is torch.Tensor
        assert items[n]["image"].dtype == torch.uint8
        assert torch.equal(items[n]["image"], photograph + n)
        assert items[n]["label"].shape == (1, 5, 4)


class Fails(Transform):
    """Cannot cope with one case."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def __call__(self, made: dict[str, Any]) -> dict[str, Any]:
        if made["case"] == self.name:
            raise self.error
        return made


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    ("error", "got"),
    [
        (MemoryError(), "got MemoryError;"),
        (RuntimeError("DefaultCPUAllocator: no"), "got RuntimeError: DefaultCPUAllocator: no;"),
    ],
)
def test_a_thread_that_fails_names_its_case(error: Exception, got: str, num_workers: int) -> None:
    with pytest.raises(DataError, match="cannot be prepared: b; ") as caught:
        dataset(transform=Compose([Read(), Fails("b", error)]), num_workers=num_workers)
    assert caught.value.file == "b"
    assert got in str(caught.value)


def test_an_error_that_was_written_for_the_user_stays() -> None:
    own = CheckpointError("of its own", file="b.nii")
    with pytest.raises(RuntimeError) as caught:
        dataset(transform=Compose([Read(), Fails("b", own)]))
    chain, error = [], caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert own in chain
    assert not any(isinstance(one, DataError) for one in chain)


def test_an_item_knows_its_case() -> None:
    slices = dataset()
    assert [slices.case_of(item) for item in range(len(slices))] == ["a"] * 3 + ["b"] * 7
