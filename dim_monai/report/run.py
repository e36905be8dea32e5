"""The report of a run, from what the run left in its output folder."""

from __future__ import annotations

import csv
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import monai
import torch

import dim_monai
from dim_monai.data.datalist import DATALIST_NAME, Datalist, load_saved_datalist
from dim_monai.data.source import CONFIG_FILE
from dim_monai.data.trained import RUN_FILE
from dim_monai.metrics import ScoreRow
from dim_monai.report.figures import Curve
from dim_monai.report.page import Report, write_report
from dim_monai.report.settings import told_settings
from dim_monai.report.tables import tables

T = TypeVar("T")

LOG_FILE = "training_log.csv"


@dataclass(frozen=True)
class Scored:
    """The data list whose cases were scored, and the network: not always those of the training.

    Args:
        source: how the list was obtained, in words.
        notes: what a reader of the results must know about it.
        weights_sha256: digest of the weights of the network, "" if unknown.
    """

    source: str
    notes: tuple[str, ...] = ()
    weights_sha256: str = ""


NOT_TOLD = Scored("not told")


def write_run_report(
    output_dir: str | Path,
    rows: Sequence[ScoreRow] = (),
    pictures: Sequence[tuple[str, bytes]] = (),
    scored: Scored = NOT_TOLD,
) -> None:
    """Write ``report.html`` into the output folder of a run.

    What the folder holds of split, settings, training log and choice of the network is shown; what
    it does not hold is left out. The lists of the training and those that were scored are told
    apart.

    Args:
        output_dir: folder of the run.
        rows: the scores of the cases that were evaluated, if any were.
        pictures: (caption, PNG) pairs.
        scored: where the cases of `rows` come from, and of which network they are.
    """
    output_dir = Path(output_dir)
    facts: dict[str, object] = {}
    trained = _trained_list(output_dir)
    if trained is not None:
        facts["lists of the training"] = {"split": trained.source, **_sizes(trained)}
    if rows:
        network = {"SHA-256 of the weights": scored.weights_sha256 or "not known"}
        facts["what was scored"] = {"split": scored.source, **_scored(rows), **network}
    run = _read_json(output_dir / RUN_FILE)
    validation: dict[str, Curve] = run.pop("validation", {})
    facts |= _in_words(run)
    facts["versions"] = {
        "dim_monai": dim_monai.__version__,
        "MONAI": monai.__version__,
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
    }
    log = read_training_log(output_dir / LOG_FILE)
    report = Report(
        title="dim_monai: training and evaluation",
        facts=facts,
        settings=_in_words(told_settings(_read_json(output_dir / CONFIG_FILE))),
        curves=_in_words({n: curve for n, curve in log.items() if not n.startswith("share_")}),
        validation=_in_words(validation),
        scores=rows,
        beside=beside_tables(output_dir, scored),
        pictures=pictures,
        notes=all_notes(output_dir, scored),
    )
    write_report(output_dir / "report.html", report)


def beside_tables(output_dir: Path, scored: Scored) -> dict[str, str]:
    """Return what has to stand beside every table of means: split, and rule of the selection."""
    run = _read_json(output_dir / RUN_FILE)
    rule = run.get("rule", f"chosen elsewhere, for there is no {RUN_FILE}")
    known = run.get("weights_sha256", ""), scored.weights_sha256
    if all(known) and len(set(known)) > 1:
        rule = f"chosen elsewhere, for {RUN_FILE} is of other weights"
    return {"split": scored.source, "rule": rule}


def all_notes(output_dir: Path, scored: Scored) -> tuple[str, ...]:
    """Return the notes of the list that was scored and of the one that trained the network.

    A network that comes of a list of the reference protocol takes its mark along to other cases.
    """
    trained = _trained_list(output_dir)
    return tuple(dict.fromkeys([*(trained.notes if trained else ()), *scored.notes]))


def read_training_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves that ``TrainingLog`` wrote: name to (step, value), empty without a file."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                point = (int(line["step"]), float(line["value"]))
                curves.setdefault(line["name"], []).append(point)
    return curves


def _in_words(named: Mapping[str, T]) -> dict[str, T]:
    return {name.replace("_", " "): value for name, value in named.items()}


def _trained_list(output_dir: Path) -> Datalist | None:
    path = output_dir / DATALIST_NAME
    return load_saved_datalist(path) if path.is_file() else None


def _scored(rows: Sequence[ScoreRow]) -> dict[str, object]:
    """Return the cases of each list that was scored, counted by domain, and their digest."""
    facts: dict[str, object] = {}
    for table in tables(rows):
        cases = {(row.domain, row.case) for row in rows if row.split == table.split}
        facts[f"{table.split} cases"] = dict(Counter(domain for domain, _ in sorted(cases)))
        if table.sha256:
            facts[f"SHA-256 of the {table.split} cases"] = table.sha256
    return facts


def _sizes(datalist: Datalist) -> dict[str, object]:
    """Return the cases of each list, counted by domain."""
    return {
        f"{name} cases": dict(Counter(entry["domain"] for entry in entries)) or 0
        for name in ("labeled", "unlabeled", "validation", "test")
        for entries in [getattr(datalist, name)]
    }


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
