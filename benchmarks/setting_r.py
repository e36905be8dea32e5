"""Setting R: one or two labelled volumes of one scanner protocol, the rest unlabelled, real T2 MRI.

    python benchmarks/setting_r.py run --part folds --labels 1 --methods supervised dim
    python benchmarks/setting_r.py run --part test  --labels 1 --methods supervised dim no_sharpness
    python benchmarks/setting_r.py table --write

Data: ``prostate_t2`` of ``DIM_TEST_DATA`` (Prostate-3T and PROSTATEx, whole gland). A fixed test
part, 5 volumes of ``rumc_320`` and 2 of ``rumc_384``, was drawn once by a seed and is scored only
after every choice is made (``--part test``). Choices are made on folds of the rest
(``--part folds``): 5 + 2 volumes are scored, the others train. Labels come from ``rumc_320`` alone.
No cell has validation cases: nothing is selected, the last teacher is scored, at the full length of
``train.yaml`` and with its augmentation for every method. Seed s draws the labelled volumes, the
initial weights and all else; methods are paired by seed and case.

A cell is one training and one evaluation by the bundle's own commands. Finished cells are kept in
``benchmarks/results/setting_r.csv`` and not run again; a cell that was not run is "not run". Remove
the file after a change of settings: rows of two configurations cannot be compared. The test part
has been scored once with settings that do not ship; their rows were removed.

Sharpness is that of the deployed network, the teacher. Intervals resample seeds and cases; with
three seeds they are rough, and too narrow rather than too wide.
"""

from __future__ import annotations

import argparse
import sys
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
    read_rows,
    run_missing,
    test_data,
    train_and_evaluate,
)

CONFIGS = ROOT / "bundles" / "dim_prostate" / "configs"
TABLE = RESULTS / "setting_r.csv"
README = ROOT / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

T2 = "_t2.nii.gz"
SOURCE, OTHER = "rumc_320", "rumc_384"
HELD_OUT = {SOURCE: 5, OTHER: 2}
SPLIT_SEED = 20261121
COLUMNS = (
    "part", "labels", "method", "seed", "domain", "case", "dice", "hd95_mm", "assd_mm",
    "sharpness_sam", "sharpness_asam", "minutes", "peak_gb",
)  # fmt: skip


def volumes(data: Path) -> dict[str, list[str]]:
    """Return the cases of each protocol, sorted."""
    return {
        domain: sorted(
            p.name.removesuffix("_t2.nii.gz") for p in (data / domain).glob("*_t2.nii.gz")
        )
        for domain in HELD_OUT
    }


def split(data: Path, part: str, labels: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Return the data list of a cell; its ``test`` is the fold's or the fixed test part."""
    scored, pool = {}, {}
    for domain, cases in volumes(data).items():
        scored[domain], pool[domain] = draw(cases, HELD_OUT[domain], SPLIT_SEED)
        if part == "folds":
            scored[domain], pool[domain] = draw(pool[domain], HELD_OUT[domain], seed)
    labelled, rest = draw(pool[SOURCE], labels, seed + 1000)

    def entry(domain: str, case: str, label: bool) -> dict[str, str]:
        files = {"image": str(data / domain / f"{case}{T2}")}
        if label:
            files["label"] = str(data / domain / f"{case}_seg.nii.gz")
        return {**files, "domain": domain, "case": case, "patient": f"{domain}/{case}"}

    return {
        "labeled": [entry(SOURCE, case, True) for case in labelled],
        "unlabeled": [entry(SOURCE, case, False) for case in rest]
        + [entry(OTHER, case, False) for case in pool[OTHER]],
        "validation": [],
        "test": [entry(domain, case, True) for domain, cases in scored.items() for case in cases],
    }


def run_cell(data: Path, part: str, labels: int, method: str, seed: int) -> list[dict[str, Any]]:
    """Train, evaluate and measure one cell; return its rows."""
    lists = split(data, part, labels, seed)
    with train_and_evaluate(CONFIGS, method, [], lists, seed=seed) as trained:
        measured = {**_sharpness(trained.model, lists["test"]), **trained.cost}
    return [
        {**{key: row[key] for key in COLUMNS if key in row}, **measured} for row in trained.scores
    ]


def _sharpness(model: Path, cases: Sequence[dict[str, str]]) -> dict[str, float]:
    """Return L(w + eps) - L(w) on the scored cases' gland slices, by SAM's and ASAM's definition.

    Evaluation mode, one batch of every slice that shows the gland; rho 0.05 for SAM and 0.5 for
    ASAM, the customary values (Foret et al., 2021; Kwon et al., 2021).
    """
    import torch
    from monai.bundle import ConfigParser

    from dim_monai.objectives import segmentation_loss
    from dim_monai.sharpness import sharpness

    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.yaml"))
    parser["bundle_root"] = str(CONFIGS.parent)
    transform = parser.get_parsed_content("train::preprocessing")
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(model, map_location="cpu", weights_only=True))
    images, labels = [], []
    for case in cases:
        item = transform(dict(case))
        shown = item["label"].as_tensor().flatten(0, 2).amax(dim=0) > 0
        images.append(item["image"].as_tensor()[..., shown].movedim(-1, 0))
        labels.append(item["label"].as_tensor()[..., shown].movedim(-1, 0).long())
    image, label = torch.cat(images), torch.cat(labels)
    weights = list(network.parameters())

    def loss() -> torch.Tensor:
        return segmentation_loss(network(image), label).mean()

    return {
        "sharpness_sam": round(sharpness(loss, weights, rule="sam", rho=0.05), 5),
        "sharpness_asam": round(sharpness(loss, weights, rule="asam", rho=0.5), 5),
    }


