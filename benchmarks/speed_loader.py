"""What a batch of the bundle's loader costs, from the cache and with its volumes prepared anew."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigWorkflow
from speed_ours import TRAIN
from torch import Tensor

from dim_monai.data.slices import SliceDataset

FROM_CACHE, ANEW = "from the cache", "each slice's volume read and prepared anew"


@dataclass(frozen=True)
class Anew:
    """A case of which nothing is kept."""

    make: Callable[[], Mapping[str, Tensor]]
    count: int

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.count

    def read(self, position: int) -> dict[str, Tensor]:
        """Prepare the whole case and return one slice."""
        return {key: tensor[position] for key, tensor in self.make().items()}


def forget(dataset: SliceDataset) -> None:
    """Make a dataset prepare the case of every item anew, as without a cache."""
    cases: list[Any] = [
        Anew(lambda entry=entry: dataset._make(entry), len(case))
        for entry, case in zip(dataset.data, dataset.cases, strict=True)
    ]
    dataset.cases = cases


def batch_seconds(steps: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of a batch of the bundle's loader on the demo set, by source."""
    with tempfile.TemporaryDirectory() as folder:
        workflow = ConfigWorkflow(
            workflow_type="train", config_file=str(TRAIN), logging_file=False, output_dir=folder
        )
        workflow.initialize()
        loader = workflow.trainer.data_loader
        seconds = {FROM_CACHE: _median_seconds(loader, steps, clock)}
        for dataset in loader.streams.values():
            forget(dataset)
        seconds[ANEW] = _median_seconds(loader, steps, clock)
    return seconds


def _median_seconds(loader: Any, steps: int, clock: Callable[[], float]) -> float:
    batches = iter(loader)
    next(batches)
    seconds = []
    for _ in range(steps):
        start = clock()
        next(batches)
        seconds.append(clock() - start)
    return statistics.median(seconds)
