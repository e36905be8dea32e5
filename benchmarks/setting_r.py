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
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "dim_prostate" / "configs"
RESULTS = ROOT / "benchmarks" / "results" / "setting_r.csv"
README = ROOT / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

T2 = "_t2.nii.gz"
SOURCE, OTHER = "rumc_320", "rumc_384"
HELD_OUT = {SOURCE: 5, OTHER: 2}
SPLIT_SEED = 20261121
METHODS = ("supervised", "mean_teacher", "midss", "no_sharpness", "no_divergence", "dim")
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


def draw(cases: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return ``count`` cases drawn by ``seed`` and the others."""
    order = random.Random(seed).sample(list(cases), len(cases))  # noqa: S311
    return order[:count], order[count:]


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


def bundle_command(run_id: str, configs: Iterable[Path], **overrides: object) -> list[str]:
    """Return the command line of one bundle run."""
    files = [str(config) for config in configs]
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [run_id] if run_id else []
    command += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    return command


def run_cell(data: Path, part: str, labels: int, method: str, seed: int) -> list[dict[str, Any]]:
    """Train, evaluate and measure one cell; return its rows."""
    train = [CONFIGS / "train.yaml"]
    if method != "dim":
        train.append(CONFIGS / "methods" / f"{method}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        dataset, output = Path(folder, "data"), Path(folder, "out")
        dataset.mkdir()
        lists = split(data, part, labels, seed)
        (dataset / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
        settings = {
            "dataset_dir": dataset,
            "output_dir": output,
            "model_file": output / "model.pt",
            "seed": seed,
        }
        start = time.perf_counter()
        peak_gb = _call(bundle_command("training", train, **settings))
        minutes = (time.perf_counter() - start) / 60
        _call(bundle_command("", [*train, CONFIGS / "evaluate.yaml"], **settings))
        sharp = _sharpness(output / "model.pt", lists["test"])
        with (output / "metrics.csv").open(encoding="utf-8", newline="") as file:
            scores = [row for row in csv.DictReader(file) if row["split"] == "test"]
    cell = {"part": part, "labels": labels, "method": method, "seed": seed}
    measured = {**sharp, "minutes": round(minutes, 2), "peak_gb": round(peak_gb, 2)}
    return [
        {**cell, **{key: row[key] for key in COLUMNS if key in row}, **measured} for row in scores
    ]


def _call(command: list[str]) -> float:
    """Run a command to its end and return its peak memory in GB."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)}\n{output.read()[-4000:]}")
    return usage.ru_maxrss / 2**20


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


def read_results() -> list[dict[str, str]]:
    """Return all rows measured so far."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append_results(rows: Sequence[dict[str, Any]]) -> None:
    """Add the rows of a cell."""
    new = not RESULTS.is_file()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def dice_of(rows: Iterable[dict[str, str]]) -> dict[tuple[int, str], float]:
    """Return the Dice of each (seed, case)."""
    return {(int(r["seed"]), f"{r['domain']}/{r['case']}"): float(r["dice"]) for r in rows}


def paired_interval(a: dict[Any, float], b: dict[Any, float]) -> tuple[float, float, float]:
    """Return the mean of a - b over common (seed, case) and its 95 % bootstrap interval.

    Seeds and cases are resampled independently, since a case is hard or easy for every seed and a
    labelled volume good or bad for every case.
    """
    common = sorted(a.keys() & b.keys())
    seeds = sorted({seed for seed, _ in common})
    cases = {seed: [case for s, case in common if s == seed] for seed in seeds}
    generator = np.random.default_rng(0)
    means = []
    for _ in range(4000):
        drawn = generator.choice(seeds, len(seeds))
        place = generator.random(max(len(c) for c in cases.values()))
        pairs = [(s, cases[s][int(u * len(cases[s]))]) for s in drawn for u in place]
        means.append(np.mean([a[pair] - b[pair] for pair in pairs]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([a[k] - b[k] for k in common])), float(low), float(high)


def table(rows: Sequence[dict[str, str]], part: str) -> list[str]:
    """Return the Markdown table of a part."""
    lines = [
        "| labels | method | seeds | Dice rumc_320 | minus supervised | Dice rumc_384 | "
        "minus supervised | both, minus supervised | sharpness SAM / ASAM | min | GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
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
        return f"| {labels} | {method} | not run | | | | | | | | |"
    seeds = sorted({r["seed"] for r in rows})
    columns = [labels, method, str(len(seeds))]
    for domain in HELD_OUT:
        of_domain = [r for r in rows if r["domain"] == domain]
        of_seed = [
            np.mean([float(r["dice"]) for r in of_domain if r["seed"] == seed]) for seed in seeds
        ]
        spread = f" ± {np.std(of_seed, ddof=1):.3f}" if len(seeds) > 1 else ""
        baseline = [r for r in cells["supervised"] if r["domain"] == domain]
        columns += [f"{np.mean(of_seed):.3f}{spread}", _versus(method, of_domain, baseline)]
    columns.append(_versus(method, rows, cells["supervised"]))
    for key in ("sharpness_sam", "sharpness_asam", "minutes", "peak_gb"):
        columns.append(f"{np.mean([float(r[key]) for r in rows]):.3f}")
    sam, asam, minutes, peak_gb = columns[-4:]
    columns[-4:] = [f"{sam} / {asam}", f"{float(minutes):.1f}", f"{float(peak_gb):.1f}"]
    return f"| {' | '.join(columns)} |"


def _versus(method: str, rows: list[dict[str, str]], baseline: list[dict[str, str]]) -> str:
    if method == "supervised" or not baseline:
        return ""
    mean, low, high = paired_interval(dice_of(rows), dice_of(baseline))
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


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
        rows = read_results()
        for part in ("folds", "test"):
            sys.stdout.write("\n".join([f"part: {part}", *table(rows, part), "", ""]))
        if options.write:
            write_readme(table(rows, "test"))
        return
    if "DIM_TEST_DATA" not in os.environ:
        parser.error("DIM_TEST_DATA is not set: it names the folder of the real volumes")
    data = Path(os.environ["DIM_TEST_DATA"]).resolve() / "prostate_t2"
    for labels in options.labels:
        for seed in options.seeds:
            for method in options.methods:
                cell = (options.part, str(labels), method, str(seed))
                done = {(r["part"], r["labels"], r["method"], r["seed"]) for r in read_results()}
                if cell not in done:
                    append_results(run_cell(data, options.part, labels, method, seed))
                    sys.stdout.write(f"{cell} done\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
