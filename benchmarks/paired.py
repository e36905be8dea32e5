"""Dice of several seeds on the same cases: mean and spread, and paired differences of methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def dice_of(rows: Iterable[dict[str, str]], unit: str = "case") -> dict[tuple[int, str], float]:
    """Return the mean Dice of each seed and case, or whatever else column ``unit`` names."""
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        key = int(row["seed"]), f"{row['domain']}/{row[unit]}"
        found.setdefault(key, []).append(float(row["dice"]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def mean_and_spread(rows: Sequence[dict[str, str]]) -> str:
    """Return the mean Dice and, of several seeds, the standard deviation of theirs; "-" of none."""
    if not rows:
        return "-"
    seeds = sorted({row["seed"] for row in rows})
    means = [np.mean([float(r["dice"]) for r in rows if r["seed"] == seed]) for seed in seeds]
    spread = f" ± {np.std(means, ddof=1):.3f}" if len(seeds) > 1 else ""
    return f"{np.mean(means):.3f}{spread}"


def difference(
    rows: Sequence[dict[str, str]], baseline: Sequence[dict[str, str]], unit: str = "case"
) -> str:
    """Return the mean difference in Dice with its interval; nothing where nothing is common.

    Where not all seeds of the rows are common, those of the difference are named.
    """
    a, b = dice_of(rows, unit), dice_of(baseline, unit)
    common = sorted({seed for seed, _ in a.keys() & b.keys()})
    if not common:
        return ""
    all_of_them = len(common) == len({seed for seed, _ in a})
    named = "" if all_of_them else f" [seeds {', '.join(map(str, common))}]"
    return with_interval(*paired_interval(a, b)) + named


def with_interval(mean: float, low: float, high: float) -> str:
    """Return a difference as it stands in a table."""
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def paired_interval(a: dict[Any, float], b: dict[Any, float]) -> tuple[float, float, float]:
    """Return the mean of a - b over common (seed, case) and its 95 % bootstrap interval.

    Seeds and cases are resampled independently, since a case is hard or easy for every seed and a
    labelled case good or bad for every other.
    """
    common = sorted(a.keys() & b.keys())
    seeds = sorted({seed for seed, _ in common})
    differences = {
        seed: np.array([a[pair] - b[pair] for pair in common if pair[0] == seed]) for seed in seeds
    }
    generator = np.random.default_rng(0)
    means = []
    for _ in range(4000):
        drawn = generator.choice(seeds, len(seeds))
        place = generator.random(max(len(values) for values in differences.values()))
        of_seed = [differences[seed] for seed in drawn]
        means.append(np.mean([values[(place * len(values)).astype(int)] for values in of_seed]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([a[k] - b[k] for k in common])), float(low), float(high)
