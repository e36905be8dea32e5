"""The numbers of ``scale.py``, and the page made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scale_data import SIDE, SLICES
from tables import write_table

MOMENTS, CLOCKS = ("first_step", "end"), ("wall", "processor")


@dataclass
class Row:
    """One number.

    Attributes:
        part: steps, start, memory or ranks.
        size: unlabelled cases; of ``ranks`` processes.
        what: is measured.
        value: of it.
        unit: of the value.
    """

    part: str
    size: int
    what: str
    value: float
    unit: str


def write_results(folder: Path, rows: Sequence[Row], machine: str) -> str:
    """Write ``scale.csv`` and ``scale.md``, and return the latter's text."""
    write_table(folder / "scale.csv", rows)
    text = "\n".join(tables(rows, machine)) + "\n"
    (folder / "scale.md").write_text(text, encoding="utf-8")
    return text


def tables(rows: Sequence[Row], machine: str) -> list[str]:
    """Return the page: a table of each part."""
    found = {(row.part, row.size, row.what): row.value for row in rows}
    sizes = sorted({row.size for row in rows if row.part == "steps"})
    small, large = sizes[0], sizes[-1]
    lines = [
        f"Simulated volumes of {SIDE} x {SIDE} x {SLICES} voxels, a tiny network. {machine}.",
        "",
        f"| unlabelled cases | processor ms of a step | x of {small} cases, median of pairs |",
        "|---|---|---|",
    ]
    for size in sizes:
        ms = found["steps", size, "processor time of a step"]
        ratio = found["steps", size, f"relative to {small} cases"]
        lines.append(f"| {size:,} | {ms:.1f} | {ratio:.2f} |")
    lines += [
        "",
        "| start with | | to the first step, s | of the processor | to the end, s | of it |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for size in (small, large):
        for what in ("the first time", "again"):
            columns = [f"{what}, {moment}, {clock}" for moment in MOMENTS for clock in CLOCKS]
            cells = [f"{found['start', size, column]:.1f}" for column in columns]
            lines.append(f"| {size:,} cases | {what} | {' | '.join(cells)} |")
    lines += ["", f"| memory with {large:,} cases | GB above that with {small} |", "|---|---|"]
    lines += [f"| {row.what} | {row.value:.2f} |" for row in rows if row.part == "memory"]
    lines += [
        "",
        "| gloo ranks | samples a second | x of one rank, median of pairs "
        "| processor time of a sample, x |",
    ]
    lines += ["|---|---|---|---|"]
    for count in sorted({row.size for row in rows if row.part == "ranks"}):
        kinds = ("samples a second", "processor time of a sample")
        ratios = [f"{found['ranks', count, f'{kind}, relative to one rank']:.2f}" for kind in kinds]
        rate = found["ranks", count, kinds[0]]
        lines.append(f"| {count} | {rate:.0f} | {' | '.join(ratios)} |")
    return lines
