"""Train the weights that come with a bundle, score them, and put them into it: ``make weights``.

    python scripts/train_weights.py dim_prostate --data DIR
    python scripts/train_weights.py dim_fundus
    python scripts/train_weights.py dim_prostate --install

The first two prepare the data, train and score in ``build/weights/BUNDLE``, by the commands of any
user. ``--overlay methods/supervised.yaml`` trains something else, into a folder of its own, to
compare with. ``--install`` puts what DiM left there into the bundle: ``models/model.pt`` and
``models/pretrained.safetensors`` with their hashes, the scores of ``docs/data_card.md``, and
``eval_metrics`` of the metadata.

DIR holds ``rumc_320`` and ``rumc_384``: the T2-weighted volumes of Prostate-3T with the labels of
NCI-ISBI 2013 and one of PROSTATEx, which TCIA publishes, as ``<case>_t2.nii.gz`` with
``<case>_seg.nii.gz``; docs/data_card.md says how they were prepared. The photographs of dim_fundus
are drawn by the program.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dim_monai.data.demo import make_demo
from dim_monai.files import atomic_write
from dim_monai.model_files import read_model, save_model

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "weights"
BEGIN, END = "<!-- scores:begin -->", "<!-- scores:end -->"
TEST = "test"
LISTS = {
    "Labelled": "labeled",
    "Unlabelled": "unlabeled",
    "Validation, which chose the network": "validation",
    "Test, never used": "test",
}


@dataclass(frozen=True)
class Recipe:
    """How the weights of a bundle are made.

    Attributes:
        prepare: options of ``dim-monai prepare``; None for the demo set of `kind`.
        kind: of the cases.
        settings: of the training.
        distance: the column of distances that is shown, and its unit.
    """

    prepare: tuple[str, ...] | None
    kind: str
    settings: Mapping[str, object]
    distance: tuple[str, str]


RECIPES = {
    "dim_prostate": Recipe(
        ("--labeled", "12", "--test-fraction", "0.25"), "volume", {"max_epochs": 80},
        ("hd95_mm", "mm"),
    ),
    "dim_fundus": Recipe(None, "photograph", {"max_epochs": 6}, ("hd95_px", "px")),
}  # fmt: skip


def make(name: str, source: Path | None, overlays: Sequence[str]) -> None:
    """Prepare the data, train and score; what is there already is not made again."""
    recipe, data, output = RECIPES[name], WORK / name / "data", _output(name, overlays)
    if recipe.prepare is None:
        make_demo(data, kind=recipe.kind)
    elif not (data / "datalist.json").is_file():
        if source is None:
            raise SystemExit(f"{name} needs --data")
        _run("-m", "dim_monai.cli", "prepare", str(source), "--out", str(data), *recipe.prepare)
    configs = ROOT / "bundles" / name / "configs"
    files = [configs / "train.yaml", *(configs / overlay for overlay in overlays)]
    places = {"dataset_dir": data, "output_dir": output, "model_file": output / "model.pt"}
    _run_bundle(["training"], files, {**places, **recipe.settings})
    _run_bundle([], [*files, configs / "evaluate.yaml"], {**places, **recipe.settings})
    sys.stdout.write(score_table(output / "metrics.csv", recipe.distance) + "\n")


def install(name: str) -> None:
    """Put the weights and scores of DiM into the bundle."""
    recipe, output, bundle = RECIPES[name], _output(name, ()), ROOT / "bundles" / name
    weights, models = read_model(output / "model.pt"), bundle / "models"
    models.mkdir(exist_ok=True)
    for model in ("model.pt", "pretrained.safetensors"):
        save_model(models / model, weights)
    # The same tensors twice are enough: one file for MONAI Label, one that no training replaces.
    for twin, hashes in (("model.safetensors", "model"), ("pretrained.pt", "pretrained")):
        (models / twin).unlink()
        _drop_line(models / f"{hashes}.sha256", twin)
    card = bundle / "docs" / "data_card.md"
    before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
    table = score_table(output / "metrics.csv", recipe.distance)
    lists = case_lists(output / "datalist.json")
    after = rest.partition(END)[2]
    with atomic_write(card, "w") as file:
        file.write(f"{before}{BEGIN}\n{table}\n\n{lists}\n{END}{after}")
    metadata = bundle / "configs" / "metadata.json"
    means = {
        f"dice_{domain}_{class_}".replace(" ", "_"): round(statistics.mean(values), 3)
        for (split, domain, class_), values in _column(output / "metrics.csv", "dice").items()
        if split == TEST
    }
    stated = json.dumps(means, indent=8).replace("\n}", "\n    }")
    text = metadata.read_text(encoding="utf-8")
    with atomic_write(metadata, "w") as file:  # the rest stays as its author laid it out
        file.write(re.sub(r'(?<="eval_metrics": )\{[^}]*\}', stated, text))
    shutil.copyfile(output / "metrics.csv", ROOT / "benchmarks/results" / f"weights_{name}.csv")


def score_table(metrics: Path, distance: tuple[str, str]) -> str:
    """Return the scores of validation and test cases by domain and class, as Markdown."""
    column, unit = distance
    dice, far = _column(metrics, "dice"), _column(metrics, column)
    lines = [
        f"| cases | domain | class | n | Dice | lowest | HD95 [{unit}] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, values in sorted(dice.items()):
        cells = [*key, str(len(values)), _spread(values, 3), f"{min(values):.3f}"]
        lines.append(f"| {' | '.join([*cells, _spread(far.get(key, []), 1)])} |")
    return "\n".join(lines)


def case_lists(datalist: Path) -> str:
    """Return which case stands in which list, as Markdown."""
    lists = json.loads(datalist.read_text(encoding="utf-8"))
    lines = []
    for title, key in LISTS.items():
        by_domain: dict[str, list[str]] = {}
        for entry in lists[key]:
            by_domain.setdefault(entry["domain"], []).append(entry["case"])
        cases = "; ".join(f"{domain} {', '.join(names)}" for domain, names in by_domain.items())
        lines.append(f"- {title} ({len(lists[key])}): {cases}.")
    return "\n".join(lines)


def _column(metrics: Path, name: str) -> dict[tuple[str, str, str], list[float]]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in _rows(metrics):
        if row[name]:
            key = (row["split"], row["domain"], row["class"])
            found.setdefault(key, []).append(float(row[name]))
    return found


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _drop_line(hashes: Path, name: str) -> None:
    lines = hashes.read_text(encoding="utf-8").splitlines(keepends=True)
    with atomic_write(hashes, "w") as file:
        file.write("".join(line for line in lines if not line.rstrip().endswith(name)))


def _output(name: str, overlays: Sequence[str]) -> Path:
    return WORK / name / ("-".join(Path(overlay).stem for overlay in overlays) or "dim")


def _run_bundle(ids: Sequence[str], files: Sequence[Path], settings: Mapping[str, object]) -> None:
    names = [str(file) for file in files]
    words = ["-m", "monai.bundle", "run", *ids]
    words += ["--config_file", names[0] if len(names) == 1 else str(names)]
    _run(*words, *(part for key, value in settings.items() for part in (f"--{key}", str(value))))


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, env=os.environ)  # noqa: S603


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", choices=RECIPES)
    parser.add_argument("--data", type=Path, help="folder of the volumes")
    parser.add_argument(
        "--overlay", nargs="*", default=[], help="names of overlays to compare with"
    )
    parser.add_argument("--install", action="store_true", help="put what was trained in place")
    options = parser.parse_args()
    if options.install:
        install(options.bundle)
    else:
        make(options.bundle, options.data, options.overlay)


if __name__ == "__main__":
    main()
