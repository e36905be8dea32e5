"""Laws of the two-stream loader: a batch is a function of the seed and its number alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Lambdad,
    OneOf,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
)
from torch import Tensor

from dim_monai.data.loader import TwoStreamLoader
from dim_monai.errors import DataError

KEYS = ["image", "label"]


def items(count: int, *, first: int = 0, labelled: bool = True) -> list[dict[str, Tensor]]:
    """Constant images that tell which item they are."""
    made: list[dict[str, Tensor]] = []
    for number in range(first, first + count):
        item = {"image": torch.full((1, 3, 3), float(number))}
        if labelled:
            item["label"] = torch.full((1, 3, 3), number % 2, dtype=torch.uint8)
        made.append(item)
    return made


def weak() -> Compose:
    return Compose(
        [
            RandFlipd(KEYS, prob=0.5, spatial_axis=0, allow_missing_keys=True),
            RandRotate90d(KEYS, prob=0.5, allow_missing_keys=True),
        ]
    )


def strong() -> Compose:
    return Compose([RandGaussianNoised("strong", prob=1.0, std=1.0)])


def loader(labelled: Any = None, unlabelled: Any = None, **settings: Any) -> TwoStreamLoader:
    """A loader over 5 labelled items (0 ...) and 7 unlabelled ones (100 ...)."""
    settings = {
        "weak": weak(),
        "strong": strong(),
        "labelled_batch": 2,
        "unlabelled_batch": 3,
        "seed": 4,
        **settings,
    }
    labelled = items(5) if labelled is None else labelled
    unlabelled = items(7, first=100, labelled=False) if unlabelled is None else unlabelled
    return TwoStreamLoader(labelled, unlabelled, **settings)


def batches(source: TwoStreamLoader, count: int) -> list[Any]:
    return list(islice(iter(source), count))


def same(one: Any, other: Any) -> bool:
    """Bitwise equality of nested batches, their keys included."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(same, one, other))


def drawn(source: TwoStreamLoader, stream: str, count: int) -> list[int]:
    """The numbers of the first ``count`` items of one stream."""
    numbers: list[int] = []
    for batch in source:
        numbers += batch[stream]["weak"][:, 0, 0, 0].int().tolist()
        if len(numbers) >= count:
            return numbers[:count]
    raise AssertionError("the loader ended")


def test_a_batch_has_two_streams_of_two_views() -> None:
    (batch,) = batches(loader(), 1)
    assert list(batch) == ["labelled", "unlabelled"]
    assert set(batch["labelled"]) == {"weak", "strong", "label"}
    assert set(batch["unlabelled"]) == {"weak", "strong"}
    assert batch["labelled"]["weak"].shape == batch["labelled"]["label"].shape == (2, 1, 3, 3)
    assert batch["unlabelled"]["weak"].shape == batch["unlabelled"]["strong"].shape == (3, 1, 3, 3)
    assert batch["labelled"]["label"].dtype == torch.int64


def test_any_batch_can_be_had_without_those_before_it() -> None:
    first = batches(loader(), 8)
    for step in (0, 5, 7):
        later = loader()
        later.start_at(step)
        assert same(batches(later, 1), [first[step]])


def test_a_second_iteration_repeats_the_first() -> None:
    source = loader()
    assert same(batches(source, 4), batches(source, 4))
    source.start_at(2)
    assert same(batches(source, 2), batches(source, 2))


