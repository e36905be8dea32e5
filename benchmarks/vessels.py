"""Vessels across cameras: labels from one camera, images of both, held-out photographs of both.

    python benchmarks/vessels.py run --source chase_db1 --methods supervised dim
    python benchmarks/vessels.py table --write

Data: ``retina_vessels`` of ``DIM_TEST_DATA``, photographs of two cameras, CHASE_DB1 (both eyes of
14 children) and HRF (42 people). A seed that never changes has drawn 3 children and 6 people, whose
6 + 6 photographs are scored and never trained on. Seed s draws the people of one camera of whom one
photograph each is labelled, the initial weights and all else; all other photographs of both cameras
are unlabelled. The bundle is dim_fundus with ``vessel.yaml``: no code is of this task.

No cell has validation cases: nothing is selected, the last teacher is scored. The training is much
shorter than that of ``train.yaml``, of so many steps as the table says with 2 + 2 patches each, for
a cell must end within minutes on one thread: the numbers compare methods, and say nothing about
how well vessels can be found. ``--steps`` begins cells of another length.

Finished cells are kept in ``benchmarks/results/vessels.csv`` and not run again; a cell that was not
run is "not run". Intervals resample seeds and people; of a single seed they say nothing about
another draw of labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import (
    METHODS,
    RESULTS,
    ROOT,
    difference,
    draw,
    mean_and_spread,
    photograph,
    read_rows,
    run_missing,
    show,
    test_data,
    train_and_evaluate,
)

CONFIGS = ROOT / "bundles" / "dim_fundus" / "configs"
CSV, TABLE = RESULTS / "vessels.csv", RESULTS / "vessels.md"
HELD_OUT = {"chase_db1": 3, "hrf": 6}
SPLIT_SEED = 20261121
EPOCHS = 4
BATCHES = {"labelled_batch": 2, "unlabelled_batch": 2}
COLUMNS = (
    "source", "labels", "steps", "method", "seed", "domain", "case", "person",
    "dice", "hd95_px", "assd_px", "minutes", "peak_gb",
)  # fmt: skip


def person(domain: str, case: str) -> str:
    """Return whose photograph it is: in CHASE_DB1 the last letter of a name tells the eye."""
    return case[:-1] if domain == "chase_db1" else case


def people(data: Path, domain: str) -> dict[str, list[str]]:
    """Return the photographs of each person, sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted((data / domain / "image").iterdir()):
        found.setdefault(person(domain, path.stem), []).append(path.stem)
    return found


def split(data: Path, source: str, labels: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Return the data list of a cell."""
    lists: dict[str, list[dict[str, str]]] = {
        name: [] for name in ("labeled", "unlabeled", "validation", "test")
    }
    for domain, count in HELD_OUT.items():
        photographs = people(data, domain)
        held_out, others = draw(list(photographs), count, SPLIT_SEED)
        chosen = draw(others, labels, seed)[0] if domain == source else []
        for name in held_out:
            lists["test"] += [_entry(data, domain, case, True) for case in photographs[name]]
        for name in others:
            for number, case in enumerate(photographs[name]):
                shown = name in chosen and number == 0
                lists["labeled" if shown else "unlabeled"].append(_entry(data, domain, case, shown))
    return lists


def _entry(data: Path, domain: str, case: str, label: bool) -> dict[str, str]:
    patient = f"{domain}/{person(domain, case)}"
    return photograph(data / domain, case, label=label, domain=domain, patient=patient)


def run_cell(
    data: Path, source: str, labels: int, steps: int, method: str, seed: int
) -> list[dict[str, Any]]:
    """Train and evaluate one cell; return its rows."""
    length = {"max_epochs": EPOCHS, "steps_per_epoch": steps // EPOCHS}
    lists = split(data, source, labels, seed)
    settings = {**length, **BATCHES, "seed": seed}
    with train_and_evaluate(CONFIGS, method, ["vessel"], lists, **settings) as trained:
        return [
            {
                **{key: row[key] for key in COLUMNS if key in row},
                "person": person(row["domain"], row["case"]),
                **trained.cost,
            }
            for row in trained.scores
        ]


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the Markdown table: every method of every source, labels and steps that were run."""
    lines = [
        "| labels from | labelled | steps | method | seeds | Dice, same camera | "
        "minus supervised | Dice, other camera | minus supervised | min | GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    settings = ("source", "labels", "steps")
    for setting in sorted({tuple(row[key] for key in settings) for row in rows}):
        of_setting = [row for row in rows if tuple(row[key] for key in settings) == setting]
        lines += [_line(setting, method, of_setting) for method in METHODS]
    return lines


def _line(setting: tuple[str, ...], method: str, all_rows: Sequence[dict[str, str]]) -> str:
    rows = [row for row in all_rows if row["method"] == method]
    if not rows:
        return f"| {' | '.join(setting)} | {method} | not run | | | | | | |"
    columns = [*setting, method, str(len({row["seed"] for row in rows}))]
    baseline = [r for r in all_rows if r["method"] == "supervised" and method != "supervised"]
    source = setting[0]
    for domain in sorted(HELD_OUT, key=lambda domain: domain != source):
        of_domain, of_baseline = (
            [r for r in part if r["domain"] == domain] for part in (rows, baseline)
        )
        columns += [mean_and_spread(of_domain), difference(of_domain, of_baseline, "person")]
    columns += [f"{np.mean([float(r[key]) for r in rows]):.1f}" for key in ("minutes", "peak_gb")]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Run cells or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the cells that have no result yet")
    run.add_argument("--source", nargs="+", choices=HELD_OUT, default=["chase_db1"])
    run.add_argument("--labels", type=int, nargs="+", default=[2])
    run.add_argument("--steps", type=int, default=200, help=f"a multiple of {EPOCHS}")
    run.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "dim"])
    run.add_argument("--seeds", type=int, nargs="+", default=[0])
    shown = commands.add_parser("table", help="print the table")
    shown.add_argument("--write", action="store_true", help="write it beside the CSV file, too")
    options = parser.parse_args()
    if options.command == "table":
        show(table(read_rows(CSV)), TABLE if options.write else None)
        return
    if options.steps % EPOCHS:
        parser.error(f"--steps {options.steps} is no multiple of {EPOCHS}")
    data = test_data(parser.error) / "retina_vessels"
    cells = [
        {"source": source, "labels": labels, "steps": options.steps, "method": method, "seed": seed}
        for source in options.source
        for labels in options.labels
        for seed in options.seeds
        for method in options.methods
    ]
    run_missing(CSV, COLUMNS, cells, lambda **cell: run_cell(data, **cell))


if __name__ == "__main__":
    main()
