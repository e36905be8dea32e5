"""Train the weights that come with a bundle, score them, and put them into it: ``make weights``.

    python benchmarks/weights.py dim_prostate --data DIR
    python benchmarks/weights.py dim_fundus
    python benchmarks/weights.py dim_prostate --install

The first two prepare the data, train and score in ``build/weights/BUNDLE``, by the commands of any
user. ``--overlay methods/supervised.yaml`` trains something else, into a folder of its own, to
compare with, and so does ``--set learning_rate=0.003``. ``--install`` puts what DiM left there into
the bundle: ``models/model.pt`` and ``models/pretrained.safetensors`` with their hashes, the scores
of ``docs/data_card.md`` and ``docs/README.md``, and ``eval_metrics`` of the metadata.

DIR holds ``rumc_320`` and ``rumc_384``: the T2-weighted volumes of Prostate-3T with the labels of
NCI-ISBI 2013 and one of PROSTATEx, which TCIA publishes, as ``<case>_t2.nii.gz`` with
``<case>_seg.nii.gz``; bundles/dim_prostate/docs/data_card.md says how they were prepared. The
photographs of dim_fundus are drawn by the program.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cells import MODEL, ONE_THREAD, ROOT
from tables import write_between

from dim_monai.bundle import bundle_command
from dim_monai.data.datalist import DATALIST_NAME
from dim_monai.data.demo import make_demo
from dim_monai.data.prepare.publish import sha256_of
from dim_monai.files import atomic_write
from dim_monai.metrics import MEAN_OF_DOMAINS, ScoreRow, Summary, summarise
from dim_monai.model_files import read_model
from dim_monai.report.scores import read_scores_csv

WORK = ROOT / "build" / "weights"
BEGIN, END = "<!-- scores:begin -->", "<!-- scores:end -->"
TEST, VALIDATION = "test", "validation"
LISTS = {
    "Labelled": "labeled",
    "Unlabelled": "unlabeled",
    "Validation, which chose the network": VALIDATION,
    "Test, in no training of these weights": TEST,
}
SHIPPED = {MODEL: MODEL, "model.safetensors": "pretrained.safetensors"}
"""What a training leaves -> what ships: one for MONAI Label, one that no training replaces."""


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
        ("--labeled", "12", "--test-fraction", "0.25"), "volume",
        {"max_epochs": 160, "trust_empty": True}, ("hd95_mm", "mm"),
    ),
    "dim_fundus": Recipe(None, "photograph", {"max_epochs": 6}, ("hd95_px", "px")),
}  # fmt: skip


def make(
    name: str, source: Path | None, overlays: Sequence[str], changed: Mapping[str, object]
) -> None:
    """Prepare the data, train and score; data that are there already are not made again.

    Args:
        name: of the bundle.
        source: folder of the volumes; None where the data are there or are drawn.
        overlays: names of configs that are merged into ``train.yaml``.
        changed: settings that differ from the recipe, or are not in it.
    """
    recipe, data, output = RECIPES[name], WORK / name / "data", output_of(name, overlays, changed)
    if recipe.prepare is None:
        make_demo(data, kind=recipe.kind)
    elif not (data / DATALIST_NAME).is_file():
        if source is None:
            raise SystemExit(f"{name} needs --data")
        command = [sys.executable, "-m", "dim_monai.cli", "prepare", str(source), "--out"]
        subprocess.run([*command, str(data), *recipe.prepare], check=True)  # noqa: S603
    configs = ROOT / "bundles" / name / "configs"
    files = [configs / file for file in ("train.yaml", *overlays)]
    places = {"dataset_dir": data, "output_dir": output, "model_file": output / MODEL}
    settings = {**places, **recipe.settings, **changed}
    for run_id, used in (("training", files), ("", [*files, configs / "evaluate.yaml"])):
        command = bundle_command(run_id, used, settings)
        subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True)  # noqa: S603
    rows = read_scores_csv(output / "metrics.csv")
    sys.stdout.write("\n".join([*score_table(rows, recipe.distance), ""]))


def install(name: str) -> None:
    """Put the weights and scores of DiM into the bundle."""
    recipe, output, bundle = RECIPES[name], output_of(name), ROOT / "bundles" / name
    models = bundle / "models"
    models.mkdir(exist_ok=True)
    for source, target in SHIPPED.items():
        read_model(output / source)  # refuses what is not what the training wrote
        shutil.copyfile(output / source, models / target)
        with atomic_write((models / target).with_suffix(".sha256"), "w") as file:
            file.write(f"{sha256_of([models / target])}  {target}\n")
    rows = read_scores_csv(output / "metrics.csv")
    told = [*score_table(rows, recipe.distance), "", *case_lists(output / DATALIST_NAME)]
    write_between(bundle / "docs" / "data_card.md", BEGIN, END, told)
    write_performance(bundle, rows, recipe.distance)
    means = {
        f"dice_{mean.domain}_{mean.class_name}".replace(" ", "_"): round(mean.mean["dice"] or 0, 3)
        for mean in _summaries(rows, TEST)
    }
    stated = json.dumps(means, indent=8).replace("\n}", "\n    }")
    metadata = bundle / "configs" / "metadata.json"
    text = metadata.read_text(encoding="utf-8")
    with atomic_write(metadata, "w") as file:  # the rest stays as its author laid it out
        file.write(re.sub(r'(?<="eval_metrics": )\{[^}]*\}', stated, text))
    shutil.copyfile(output / "metrics.csv", ROOT / "benchmarks/results" / f"weights_{name}.csv")


def write_performance(bundle: Path, rows: Sequence[ScoreRow], distance: tuple[str, str]) -> None:
    """Write the scores of the test cases into the README of a bundle."""
    write_between(bundle / "docs" / "README.md", BEGIN, END, score_table(rows, distance, (TEST,)))


def score_table(
    rows: Sequence[ScoreRow],
    distance: tuple[str, str],
    splits: Sequence[str] = (TEST, VALIDATION),
) -> list[str]:
    """Return the scores of some lists of cases by domain and class, as Markdown."""
    column, unit = distance
    lines = [
        f"| cases | domain | class | n | Dice | lowest | HD95 [{unit}] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for split in splits:
        for mean in _summaries(rows, split):
            lowest = min(
                row.score.dice
                for row in rows
                if (row.split, row.domain) == (split, mean.domain)
                and row.score.class_name == mean.class_name
                and row.score.dice is not None
            )
            scores = [_spread(mean, "dice", 3), f"{lowest:.3f}", _spread(mean, column, 1)]
            cells = [split, mean.domain, mean.class_name, str(mean.n_scored), *scores]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def case_lists(datalist: Path) -> list[str]:
    """Return which case stands in which list, as Markdown."""
    lists = json.loads(datalist.read_text(encoding="utf-8"))
    lines = []
    for title, key in LISTS.items():
        by_domain: dict[str, list[str]] = {}
        for entry in lists[key]:
            by_domain.setdefault(entry["domain"], []).append(entry["case"])
        cases = "; ".join(f"{domain} {', '.join(names)}" for domain, names in by_domain.items())
        lines.append(f"- {title} ({len(lists[key])}): {cases}.")
    return lines


def _summaries(rows: Sequence[ScoreRow], split: str) -> Iterator[Summary]:
    found = summarise(row for row in rows if row.split == split)
    yield from sorted(
        (mean for mean in found if mean.domain != MEAN_OF_DOMAINS and mean.n_scored),
        key=lambda mean: (mean.domain, mean.class_name),
    )


def _spread(summary: Summary, score: str, digits: int) -> str:
    mean, std = summary.mean[score], summary.std[score]
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")


def output_of(
    name: str, overlays: Sequence[str] = (), changed: Mapping[str, object] | None = None
) -> Path:
    """Return the folder of a training; whatever differs from the recipe is in its name."""
    words = [Path(overlay).stem for overlay in overlays]
    words += [re.sub(r"[^\w.+-]+", "_", f"{key}={value}") for key, value in (changed or {}).items()]
    return WORK / name / ("-".join(words) or "dim")


def setting(text: str) -> tuple[str, object]:
    """Return the key and the value of ``KEY=VALUE``; what is no literal of Python is text.

    Raises:
        argparse.ArgumentTypeError: there is no key or no value.
    """
    key, _, value = text.partition("=")
    if not key or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", choices=RECIPES)
    parser.add_argument("--data", type=Path, help="folder of the volumes")
    parser.add_argument(
        "--overlay", nargs="*", default=[], help="names of overlays to compare with"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        type=setting,
        metavar="KEY=VALUE",
        help="settings that differ from the recipe, to compare with",
    )
    parser.add_argument("--install", action="store_true", help="put what was trained in place")
    options = parser.parse_args(argv)
    if not options.install:
        make(options.bundle, options.data, options.overlay, dict(options.set))
    elif options.overlay or options.set:
        parser.error("--install takes what the recipe trains: no --overlay and no --set")
    else:
        install(options.bundle)


if __name__ == "__main__":
    main()