def test_the_global_generators_play_no_part_and_the_seed_does() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    one = batches(loader(), 3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert same(batches(loader(), 3), one)
    assert not same(batches(loader(seed=5), 3), one)


def test_nested_and_chosen_transforms_follow_the_seed_too() -> None:
    def nested() -> Compose:
        noise = OneOf([RandGaussianNoised("strong", prob=0.9), RandScaleIntensityd("strong", 0.5)])
        return Compose([Compose([RandScaleIntensityd("strong", 0.9, prob=0.5)]), noise])

    first = batches(loader(strong=nested()), 6)
    later = loader(strong=nested())
    later.start_at(5)
    assert same(batches(later, 1), first[5:])


@pytest.mark.parametrize(
    ("stream", "numbers"), [("labelled", range(5)), ("unlabelled", range(100, 107))]
)
def test_every_pass_takes_every_item_once_in_a_new_order(stream, numbers) -> None:
    length = len(numbers)
    draws = drawn(loader(), stream, 6 * length)
    passes = [draws[first : first + length] for first in range(0, 6 * length, length)]
    assert all(sorted(one) == list(numbers) for one in passes)
    assert len(set(map(tuple, passes))) > 3


def test_a_batch_may_be_larger_than_the_stream() -> None:
    numbers = drawn(loader(items(2), labelled_batch=6), "labelled", 6)
    assert Counter(numbers) == {0: 3, 1: 3}


def test_one_stream_does_not_feel_the_other() -> None:
    both = batches(loader(), 4)
    alone = batches(loader(unlabelled=[]), 4)
    assert same([batch["labelled"] for batch in both], [batch["labelled"] for batch in alone])
    other = batches(loader(items(3), labelled_batch=1), 4)
    assert same([batch["unlabelled"] for batch in both], [batch["unlabelled"] for batch in other])


def test_two_ranks_draw_together_what_one_process_with_twice_the_batch_draws() -> None:
    sizes = {"labelled_batch": 4, "unlabelled_batch": 6}
    whole = batches(loader(rank=0, world_size=1, **sizes), 5)
    parts = [batches(loader(rank=rank, world_size=2), 5) for rank in range(2)]
    for step, batch in enumerate(whole):
        for stream, views in batch.items():
            for key, value in views.items():
                together = torch.cat([part[step][stream][key] for part in parts])
                assert torch.equal(together, value)


def test_without_a_process_group_there_is_one_rank() -> None:
    assert same(batches(loader(), 2), batches(loader(rank=0, world_size=1), 2))


def test_a_worker_process_gives_the_same_batches() -> None:
    here, there = loader(), loader(num_workers=1)
    for source in (here, there):
        source.start_at(3)
    assert same(batches(there, 3), batches(here, 3))


def test_an_epoch_is_a_stated_number_of_steps_and_iteration_does_not_end() -> None:
    source = loader(steps_per_epoch=4)
    assert len(source) == 4
    assert len(batches(source, 9)) == 9


@pytest.mark.parametrize("unlabelled", [None, []])
def test_without_unlabelled_items_their_key_is_missing(unlabelled) -> None:
    source = TwoStreamLoader(items(3), unlabelled, weak=weak(), strong=strong())
    assert all(list(batch) == ["labelled"] for batch in batches(source, 2))


def test_without_labelled_items_there_is_no_training() -> None:
    with pytest.raises(DataError, match="no labelled case; label at least one case"):
        TwoStreamLoader([], items(3, labelled=False), weak=weak(), strong=strong())


def test_image_and_label_move_together_and_the_strong_view_with_them() -> None:
    pattern = torch.arange(9.0).view(1, 3, 3)
    source = loader(
        [{"image": pattern, "label": pattern.long()}],
        strong=Compose([Lambdad("strong", lambda image: image + 0.5)]),
    )
    views = [batch["labelled"] for batch in batches(source, 10)]
    orientations = set()
    for view in views:
        assert torch.equal(view["weak"], view["label"].float())
        assert torch.equal(view["strong"], view["weak"] + 0.5)
        orientations |= {tuple(image.flatten().tolist()) for image in view["weak"]}
    assert len(orientations) > 3  # 8 exist


def test_an_item_is_augmented_anew_every_time() -> None:
    views = [batch["labelled"] for batch in batches(loader(items(1)), 10)]
    noise = torch.cat([view["strong"] - view["weak"] for view in views])
    assert len({tuple(image.flatten().tolist()) for image in noise}) == 20


def test_transforms_that_work_in_place_spare_the_weak_view_and_the_items() -> None:
    held = items(3)
    source = loader(
        held, weak=Compose([]), strong=Compose([Lambdad("strong", lambda image: image.mul_(-7))])
    )
    for batch in batches(source, 4):
        views = batch["labelled"]
        assert torch.equal(views["strong"], -7 * views["weak"])
        batch["labelled"]["weak"].fill_(1e6)
    assert same(held, items(3))


def test_metadata_is_left_behind() -> None:
    held = [{key: MetaTensor(value) for key, value in item.items()} for item in items(2)]
    (batch,) = batches(loader(held), 1)
    assert {type(view) for view in batch["labelled"].values()} == {Tensor}
