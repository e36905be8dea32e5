"""The two-stream loader: so many labelled and so many unlabelled views in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from dim_monai import distributed
from dim_monai.data.workers import WorkerNotes
from dim_monai.errors import DataError
from dim_monai.streams import stream_generator, stream_seed

Item = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """One item of one stream at one position of the endless sequence of draws."""

    stream: str
    item: int
    seed: int


class TwoStreamLoader(DataLoader[Any]):
    """An endless loader whose batch number t is a function of (seed, t) alone.

    A batch is ``{"labelled": views, "unlabelled": views}`` where views are ``weak`` and ``strong``
    (B, C, *S) and, for the labelled stream, ``label`` (B, 1, *S); without unlabelled items the
    second key is missing. Each stream goes through its items in a new order on every pass, however
    long the other stream is: an epoch is ``steps_per_epoch`` batches, not "until one loader ends".

    With several ranks, rank r of R takes positions r*B .. r*B+B-1 of each R*B draws: together they
    see the batch that one process with R times the batch would see.

    Args:
        labelled: items with ``image`` and ``label``.
        unlabelled: items with ``image``; None or empty trains supervised.
        weak: geometric augmentation of ``image`` and ``label`` together.
        strong: photometric augmentation of the weak view, under the key ``strong``.
        labelled_batch: labelled items a step and rank.
        unlabelled_batch: unlabelled items a step and rank.
        steps_per_epoch: what ``len`` returns.
        seed: root seed of the run.
        num_workers: loader processes; 0 loads in the training process.
        rank: position of this process; None asks the process group.
        world_size: number of processes; None asks the process group.

    Raises:
        DataError: no labelled item. While it is iterated: a loader process died; names the case,
            where the dataset knows it (``case_of``).
    """

    def __init__(
        self,
        labelled: Dataset[Item],
        unlabelled: Dataset[Item] | None,
        *,
        weak: Compose,
        strong: Compose,
        labelled_batch: int = 4,
        unlabelled_batch: int = 4,
        steps_per_epoch: int = 100,
        seed: int = 0,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank = distributed.rank() if rank is None else rank
        world_size = distributed.world_size() if world_size is None else world_size
        if len(labelled) == 0:  # type: ignore[arg-type]
            raise DataError("no labelled case", do="label at least one case")
        streams = {"labelled": labelled}
        sizes = {"labelled": labelled_batch}
        if unlabelled is not None and len(unlabelled) > 0:  # type: ignore[arg-type]
            streams["unlabelled"] = unlabelled
            sizes["unlabelled"] = unlabelled_batch
        lengths = {name: len(items) for name, items in streams.items()}  # type: ignore[arg-type]
        self.steps = _StepSampler(lengths, sizes, seed, rank, world_size)
        self.steps_per_epoch = steps_per_epoch
        self.streams = streams
        self._notes = WorkerNotes(num_workers)
        super().__init__(
            _Views(streams, weak, strong, self._notes),
            batch_sampler=self.steps,
            collate_fn=_collate,
            num_workers=num_workers,
        )

    def __len__(self) -> int:
        """Return the steps of one epoch; iteration itself does not end."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # PyTorch's, with our error
        """Return an endless iterator over the batches from the first step on."""
        self._notes.clear()
        return self._explained(super().__iter__())

    def raise_if_a_worker_died(self, error: Exception) -> None:
        """Say at which case a loader process died, if that is what ``error`` is about.

        PyTorch tells of a death from the handler of a signal, so in whatever the training is doing
        at that moment: whoever catches an error there asks here what it means.

        Raises:
            DataError: a loader process died at a case.
        """
        found = self._notes.of_the_dead(error)
        if found is None:
            return
        stream, item = list(self.streams)[found[0]], found[1]
        case_of = getattr(self.streams[stream], "case_of", None)
        raise DataError(
            "a loader process died while it prepared a case",
            file=f"item {item} of the {stream} ones" if case_of is None else case_of(item),
            do="often the memory was full: use fewer processes (--train#dataloader#num_workers 0 "
            "is none), then start again",
        ) from error

    def _explained(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except (RuntimeError, OSError, EOFError) as error:
            self.raise_if_a_worker_died(error)
            raise

    def start_at(self, step: int) -> None:
        """Make the next iteration begin with the batch of ``step`` (0 is the first)."""
        self.steps.first_step = step


class _StepSampler(Sampler[list[Draw]]):
    """Yields the draws of step t, t + 1, ... without an end."""

    def __init__(
        self, lengths: dict[str, int], sizes: dict[str, int], seed: int, rank: int, world_size: int
    ) -> None:
        self.lengths, self.sizes, self.seed = lengths, sizes, seed
        self.rank, self.world_size = rank, world_size
        self.first_step = 0
        self._order: dict[str, tuple[int, list[int]]] = {}

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self.first_step
        while True:
            yield self.draws(step)
            step += 1

    def draws(self, step: int) -> list[Draw]:
        """Return what this rank draws in ``step``."""
        draws = []
        for stream, size in self.sizes.items():
            first = (step * self.world_size + self.rank) * size
            for position in range(first, first + size):
                item = self._item(stream, position)
                draws.append(Draw(stream, item, stream_seed(self.seed, "views", stream, position)))
        return draws

    def _item(self, stream: str, position: int) -> int:
        passes, place = divmod(position, self.lengths[stream])
        if self._order.get(stream, (-1, []))[0] != passes:
            generator = stream_generator(self.seed, "order", stream, passes)
            order = torch.randperm(self.lengths[stream], generator=generator).tolist()
            self._order[stream] = (passes, order)
        return self._order[stream][1][place]


class _Views(Dataset[tuple[str, dict[str, Tensor]]]):
    """Turns a draw into the weak and the strong view of its item."""

    def __init__(
        self, streams: dict[str, Dataset[Item]], weak: Compose, strong: Compose, notes: WorkerNotes
    ) -> None:
        self.streams, self.weak, self.strong, self.notes = streams, weak, strong, notes
        # Once: `flatten` makes a new Compose, which gives each of them a new generator.
        flat = [*weak.flatten().transforms, *strong.flatten().transforms]
        self.random = [transform for transform in flat if isinstance(transform, Randomizable)]

    def __getitem__(self, draw: Draw) -> tuple[str, dict[str, Tensor]]:
        self.notes.begin(list(self.streams).index(draw.stream), draw.item)
        views = self._views(draw)
        self.notes.end()
        return draw.stream, views

    def _views(self, draw: Draw) -> dict[str, Tensor]:
        item = dict(self.streams[draw.stream][draw.item])
        self._reseed(draw.seed)
        with _plain_tensors():
            weak = _apply(self.weak, item)
            strong = _apply(self.strong, {"strong": weak["image"].clone()})
        views = {"weak": _tensor(weak["image"]), "strong": _tensor(strong["strong"])}
        if "label" in weak:
            views["label"] = _tensor(weak["label"]).long()
        return views

    def _reseed(self, seed: int) -> None:
        """Let all random transforms draw from one generator that begins at ``seed``.

        ``Compose.set_random_state`` would make one generator for each of them, which costs as much
        as the transforms of a small slice do.
        """
        state = np.random.RandomState(seed)
        for transform in self.random:
            transform.set_random_state(state=state)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Let transforms return tensors without metadata, which no view has and all would copy."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


def _apply(transform: Callable[[Any], Any], item: Item) -> Item:
    result: Item = transform(item)
    return result


def _tensor(value: Any) -> Tensor:
    return value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)


def _collate(items: Sequence[tuple[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
    streams = dict.fromkeys(stream for stream, _ in items)
    return {
        name: default_collate([views for stream, views in items if stream == name])
        for name in streams
    }