def table(rows: Sequence[dict[str, str]], part: str) -> list[str]:
    """Return the Markdown table of a part."""
    lines = [
        "| labels | method | seeds | Dice rumc_320 | minus supervised | Dice rumc_384 | "
        "minus supervised | both, minus supervised | sharpness SAM / ASAM | GB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for labels in sorted({r["labels"] for r in rows if r["part"] == part}):
        cells = {
            method: [
                r for r in rows
                if (r["part"], r["labels"], r["method"]) == (part, labels, method)
            ]
            for method in METHODS
        }  # fmt: skip
        lines += [_line(labels, method, cells) for method in METHODS]
    return lines


def _line(labels: str, method: str, cells: dict[str, list[dict[str, str]]]) -> str:
    rows = cells[method]
    if not rows:
        return f"| {labels} | {method} | not run | | | | | | | |"
    baseline = cells["supervised"] if method != "supervised" else []
    columns = [labels, method, str(len({r["seed"] for r in rows}))]
    for domain in HELD_OUT:
        of_domain, of_baseline = (
            [r for r in part if r["domain"] == domain] for part in (rows, baseline)
        )
        columns += [mean_and_spread(of_domain), difference(of_domain, of_baseline)]
    columns.append(difference(rows, baseline))
    # Minutes are kept, too, but not shown: cells share their machine, see cost.py for times.
    sam, asam, peak_gb = (
        np.mean([float(r[key]) for r in rows])
        for key in ("sharpness_sam", "sharpness_asam", "peak_gb")
    )
    columns += [f"{sam:.3f} / {asam:.3f}", f"{peak_gb:.1f}"]
    return f"| {' | '.join(columns)} |"


def write_readme(lines: Sequence[str]) -> None:
    """Put the table between the markers of the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    content = "\n".join([BEGIN, "", *lines, "", END])
    README.write_text(f"{before}{content}{after}", encoding="utf-8")


def main() -> None:
    """Run cells or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the cells that have no result yet")
    run.add_argument("--part", choices=("folds", "test"), required=True)
    run.add_argument("--labels", type=int, nargs="+", default=[1])
    run.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "dim"])
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    show = commands.add_parser("table", help="print the tables")
    show.add_argument("--write", action="store_true", help="put the test table into the README")
    options = parser.parse_args()
    if options.command == "table":
        rows = read_rows(TABLE)
        for part in ("folds", "test"):
            sys.stdout.write("\n".join([f"part: {part}", *table(rows, part), "", ""]))
        if options.write:
            write_readme(table(rows, "test"))
        return
    data = test_data(parser.error) / "prostate_t2"
    cells = [
        {"part": options.part, "labels": labels, "method": method, "seed": seed}
        for labels in options.labels
        for seed in options.seeds
        for method in options.methods
    ]
    run_missing(TABLE, COLUMNS, cells, lambda **cell: run_cell(data, **cell))


if __name__ == "__main__":
    main()
