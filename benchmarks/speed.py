"""What a training step costs: ours beside the textbook's, each optimisation in turn, and the floor.

    python benchmarks/speed.py [--quick] [--steps 20] [--rows MiDSS SAM]
    python benchmarks/speed.py --size reference --steps 3 --rows "ours: MiDSS" "with its second"

All rows of a size take turns in one process (A B C, A B C, ...), after warm-up, on two threads; the
median of their steps counts, and ratios are to the textbook's MiDSS step. On the GPU, too, where
there is one. Rows with freed memory kept, as in a training on the CPU, belong to a process and have
one of their own; they take turns with the others. Memory is the peak of a process of its own that
makes two steps, less what its imports take. Writes ``speed_<size>.csv`` and ``speed_<size>.md``
into ``benchmarks/results``.

Without ``--size`` it is the bundle's. A step at the reference size, a U-Net of 31 M weights and
images of 256 pixels, takes about a minute on two cores, and each row holds gigabytes: choose its
rows. A name in full is that row alone, a part of one all that have it.

``--processor-time`` counts the processor's seconds on one thread instead of those on the wall: for
a machine that others use.
"""

from __future__ import annotations

import argparse
import gc
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from speed_floor import Clock, counted_flop, parts_of_a_step, product_rate, wait
from speed_loader import FROM_CACHE, batch_seconds
from speed_ours import OURS, SIZES, Ours, Size
from speed_table import REDUCED, REORDERED, TOLERANCES, Line, write_results
from speed_textbook import SWITCHED, Switches, Textbook
from torch import Tensor

from dim_monai.allocator import freed_memory_kept

RESULTS = Path(__file__).resolve().parent / "results"
WARM_UP = 1  # besides the steps whose gradient and operations are taken
MIDSS, TEXTBOOK_SAM = "textbook MiDSS", "textbook SAM on MiDSS"
KEPT = (MIDSS, "ours: MiDSS", "ours: DiM with its second pass")


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        make: returns the training, which has ``step`` and ``gradient``.
        like: the row whose gradient the first step should have.
        compiled: whether it needs a C++ compiler.
        half: whether it computes in half precision.
        kept: whether freed memory is kept: the row of its ``like`` in a process of its own.
    """

    make: Callable[[], Any]
    like: str | None = None
    compiled: bool = False
    half: bool = False
    kept: bool = False


class _Textbook(Textbook):
    """A textbook training that holds its batch."""

    def __init__(self, size: Size, device: torch.device, *settings: Any) -> None:
        super().__init__(size.network(device), *settings)
        self.batch = size.batch()

    def step(self) -> None:  # type: ignore[override]
        """Make one step."""
        super().step(self.batch)


class Apart:
    """A row that makes its steps in a process of its own, one whenever it is asked."""

    def __init__(self, size: str, device: torch.device, row: str) -> None:
        command = [sys.executable, __file__, "--serve", size, device.type, row]
        self.process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def step(self) -> None:
        """Make one step."""
        asked, answers = self.process.stdin, self.process.stdout
        if asked is None or answers is None:
            raise RuntimeError("the process has no pipes")
        asked.write("step\n")
        if not answers.readline():
            raise RuntimeError(f"the process of a row ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(size: str, device_name: str, row: str) -> None:
    """Make a step for each line that comes, and answer with one."""
    device = torch.device(device_name)
    training = variants(SIZES[size], device)[row].make()
    with freed_memory_kept(device):
        for _ in sys.stdin:
            training.step()
            sys.stdout.write("done\n")
            sys.stdout.flush()


def variants(size: Size, device: torch.device) -> dict[str, Variant]:
    """Return all rows: the textbook, the textbook with each switch, and ours."""

    def textbook(method: str, switches: Switches) -> Callable[[], Any]:
        return lambda: _Textbook(size, device, method, switches)

    rows = {
        "textbook mean teacher": Variant(textbook("mean_teacher", Switches())),
        MIDSS: Variant(textbook("midss", Switches())),
        TEXTBOOK_SAM: Variant(textbook("sam", Switches())),
    }
    for name, switches in SWITCHED.items():
        rows[f"textbook MiDSS, {name}"] = Variant(
            textbook("midss", switches), MIDSS, switches.compiled, switches.autocast
        )
    rows[f"{TEXTBOOK_SAM}, foreach optimizer, EMA and perturbation"] = Variant(
        textbook("sam", Switches(foreach=True)), TEXTBOOK_SAM
    )
    for name, row in OURS.items():
        like = row.like and f"ours: {row.like}"
        half = (row.settings or {}).get("precision") == "bfloat16"
        rows[f"ours: {name}"] = Variant(
            lambda row=row: Ours(size, row, device), like, row.compiled, half
        )
    if device.type == "cpu":
        for name in KEPT:
            rows[f"{name}, freed memory kept"] = Variant(rows[name].make, name, kept=True)
    return rows


def difference(gradient: Tensor, other: Tensor) -> float:
    """Return the relative Euclidean distance of two gradients."""
    return float((gradient - other).double().norm() / other.double().norm())


def numerics(value: float | None, half: bool) -> str:
    """Return the class of a difference between two gradients."""
    if value is None:
        return ""
    if value == 0:
        return "bit-identical"
    kind = REDUCED if half else REORDERED
    return kind if value <= TOLERANCES[kind] else "beyond tolerance"


def seconds_of(
    trainings: dict[str, Any], steps: int, device: torch.device, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of the steps of each training; the trainings take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(steps):
        for name, training in trainings.items():
            wait(device)
            start = clock()
            training.step()
            wait(device)
            seconds[name].append(clock() - start)
    return seconds


def clock_of(options: argparse.Namespace) -> Clock:
    """Return the clock that the command line asks for."""
    return time.process_time if options.processor_time else time.perf_counter


def is_wanted(row: str, wanted: Collection[str], rows: Collection[str]) -> bool:
    """Whether a row is among those asked for: by its name, or by a part that is no row's name."""
    return row in wanted or any(part in row for part in set(wanted) - set(rows))


