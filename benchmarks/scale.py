"""Training on 10,000 unlabelled volumes: what a step, the start and memory cost; what ranks give.

    python benchmarks/scale.py

The list is simulated: tiny volumes, few of them different, each under a name of its own. The
network is tiny as well, so that what the data cost cannot hide behind it. Four measurements:

- steps: TwoStreamLoader and one step of the trainer, with every case on disk. Trainings of all
  sizes take turns in one process; processor time of a step, relative to the smallest list.
- start: the whole command, from its first import to the first step and to the end of the report;
  the first time, and again, of which the least of three counts: what else runs only adds to it.
- memory: the peak of anonymous memory against the budget, above what the smallest list takes.
- ranks: samples a second of 1, 2, 4 and 8 processes of one thread each that train one network over
  gloo, relative to one; on the wall, taking turns. They cannot gain more than there are free cores,
  so the processor time of a sample is told, too: while it stays, more cores would give more.

Writes ``scale.csv`` and ``scale.md`` in ``benchmarks/results``; ``--out`` names another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from cells import RESULTS
from scale_data import SIDE, SLICES, config, make_set
from scale_table import CLOCKS, MOMENTS, Row, write_results
from single_step import make_step
from torch.nn.parallel import DistributedDataParallel

from dim_monai.data.loader import TwoStreamLoader
from dim_monai.data.slices import SliceDataset
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.handlers import TeacherEMA
from dim_monai.methods import MiDSS

SIZES = (10, 100, 1_000, 10_000)
RANKS = (1, 2, 4, 8)
BUDGET_GB = 0.5
"""Less than the prepared list takes."""
BATCH = 4
PER_TURN, TURNS, WARM_UP = 5, 12, 2
RANK_STEPS, RANK_TURNS = 10, 3
AGAIN = 3


class Training:
    """A training of which single steps are made."""

    def __init__(self, streams: Sequence[SliceDataset], parts: Any) -> None:
        self.loader = TwoStreamLoader(
            *streams,
            weak=parts("train#weak_augmentation"),
            strong=parts("train#strong_augmentation"),
            labelled_batch=BATCH,
            unlabelled_batch=BATCH,
        )
        self.batches = iter(self.loader)
        torch.manual_seed(0)
        network = parts("network_def", instantiate=True)
        if dist.is_initialized():
            network = DistributedDataParallel(network)
        self.trainer = SemiSupervisedTrainer(
            torch.device("cpu"),
            1,
            self.loader,
            network,
            torch.optim.AdamW(network.parameters(), 1e-3),
            MiDSS(),
            train_handlers=[TeacherEMA(network)],
        )
        self.trainer.state.epoch_length, self.trainer.state.max_epochs = 10_000, 1

    def step(self) -> None:
        """Load a batch and make a step."""
        self.trainer.state.iteration += 1
        make_step(self.trainer, next(self.batches))


def start(data: Path, out: Path, memory_gb: float) -> dict[str, Any]:
    """Return what ``scale_start.py`` tells of a training."""
    command = [sys.executable, str(Path(__file__).with_name("scale_start.py"))]
    done = subprocess.run(  # noqa: S603
        [*command, str(data), str(out), str(memory_gb)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def starts(place: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Measure starts and memory, with the smallest and the largest list."""
    least = 0.0
    for size in (sizes[0], sizes[-1]):
        data, out = make_set(place / f"data{size}", size), place / f"out{size}"
        budget = BUDGET_GB if size == sizes[-1] else 0.0  # on disk, one as the other
        peaks = {}
        for what, times in {"the first time": 1, "again": AGAIN}.items():
            told = [start(data, out, budget) for _ in range(times)]
            for moment in MOMENTS:
                for n, clock in enumerate(CLOCKS):
                    seconds = min(one[moment][n] for one in told)
                    yield Row("start", size, f"{what}, {moment}, {clock}", seconds, "s")
            peaks[f"budget {budget:g} GB, {what}"] = max(one["peak_gb"] for one in told)
        if size == sizes[0]:
            least = max(peaks.values())
        else:
            held = start(data, place / "out_held", 100.0)
            peaks["budget that is not used up"] = held["peak_gb"]
            for what, peak in peaks.items():
                yield Row("memory", size, what, peak - least, "GB")
            yield Row("memory", size, "the prepared list itself", list_gb(size), "GB")


