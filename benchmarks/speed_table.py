"""The lines of the speed measurement, and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evidence_plan import VARIANTS
from mean_step import mean_steps
from tables import write_table

MIDSS, OURS = "textbook MiDSS", "ours: MiDSS"
REORDERED, REDUCED = "reordered sums", "reduced precision"
TOLERANCES = {REORDERED: 1e-4, REDUCED: 5e-2}
"""Of the relative distance of two gradients: far above what rounding makes of float32 (2e-6) and of
bfloat16 (2e-2) in a step, and far below what a term that is left out makes."""


@dataclass
class Line:
    """One row at one size on one device.

    Attributes:
        size: name of the size.
        device: "cpu" or "cuda".
        row: name of the row.
        precision: in which it computes.
        ms: median of a step.
        steps: how many.
        gflop: operations of convolutions and products in a step.
        product_rate: GFLOP/s of a large matrix product of that precision.
        floor_ms: the time of the operations at that rate.
        peak_mb: memory above what the imports take.
        difference: relative distance of the first step's gradient to the row without it.
        numerics: its class.
        note: why there are no numbers.
    """

    size: str
    device: str
    row: str
    precision: str = "float32"
    ms: float | None = None
    steps: int | None = None
    gflop: float | None = None
    product_rate: float | None = None
    floor_ms: float | None = None
    peak_mb: float | None = None
    difference: float | None = None
    numerics: str = ""
    note: str = ""


def write_results(
    folder: Path,
    lines: list[Line],
    parts: dict[tuple[str, str, str], dict[str, float | None]],
    batch: Mapping[str, float],
    machine: str,
    processor_time: bool,
) -> None:
    """Write ``speed_<size>.csv`` and ``speed_<size>.md`` of lines of one size.

    Args:
        folder: of both.
        lines: of the rows.
        parts: seconds of each part of a step, by size, device and row.
        batch: seconds of a batch of the loader, by where its slices come from.
        machine: on which it was measured.
        processor_time: whether seconds are the processor's.
    """
    name = f"speed_{lines[0].size}"
    write_table(folder / f"{name}.csv", lines)
    kind = "processor time on one thread" if processor_time else "time on the wall, two threads"
    steps = max(line.steps or 0 for line in lines)
    text = [f"Steps of a training, median of {steps}, {kind}. {machine}.", ""]
    for device in dict.fromkeys(line.device for line in lines):
        here = [line for line in lines if line.device == device]
        text += [f"## {lines[0].size}, {device}", "", *table(here), "", *derived(here), ""]
        text += ["### Targets", "", *targets_table(here), ""]
    text += ["## Where the time goes", "", *parts_table(parts)]
    if batch:
        text += ["", "## A batch of the loader", "", *batch_table(batch)]
    (folder / f"{name}.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def table(lines: list[Line]) -> list[str]:
    """Return the table of the rows of one size on one device."""
    by_row = {line.row: line for line in lines}
    base, own = by_row[MIDSS], by_row.get(OURS)
    head = ("step", "ms", "x textbook", "x our MiDSS", "x FLOPs", "floor ms", "MB", "x", "numerics")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for line in lines:
        if line.ms is None:
            rows.append(f"| {line.row} | {line.note} |" + " |" * (len(head) - 2))
            continue
        numerics = line.numerics
        if line.difference:
            numerics += f" {line.difference:.0e}"
        if line.numerics in TOLERANCES:
            numerics += f" (at most {TOLERANCES[line.numerics]:.0e})"
        cells = (
            line.row,
            f"{line.ms:.1f}",
            _over(line.ms, base.ms),
            _over(line.ms, own and own.ms),
            _over(line.gflop, own and own.gflop),
            f"{line.floor_ms:.1f}" if line.floor_ms else "",
            f"{line.peak_mb:.0f}" if line.peak_mb else "",
            _over(line.peak_mb, base.peak_mb),
            numerics,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def derived(lines: list[Line]) -> list[str]:
    """Return the rates of the machine, and the mean step of the trainings that could be run."""
    rates = {line.precision: line.product_rate for line in lines if line.product_rate}
    ms = {line.row: line.ms for line in lines if line.ms}
    told = ", ".join(f"{rate:.0f} GFLOP/s in {precision}" for precision, rate in rates.items())
    return [f"- A large matrix product, the floor of a step: {told}."] + [
        f"- {VARIANTS[name].title}, mean over a training: {ratio:.2f} of our MiDSS step."
        for name, ratio in mean_steps(ms).items()
        if name != "midss"
    ]


def targets_table(lines: list[Line]) -> list[str]:
    """Return each target, what was reached, and whether that is enough."""
    by_row = {line.row: line for line in lines}

    def ratio(row: str, base: str, value: str) -> float | None:
        over, under = (getattr(by_row.get(name), value, None) for name in (row, base))
        return over / under if over and under else None

    sam, second = "ours: DiM, SAM in every step", "ours: DiM with its second pass"
    sam_ms, sam_gflop = ratio(sam, OURS, "ms"), ratio(sam, OURS, "gflop")
    reached = [
        ("our MiDSS / textbook MiDSS, float32", ratio(OURS, MIDSS, "ms"), 0.85),
        (
            "our MiDSS / textbook MiDSS, float32, both with freed memory kept",
            ratio(f"{OURS}, freed memory kept", f"{MIDSS}, freed memory kept", "ms"),
            0.85,
        ),
        (
            "our MiDSS in bfloat16 and compiled / textbook MiDSS",
            ratio(f"{OURS}, bfloat16, torch.compile", MIDSS, "ms"),
            0.45,
        ),
        (
            "SAM in every step / our MiDSS, over the same ratio of operations",
            sam_ms / sam_gflop if sam_ms and sam_gflop else None,
            1.1,
        ),
        (
            "DiM as it ships, mean step / our MiDSS",
            mean_steps({line.row: line.ms for line in lines if line.ms}).get("dim"),
            1.25,
        ),
        ("memory, our MiDSS / textbook MiDSS", ratio(OURS, MIDSS, "peak_mb"), 1.2),
        ("memory, DiM as it ships / textbook MiDSS", ratio(second, MIDSS, "peak_mb"), 1.2),
        (
            "memory, DiM as it ships with freed memory kept / textbook MiDSS",
            ratio(f"{second}, freed memory kept", MIDSS, "peak_mb"),
            1.2,
        ),
        ("memory, SAM in every step / textbook MiDSS", ratio(sam, MIDSS, "peak_mb"), 1.2),
    ]
    rows = ["| target | reached | at most | |", "|---|---|---|---|"]
    for name, value, limit in reached:
        if value is None:
            rows.append(f"| {name} | not run | {limit} | |")
        else:
            verdict = "met" if value <= limit else "**missed**"
            rows.append(f"| {name} | {value:.4g} | {limit} | {verdict} |")
    return rows


def parts_table(parts: dict[tuple[str, str, str], dict[str, float | None]]) -> list[str]:
    """Return the milliseconds of each part of a step, and its share."""
    names = list(dict.fromkeys(name for times in parts.values() for name in times))
    rows = [f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for (size, device, row), times in parts.items():
        total = sum(value for value in times.values() if value)
        cells = [
            "not run"
            if times[name] is None
            else f"{1000 * times[name]:.1f} ({times[name] / total:.0%})"
            for name in names
        ]
        rows.append(f"| {size}, {device}: {row} | {' | '.join(cells)} |")
    return rows


def batch_table(batch: Mapping[str, float]) -> list[str]:
    """Return the milliseconds of a batch by where its slices come from, first the fastest."""
    least = min(batch.values())
    return ["| slices | ms | x |", "|---|---|---|"] + [
        f"| {source} | {1000 * value:.1f} | {value / least:.1f} |"
        for source, value in sorted(batch.items(), key=lambda item: item[1])
    ]


def _over(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value and base else ""
