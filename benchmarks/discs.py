"""The optic disc in whole photographs: a few are labelled, the rest unlabelled, others are scored.

    python benchmarks/discs.py run --part dev  --methods supervised dim
    python benchmarks/discs.py run --part test --methods supervised dim
    python benchmarks/discs.py table --write

Data: ``fundus_disc`` of ``DIM_TEST_DATA``, 20 photographs of IDRiD with masks of the disc alone.
The bundle is dim_fundus with ``photographs.yaml`` and ``disc.yaml``. A seed that never changes has
drawn a test part of 6. Seed s draws the labelled ones of the other 14, the initial weights and all
else. ``--part dev`` scores 5 of the remaining 10, which the training does not see, and has 5
unlabelled: choices are made on it. ``--part test`` has 10 unlabelled and scores the test part.

No cell has validation cases: nothing is selected, the last teacher is scored. The training is much
shorter than that of ``train.yaml``, of so many steps as the table says with 2 + 2 patches of half
the side, for a cell must end within minutes on one thread. ``--steps`` begins cells of another
length.

Finished cells are kept in ``benchmarks/results/discs.csv`` and not run again; a cell that was not
run is "not run". Remove the file after a change of settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS, ROOT, draw, photograph, run_missing, test_data, train_and_evaluate
from paired import difference, mean_and_spread
from tables import read_rows, show

CONFIGS = ROOT / "bundles" / "dim_fundus" / "configs"
CSV, TABLE = RESULTS / "discs.csv", RESULTS / "discs.md"
METHODS = ("supervised", "mean_teacher", "midss", "no_sharpness", "no_divergence", "dim")
PARTS = {"dev": 5, "test": 6}
SPLIT_SEED = 20261121
FOUND = 0.5
"""A disc is found if its Dice is above this."""

EPOCHS = 4
SETTINGS = {"labelled_batch": 2, "unlabelled_batch": 2, "roi_size": [128, 128]}
COLUMNS = (
    "part", "labels", "steps", "method", "seed", "domain", "case",
    "dice", "hd95_px", "assd_px", "minutes", "peak_gb",
)  # fmt: skip


def split(data: Path, part: str, labels: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Return the data list of a cell."""
    cases = sorted(path.stem for path in (data / "image").iterdir())
    test, others = draw(cases, PARTS["test"], SPLIT_SEED)
    labelled, others = draw(others, labels, seed)
    scored, unlabelled = (
        (test, others) if part == "test" else (others[: PARTS[part]], others[PARTS[part] :])
    )
    lists = {"labeled": labelled, "unlabeled": unlabelled, "validation": [], "test": scored}
    return {
        name: [photograph(data, case, label=name != "unlabeled", domain="idrid") for case in names]
        for name, names in lists.items()
    }


def run_cell(
    data: Path, part: str, labels: int, steps: int, method: str, seed: int
) -> list[dict[str, Any]]:
    """Train and evaluate one cell; return its rows."""
    length = {"max_epochs": EPOCHS, "steps_per_epoch": steps // EPOCHS}
    lists = split(data, part, labels, seed)
    tasks, settings = ["photographs", "disc"], {**length, **SETTINGS, "seed": seed}
    with train_and_evaluate(CONFIGS, method, tasks, lists, **settings) as trained:
        return [
            {**{key: row[key] for key in COLUMNS if key in row}, **trained.cost}
            for row in trained.scores
        ]


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the Markdown table: every method of every part, labels and steps that were run."""
    lines = [
        "| part | labelled | steps | method | seeds | Dice, ± of seeds | ± of photographs | "
        "minus supervised | found (Dice > 0.5) | scored |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    settings = ("part", "labels", "steps")
    for setting in sorted({tuple(row[key] for key in settings) for row in rows}):
        of_setting = [row for row in rows if tuple(row[key] for key in settings) == setting]
        lines += [_line(setting, method, of_setting) for method in METHODS]
    return lines


def _line(setting: tuple[str, ...], method: str, all_rows: Sequence[dict[str, str]]) -> str:
    rows = [row for row in all_rows if row["method"] == method]
    if not rows:
        return f"| {' | '.join(setting)} | {method} | not run | | | | | |"
    scored = [row for row in rows if row["dice"]]
    baseline = [
        row
        for row in all_rows
        if row["method"] == "supervised" and method != "supervised" and row["dice"]
    ]
    dice = [float(row["dice"]) for row in scored]
    columns = [
        *setting,
        method,
        str(len({row["seed"] for row in rows})),
        mean_and_spread(scored),
        f"{np.std(dice, ddof=1):.3f}",
        difference(scored, baseline),
        f"{sum(value > FOUND for value in dice)} of {len(scored)}",
        f"{len(scored)}/{len(rows)}",
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Run cells or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the cells that have no result yet")
    run.add_argument("--part", choices=PARTS, required=True)
    run.add_argument("--labels", type=int, nargs="+", default=[4])
    run.add_argument("--steps", type=int, default=600)
    run.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "dim"])
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    shown = commands.add_parser("table", help="print the table")
    shown.add_argument("--write", action="store_true", help="write it beside the CSV file, too")
    options = parser.parse_args()
    if options.command == "table":
        show(table(read_rows(CSV)), TABLE if options.write else None)
        return
    if options.steps % EPOCHS:
        parser.error(f"--steps {options.steps} is no multiple of {EPOCHS}")
    data = test_data(parser.error) / "fundus_disc"
    cells = [
        {
            "part": options.part,
            "labels": labels,
            "steps": options.steps,
            "method": method,
            "seed": seed,
        }
        for labels in options.labels
        for seed in options.seeds
        for method in options.methods
    ]
    run_missing(CSV, COLUMNS, cells, lambda **cell: run_cell(data, **cell))


if __name__ == "__main__":
    main()
