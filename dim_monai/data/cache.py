"""Prepared cases: in memory as long as they fit a budget, else on disk, read slice by slice."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import monai
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import dim_monai
from dim_monai import distributed
from dim_monai.data.identity import entry_identity, key_of
from dim_monai.data.remembered import make_private
from dim_monai.data.slice_file import SUFFIX, count_slices, read_slice, write_slices
from dim_monai.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_BLOCK = 2**26
"""Bytes; of a size that the allocator asks the system for, and gives back, as one piece."""

_ALIGNMENT = 64

Entry: TypeAlias = Mapping[str, Any]
Slices: TypeAlias = dict[str, Tensor]
"""Tensors by name, with the slices along the first axis; of one slice, without it."""

VERSIONS = (1, dim_monai.__version__, monai.__version__, torch.__version__, np.__version__)
"""Of the files, and of what computes their content: another one makes them anew."""


@dataclass(frozen=True)
class InMemory:
    """A prepared case that is held, and the file that it would go to."""

    slices: Slices
    file: Path | None = None

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.slices["image"])

    def read(self, position: int) -> Slices:
        """Return one slice, as views."""
        return {key: tensor[position] for key, tensor in self.slices.items()}

    @property
    def nbytes(self) -> int:
        """Return what it takes."""
        return sum(tensor.nbytes for tensor in self.slices.values())


@dataclass(frozen=True)
class OnDisk:
    """A prepared case that lies in a file."""

    file: Path
    count: int

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.count

    def read(self, position: int) -> Slices | None:
        """Return one slice; None if the file is gone or damaged."""
        return read_slice(self.file, position)


Case: TypeAlias = InMemory | OnDisk


class CaseCache:
    """Keeps prepared cases, at most ``memory_gb`` of them in memory.

    A list of cases that fits what is left of the budget is held, and nothing is written. One that
    does not is written as a whole, one file a case, and read slice by slice from then on; the
    system keeps in memory what it has room for, once for all processes of a machine. The next start
    reads the heads of the files alone. Batches do not depend on where a case is.

    A file is found by the identity of the case's files and the preprocessing, so it is made anew
    when either has changed; its name tells nothing. One that is damaged is made again when that is
    found. Any number of processes may share a folder: ranks begin at different cases, and find
    those of the others. The folder holds images of patients: it is made readable by its owner
    alone, and can be removed at any time between two runs.

    MONAI's ways to keep prepared cases do not fit slices. ``CacheDataset`` and
    ``SmartCacheDataset`` hold whole volumes, whatever memory there is. ``PersistentDataset``,
    ``CacheNTransDataset``, ``GDSDataset`` and ``LMDBDataset`` load a whole pickled volume for each
    of its slices, take the path for the content, so that a changed image is not noticed, and do
    not know how many slices a case has before it is loaded.

    Args:
        folder: of the files; None holds everything.
        memory_gb: budget in GB (1e9 bytes) of one process; 0 writes everything, which makes the
            next start fast.
        preprocessing: what the content depends on besides the cases: digest of the settings.

    Raises:
        ConfigError: a budget that is no number from 0, or without a folder for what exceeds it.
    """

    def __init__(
        self, folder: str | None = None, memory_gb: float = math.inf, preprocessing: str = ""
    ) -> None:
        self.budget = float(memory_gb) * 1e9
        if not self.budget >= 0:
            raise ConfigError("cache_memory_gb", got=memory_gb, expected="a number from 0")
        if folder is None and self.budget < math.inf:
            raise ConfigError("a budget needs a folder for what exceeds it", do="give a cache_dir")
        self.folder = None if folder is None else Path(folder)
        self.preprocessing = preprocessing
        self.held = 0

    def prepare(
        self,
        entries: Sequence[Entry],
        make: Callable[[Entry], Slices],
        *,
        slice_axis: int | None,
        threads: int = 2,
        progress: bool = True,
    ) -> list[Case]:
        """Return prepared cases; those that no file holds are made.

        Args:
            entries: of a data list.
            make: prepares one case.
            slice_axis: which axis of the case ``make`` puts first.
            threads: that prepare; each holds a case besides the budget.
            progress: show a bar.

        Raises:
            DataError: the folder cannot be written. What ``make`` raises is passed on.
        """
        filling = _Filling(self, make, slice_axis)
        total = len(entries)
        first = total * distributed.rank() // distributed.world_size()
        order = [*range(first, total), *range(first)]
        with ThreadPoolExecutor(max(1, threads)) as pool:
            made = pool.map(lambda place: filling.add(entries[place]), order)
            bar = tqdm(made, "Loading dataset", total, disable=not progress)
            cases = dict(zip(order, bar, strict=True))
            if filling.is_over:
                cases = dict(zip(order, pool.map(filling.move, cases.values()), strict=True))
        if filling.is_over:
            logger.info("prepared images: more than the budget of memory, so in %s", self.folder)
        return [cases[place] for place in range(total)]

    def make_again(
        self,
        entry: Entry,
        case: OnDisk,
        make: Callable[[Entry], Slices],
        *,
        slice_axis: int | None,
    ) -> InMemory:
        """Return a case whose file is gone or damaged, and put the file in its place.

        Raises:
            DataError: the case is not what it was when the training began.
        """
        logger.warning("prepared images: gone or damaged, made again: %s", case.file)
        if self.file_of(entry, slice_axis) != case.file:
            raise DataError(
                "the case was changed while it was trained on",
                file=entry["image"],
                do="leave the data as they are during a training; start it again",
            )
        made = InMemory(make(entry), case.file)
        self.write(made)
        return made

    def file_of(self, entry: Entry, slice_axis: int | None) -> Path | None:
        """Return where a case would be; None without a folder.

        Raises:
            DataError: a file of the case is missing.
        """
        if self.folder is None:
            return None
        settings = key_of(VERSIONS, self.preprocessing, slice_axis)[:12]
        try:
            return self.folder / settings / f"{key_of(entry_identity(entry))}{SUFFIX}"
        except OSError as error:
            raise DataError(
                "file of a case cannot be opened", file=error.filename, got=error.strerror
            ) from error

    def write(self, case: InMemory) -> OnDisk:
        """Write a case.

        Raises:
            DataError: the folder cannot be written, as on a full disk.
        """
        if case.file is None or self.folder is None:
            raise ValueError("a case without a file cannot be written")
        try:
            make_private(self.folder)
            make_private(case.file.parent)
            write_slices(case.file, case.slices)
        except OSError as error:
            raise DataError(
                "prepared images cannot be written",
                file=self.folder,
                got=error.strerror or error,
                do="make room, give another folder with --cache_dir, or allow more memory with "
                "--cache_memory_gb; then start again: what was written is used",
            ) from error
        return OnDisk(case.file, len(case))


class _Filling:
    """One list of cases on its way into the cache, by several threads."""

    def __init__(
        self, cache: CaseCache, make: Callable[[Entry], Slices], slice_axis: int | None
    ) -> None:
        self.cache, self.make, self.slice_axis = cache, make, slice_axis
        self.is_over = False
        self._room = torch.empty(0, dtype=torch.uint8)
        self._lock = Lock()

    def add(self, entry: Entry) -> Case:
        """Find a case, or make and hold it, or make and write it once the budget is used up."""
        # Before it is read: should it change meanwhile, nobody asks for this file again.
        file = self.cache.file_of(entry, self.slice_axis)
        if file is not None and (count := count_slices(file)) is not None:
            return OnDisk(file, count)
        case = InMemory(self.make(entry), file)
        with self._lock:
            self.is_over |= self.cache.held + case.nbytes > self.cache.budget
            if not self.is_over:
                self.cache.held += case.nbytes
                held = {key: self._hold(tensor) for key, tensor in case.slices.items()}
                return InMemory(held, file)
        return self.cache.write(case)

    def move(self, case: Case) -> OnDisk:
        """Write a case that is held."""
        if isinstance(case, OnDisk):
            return case
        with self._lock:
            self.cache.held -= case.nbytes
        return self.cache.write(case)

    def _hold(self, tensor: Tensor) -> Tensor:
        """Return a copy in a block of memory that holds nothing but such copies.

        Between all that transforms allocate and free, each tensor that stays would leave a hole
        beside it: twice the budget would be in use.
        """
        size = -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        if size > len(self._room):
            self._room = torch.empty(max(size, _BLOCK), dtype=torch.uint8)
        place, self._room = self._room[: tensor.nbytes], self._room[size:]
        return place.view(tensor.dtype).view(tensor.shape).copy_(tensor)
