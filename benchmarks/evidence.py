"""What each part of DiM brings, on real images: resumable, cell by cell.

    python benchmarks/evidence.py run --part folds
    python benchmarks/evidence.py run --part test --group ablation --budget-minutes 240
    python benchmarks/evidence.py table --write
    python benchmarks/evidence.py report
    python benchmarks/evidence.py --quick

A cell is one training and one evaluation by a bundle's own commands, at the bundle's own settings
but for what the cell is about. Its setting (R1 and R2: one and two labelled volumes of one protocol
of prostate MRI; vessels: photographs of two cameras, few steps) says whose images are labelled; all
others, of both domains, are unlabelled. The ablation is of what ships. Questions about a part of
DiM are asked of half its steps, and there images in which the teacher finds nothing are trusted
(``trust_empty``), as in MiDSS. Seed s draws the labelled cases, the initial weights and all else,
so methods are paired by seed and case. No cell has validation cases: nothing is selected, the last
teacher is scored.

Choices are made on ``--part folds``, where each seed scores another fold of the training cases. The
test part, drawn once by a seed that never changes, is scored after them (``--part test``).

Cells are run in the order of the questions: the ablation, the same at half the steps, which f and
what is compared, how much is mixed in and which pseudo-labels are trusted, what is perturbed and
how far, what a second pass costs, how many steps and what empty images do, how many labels, which
share of the unlabelled images. Finished ones are kept in ``evidence.csv`` and not run again; one
that was not run is "not run". Every row carries a digest of the settings that made it. A table uses
those of the present settings and says how many rows it left out; to begin again after a change of
settings, just run. A change of code, which the digest does not see, asks for another file
(``--results``).

Intervals resample seeds and patients; with three seeds they are rough, and too narrow rather than
too wide. Sharpness is that of the deployed network. ``evidence_diagnosis.csv`` tells why
pseudo-labels fail: how many are trusted and how many of them are right, in each domain, on
unlabelled training images whose labels no training is shown.

Cells compute on one thread, whatever the environment says, so that a seed repeats on one machine.

``--quick`` runs two tiny cells on synthetic images and writes all files: does everything run?
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cells import RESULTS, ROOT, run_missing, test_data
from evidence_cell import DIAGNOSIS, NAMES, SCORES, run_cell
from evidence_data import PARTS
from evidence_plan import GROUPS, SETTINGS, VARIANTS, Cell, digest, plan, present
from evidence_report import write_report
from evidence_tables import Results, Row, ends_table, evidence_markdown, readme_lines
from mean_step import mean_steps
from tables import add_rows, read_rows, write_between

from dim_monai.data.demo import make_demo

README, METHOD = ROOT / "README.md", ROOT / "docs" / "method.md"
RESULT_MARKS = ("<!-- results:begin -->", "<!-- results:end -->")
ENDS_MARKS = ("<!-- ends:begin -->", "<!-- ends:end -->")
QUICK = ROOT / "benchmarks" / "eval" / "quick"
REAL = tuple(name for name in GROUPS if name != "quick")


def run(
    cells: Sequence[Cell],
    results: Path,
    data: Callable[[str], Path],
    *,
    jobs: int = 1,
    budget_minutes: float = math.inf,
) -> None:
    """Run the cells that have no rows with their present settings.

    Args:
        cells: in their order.
        results: folder of the CSV files.
        data: name of a setting to the folder of its cases.
        jobs: cells at a time.
        budget_minutes: no cell begins later than this.

    Raises:
        RuntimeError: some cells failed, or their settings changed while they ran; or a file has
            other columns, and no cell was begun.
    """
    for name, columns in (("evidence.csv", SCORES), ("evidence_diagnosis.csv", DIAGNOSIS)):
        try:
            add_rows(results / name, columns, [])
        except ValueError as error:
            raise RuntimeError(str(error)) from error
    named: dict[tuple[str, str, str, int], Cell] = {}
    for cell in cells:
        now = present(cell.setting, cell.variant)
        named.setdefault((cell.part, cell.setting, now, cell.seed), cell)

    def run_one(part: str, setting: str, digest: str, seed: int) -> list[dict[str, Any]]:
        key = (part, setting, digest, seed)
        scores, diagnosis = _unchanged(named[key], data(setting), digest)
        rows = [{**dict(zip(NAMES, key, strict=True)), **row} for row in diagnosis]
        add_rows(results / "evidence_diagnosis.csv", DIAGNOSIS, rows)
        return scores

    keys = [dict(zip(NAMES, key, strict=True)) for key in named]
    path = results / "evidence.csv"
    run_missing(path, SCORES, keys, run_one, jobs=jobs, budget_minutes=budget_minutes)


def _unchanged(cell: Cell, data: Path, planned: str) -> tuple[list[Any], list[Any]]:
    setting, variant = SETTINGS[cell.setting], VARIANTS[cell.variant]
    if digest(setting, variant) != planned:
        raise RuntimeError("the settings changed since the cell was planned; begin again")
    rows = run_cell(cell, setting, variant, data)
    if digest(setting, variant) != planned:
        raise RuntimeError("the settings changed while the cell ran; nothing of it is kept")
    return rows


def load(results: Path) -> tuple[Results, list[Row]]:
    """Return what the cells and ``speed.py`` left, and the last diagnosis of each domain."""
    milliseconds = {
        row["row"]: float(row["ms"])
        for row in read_rows(results / "speed_bundle.csv")
        if row["device"] == "cpu" and row["ms"]
    }
    found = read_rows(results / "evidence_diagnosis.csv")
    last = {tuple(row[name] for name in (*NAMES, "domain")): row for row in found}
    rows = read_rows(results / "evidence.csv")
    return Results(rows, mean_steps(milliseconds)), list(last.values())


def write_tables(results: Path, groups: Sequence[str]) -> str:
    """Write ``evidence.md`` and return its text."""
    text = evidence_markdown(*load(results), groups)
    results.mkdir(parents=True, exist_ok=True)
    (results / "evidence.md").write_text(text, encoding="utf-8")
    return text


def quick(results: Path) -> None:
    """Run two tiny cells on synthetic images, then write tables and report."""
    cells = plan("test", [0], groups=["quick"], variants=["supervised", "dim"])
    run(cells, results, lambda _: make_demo(results / "data"))
    sys.stdout.write(write_tables(results, ["quick"]))
    write_report(results, *load(results), ["quick"], __doc__ or "")


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two tiny cells, tables and report")
    parser.add_argument("--results", type=Path, help="folder of the files")
    commands = parser.add_subparsers(dest="command")
    cells = commands.add_parser("run", help="run the cells that have no result yet")
    cells.add_argument("--group", nargs="+", choices=REAL, help="default: all, in this order")
    cells.add_argument("--setting", nargs="+", choices=SETTINGS, help="default: the group's")
    cells.add_argument("--part", choices=PARTS, default="folds")
    cells.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    cells.add_argument("--methods", nargs="+", choices=VARIANTS, metavar="NAME")
    cells.add_argument("--budget-minutes", type=float, default=math.inf, help="of beginning cells")
    cells.add_argument("--jobs", type=int, default=1, help="cells at a time")
    table = commands.add_parser("table", help="write and print the tables")
    table.add_argument("--write", action="store_true", help="those of README and method.md, too")
    commands.add_parser("report", help="write the page and its figures")
    options = parser.parse_args(argv)
    if options.quick == bool(options.command):
        parser.error("either --quick or one of run, table and report")
    return parser, options


def main(argv: Sequence[str] | None = None) -> int:
    """Run cells, or show what they found; return the exit status."""
    parser, options = parse(argv)
    results = options.results or (QUICK if options.quick else RESULTS)
    if options.quick:
        quick(results)
    elif options.command == "run":
        cells = plan(
            options.part,
            options.seeds,
            groups=options.group,
            settings=options.setting,
            variants=options.methods,
        )
        if not cells:
            parser.error("no group compares these methods in these settings")
        images = test_data(parser.error)
        budget = options.budget_minutes
        try:
            run(
                cells,
                results,
                lambda setting: images / SETTINGS[setting].folder,
                jobs=options.jobs,
                budget_minutes=budget,
            )
        except RuntimeError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    elif options.command == "table":
        sys.stdout.write(write_tables(results, REAL))
        if options.write:
            loaded, diagnosis = load(results)
            write_between(README, *RESULT_MARKS, readme_lines(loaded, diagnosis))
            write_between(METHOD, *ENDS_MARKS, ends_table(diagnosis).markdown)
    else:
        sys.stdout.write(f"{write_report(results, *load(results), REAL, __doc__ or '')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