def list_gb(size: int) -> float:
    """Return what so many prepared cases take: float32, three slices as channels."""
    return size * SLICES * 3 * SIDE * SIDE * 4 / 1e9


def streams_of(place: Path, sizes: Sequence[int]) -> tuple[dict[int, list[SliceDataset]], Any]:
    """Return the two streams of every size, on disk, and the parser of their config."""
    largest = sizes[-1]
    parser = config(place / f"data{largest}", place / f"out{largest}", 0.0)
    parts = parser.get_parsed_content
    data = parts("training_data")

    def stream(entries: Sequence[dict[str, str]]) -> SliceDataset:
        cache, transform = parts("train#cache"), parts("train#preprocessing")
        return SliceDataset(entries, transform, cache=cache, progress=False)

    labelled = stream(data.labeled)
    return {size: [labelled, stream(data.unlabeled[:size])] for size in sizes}, parts


def steps(streams: dict[int, list[SliceDataset]], parts: Any) -> Iterator[Row]:
    """Measure steps with every size, in turns."""
    trainings = {size: Training(of_size, parts) for size, of_size in streams.items()}
    spent: dict[int, list[float]] = defaultdict(list)
    for turn in range(-1, TURNS):
        for size, training in trainings.items():
            begin = time.process_time()
            for _ in range(PER_TURN if turn >= 0 else WARM_UP):
                training.step()
            if turn >= 0:
                spent[size].append((time.process_time() - begin) / PER_TURN)
    base = spent[min(spent)]
    for size, values in spent.items():
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
        yield Row("steps", size, "processor time of a step", 1e3 * statistics.median(values), "ms")
        yield Row("steps", size, f"relative to {min(spent)} cases", ratio, "x")


def ranks(streams: list[SliceDataset], parts: Any, place: Path) -> Iterator[Row]:
    """Measure numbers of processes, in turns."""
    rates: dict[int, list[float]] = defaultdict(list)
    costs: dict[int, list[float]] = defaultdict(list)
    for turn in range(RANK_TURNS):
        for count in RANKS:
            told = place / f"rate_{turn}_{count}"
            torch.multiprocessing.start_processes(
                _rank, (streams, parts, count, str(told)), nprocs=count, start_method="fork"
            )
            rate, cost = map(float, told.read_text(encoding="ascii").split())
            rates[count].append(rate)
            costs[count].append(cost)
    for count in RANKS:
        yield Row("ranks", count, "samples a second", statistics.median(rates[count]), "1/s")
        for what, of in (("samples a second", rates), ("processor time of a sample", costs)):
            ratio = statistics.median(a / b for a, b in zip(of[count], of[1], strict=True))
            yield Row("ranks", count, f"{what}, relative to one rank", ratio, "x")


def _rank(rank: int, streams: list[SliceDataset], parts: Any, count: int, told: str) -> None:
    """Train in one of several processes; the first tells samples a second and cost of all."""
    torch.set_num_threads(1)
    meeting = Path(f"{told}_meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    training = Training(streams, parts)
    for _ in range(WARM_UP):
        training.step()
    dist.barrier()
    begin, begin_core = time.perf_counter(), time.process_time()
    for _ in range(RANK_STEPS):
        training.step()
    core = torch.tensor(time.process_time() - begin_core, dtype=torch.float64)
    dist.all_reduce(core)
    samples = count * RANK_STEPS * 2 * BATCH
    rate = samples / (time.perf_counter() - begin)
    if rank == 0:
        Path(told).write_text(f"{rate} {core.item() / samples}", encoding="ascii")
    dist.destroy_process_group()


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=SIZES[-1], help="of the largest list")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    busy = f"load {os.getloadavg()[0]:.1f} before it began"  # of others: the wall shows it
    machine = f"{len(os.sched_getaffinity(0))} cores, {busy}, PyTorch {torch.__version__}"
    sizes = [size for size in SIZES if size < options.cases] + [options.cases]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = list(starts(place, sizes))
        streams, parts = streams_of(place, sizes)
        rows += steps(streams, parts)
        rows += ranks(streams[sizes[-1]], parts, place)
    sys.stdout.write(write_results(options.out, rows, machine))


if __name__ == "__main__":
    main()
