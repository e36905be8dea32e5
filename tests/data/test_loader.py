"""Laws of the two-stream loader: a batch is a function of the seed and its number alone."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, get_track_meta
from monai.engines.utils import IterationEvents
from monai.transforms import (
    Compose,
    Lambdad,
    OneOf,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    Transform,
)
from torch import Tensor

from dim_monai.data.loader import TwoStreamLoader
from dim_monai.data.slices import SliceDataset
from dim_monai.errors import DataError
from tests.handlers.tiny import make_network, make_trainer

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


def test_metadata_is_left_behind_and_changes_nothing() -> None:
    held = [{key: MetaTensor(value) for key, value in item.items()} for item in items(2)]
    found = batches(loader(held), 3)
    assert {type(view) for view in found[0]["labelled"].values()} == {Tensor}
    assert same(found, batches(loader(items(2)), 3))


def test_transforms_see_tensors_without_metadata_and_the_rest_of_the_program_does_not() -> None:
    seen, tracked = [], []

    def look(image: Tensor) -> Tensor:
        seen.append(type(image))
        return image

    for _ in islice(loader(weak=Compose([*weak().transforms, Lambdad("image", look)])), 2):
        tracked.append(get_track_meta())
    assert set(seen) == {Tensor}
    assert tracked == [True, True]


def test_a_transform_that_fails_leaves_metadata_on() -> None:
    def fail(image: Tensor) -> Tensor:
        raise ValueError("of a transform")

    with pytest.raises(RuntimeError):
        batches(loader(strong=Compose([Lambdad("strong", fail)])), 1)
    assert get_track_meta()


# --- a process that dies


class ReadNumber(Transform):
    """Makes a volume of three slices of a case, of its number."""

    def __call__(self, entry: Any) -> Any:
        image = torch.full((1, 4, 4, 3), float(entry["number"]))
        return {"image": image, "label": torch.zeros_like(image, dtype=torch.uint8)}


def cases(first: int, count: int = 4) -> SliceDataset:
    entries = [{"image": f"case_{n}.nii", "number": n} for n in range(first, first + count)]
    return SliceDataset(entries, ReadNumber(), progress=False)


def deadly(number: int, how: Any, once: Path) -> Compose:
    """Let the first who comes to that case do something; the other processes go on."""

    def look(image: Tensor) -> Tensor:
        if int(image.flatten()[0]) == number and not once.exists():
            once.touch()
            how()
        return image

    return Compose([Lambdad("image", look)])


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(folder: Path, number: int, how: Any = kill_itself, **settings: Any) -> TwoStreamLoader:
    settings = {"num_workers": 2, "labelled_batch": 1, "unlabelled_batch": 2, **settings}
    transforms = {"weak": deadly(number, how, folder / "died"), "strong": Compose([])}
    return loader(cases(0), cases(100), **transforms, **settings)


# PyTorch raises from the handler of a signal. What it raises within a destructor is lost, which
# pytest minds; the case has to be named all the same.
told_anywhere = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@told_anywhere
@pytest.mark.parametrize("number", [2, 101])  # of each stream one
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_loader_process_that_is_killed_names_its_case(
    tmp_path: Path, number: int, num_workers: int
) -> None:
    source = dying(tmp_path, number, num_workers=num_workers)
    with pytest.raises(DataError, match="a loader process died") as caught:
        batches(source, 100)
    assert caught.value.file == f"case_{number}.nii"
    assert "--train#dataloader#num_workers 0" in str(caught.value)
    assert caught.value.__cause__ is not None  # what PyTorch, or the system, said


@told_anywhere
@pytest.mark.parametrize("how", [lambda: os._exit(1), lambda: os.kill(os.getpid(), signal.SIGTERM)])
def test_however_it_ends(tmp_path: Path, how: Any) -> None:
    with pytest.raises(DataError) as caught:
        batches(dying(tmp_path, 3, how), 100)
    assert caught.value.file == "case_3.nii"


@told_anywhere
def test_while_the_training_is_at_a_step_too(tmp_path: Path) -> None:
    """PyTorch raises where its signal finds the training: here, as a rule, in the middle of a step.

    Where the signal is lost, the next batch tells.
    """
    items, at_a_step, died = [], tmp_path / "at a step", tmp_path / "died"

    def die_during_the_first_step(image: Tensor) -> Tensor:
        items.append(image)  # of this process
        if len(items) == 3:  # of the second batch
            while not at_a_step.exists():
                time.sleep(0.01)
            if not died.exists():
                died.touch()
                kill_itself()
        return image

    weak = Compose([Lambdad("image", die_during_the_first_step)])
    settings = {"labelled_batch": 1, "unlabelled_batch": 1, "num_workers": 2}
    source = loader(cases(0), cases(100), weak=weak, strong=Compose([]), **settings)
    trainer = make_trainer(make_network(), source)

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def _work() -> None:
        at_a_step.touch()
        until = time.monotonic() + 20
        while time.monotonic() < until:
            pass

    with pytest.raises(DataError, match="a loader process died while it prepared a case: case_"):
        trainer.run()


def test_a_data_set_that_does_not_know_its_cases_is_named_with_the_item(tmp_path: Path) -> None:
    source = loader(weak=deadly(102, kill_itself, tmp_path / "died"), num_workers=1)
    with pytest.raises(DataError) as caught:
        batches(source, 100)
    assert caught.value.file == "item 2 of the unlabelled ones"


def test_an_error_of_something_else_stays_what_it_is(tmp_path: Path) -> None:
    source = dying(tmp_path, -1, steps_per_epoch=100)
    trainer = make_trainer(make_network(), source)

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def _fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.run()


def test_the_next_iteration_knows_nothing_of_the_last(tmp_path: Path) -> None:
    source = dying(tmp_path, 2)
    with pytest.raises(DataError):
        batches(source, 100)
    assert same(batches(source, 5), batches(dying(tmp_path, -1, num_workers=0), 5))