def measure(size_name: str, device: torch.device, options: argparse.Namespace) -> list[Line]:
    """Return the lines of one size on one device."""
    size = SIZES[size_name]
    rows = variants(size, device)
    chosen = {k: v for k, v in rows.items() if k == MIDSS or is_wanted(k, options.rows, rows)}
    compiler = shutil.which("c++") or shutil.which("g++")
    lines = {
        name: Line(size_name, device.type, name, "bfloat16" if variant.half else "float32")
        for name, variant in chosen.items()
    }
    trainings: dict[str, Any] = {}
    gradients: dict[str, Tensor] = {}
    for name, variant in chosen.items():
        if variant.compiled and not compiler:
            lines[name].note = "not run: no compiler"
            continue
        if variant.kept:
            if options.processor_time:
                lines[name].note = "not run: the processor's time of another process"
                continue
            trainings[name] = Apart(size_name, device, name)
            trainings[name].step()
            if variant.like in lines:
                lines[name].gflop = lines[variant.like].gflop
            continue
        training = variant.make()
        training.step()
        gradient = training.gradient()
        gradients[name] = gradient
        if not variant.compiled:  # the second step: the first has no history to use
            lines[name].gflop = counted_flop(training.step) / 1e9
        if variant.like in gradients:
            lines[name].difference = difference(gradient, gradients[variant.like])
        elif variant.like:
            reference = rows[variant.like].make()
            reference.step()
            lines[name].difference = difference(gradient, reference.gradient())
        lines[name].numerics = numerics(lines[name].difference, variant.half)
        trainings[name] = training
        sys.stderr.write(f"{size_name}, {device.type}: {name}\n")
    clock = clock_of(options)
    seconds_of(trainings, WARM_UP, device, clock)
    seconds = seconds_of(trainings, options.steps, device, clock)
    rates = {
        precision: product_rate(device, getattr(torch, precision), clock) / 1e9
        for precision in ("float32", "bfloat16")
    }
    for name, values in seconds.items():
        line = lines[name]
        line.ms, line.steps = 1000 * statistics.median(values), len(values)
        # What is compiled is not counted; it makes the operations of the row that is not.
        like = lines.get(chosen[name].like, lines[MIDSS])
        flop = line.gflop or like.gflop or lines[MIDSS].gflop
        line.product_rate = rates[line.precision]
        line.floor_ms = 1000 * flop / line.product_rate
    for training in trainings.values():
        if isinstance(training, Apart):
            training.close()
    del trainings, gradients
    gc.collect()
    if not (options.quick or options.no_memory):
        for name, line in lines.items():
            line.peak_mb = peak_mb(size_name, device.type, name) if line.ms else None
    return list(lines.values())


def peak_mb(size: str, device: str, row: str) -> float:
    """Return the peak memory of two steps in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", size, device, row]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def print_peak(size_name: str, device_name: str, row: str) -> None:
    """Make two steps and write the peak memory in MB."""
    device = torch.device(device_name)
    rows = variants(SIZES[size_name], device)
    before = _resident_mb("VmRSS")
    training = rows[row].make()
    with freed_memory_kept(device) if rows[row].kept else nullcontext():
        for _ in range(2):
            training.step()
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = _resident_mb("VmHWM") - before
    sys.stdout.write(f"{peak}\n")


def _resident_mb(key: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["bundle"])
    parser.add_argument("--rows", nargs="+", default=[""], help="names of rows or parts of them")
    parser.add_argument("--quick", action="store_true", help="three steps at the bundle's size")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1 if options.processor_time else 2)
    if options.memory_of:
        print_peak(*options.memory_of)
        return
    if options.serve:
        serve(*options.serve)
        return
    if options.quick:
        options.steps, options.size = 3, ["bundle"]
    for size in options.size:
        measure_size(size, options)


def measure_size(size: str, options: argparse.Namespace) -> None:
    """Measure one size on every device, and write its tables."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    machine = f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}"
    lines, parts = [], {}
    batch = batch_seconds(options.steps, clock_of(options)) if size == "bundle" else {}
    for name in devices:
        device = torch.device(name)
        lines += measure(size, device, options)
        # What is measured is kept, whatever becomes of the rest.
        write_results(options.results, lines, parts, batch, machine, options.processor_time)
        for row in ("MiDSS", "DiM with its second pass"):
            with freed_memory_kept(device):
                times = parts_of_a_step(
                    SIZES[size], OURS[row], device, options.steps, clock_of(options)
                )
            parts[size, name, row] = times | {"loader": batch.get(FROM_CACHE)}
    write_results(options.results, lines, parts, batch, machine, options.processor_time)


if __name__ == "__main__":
    main()
