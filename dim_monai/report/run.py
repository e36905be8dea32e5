"""The report of a run, from what the run left in its output folder."""

from __future__ import annotations

import csv
import json
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import torch

import dim_monai
from dim_monai.data.datalist import DATALIST_NAME, Datalist, load_saved_datalist
from dim_monai.metrics import ScoreRow
from dim_monai.report.figures import Curve
from dim_monai.report.page import Report, write_report

LOG_FILE = "training_log.csv"
RUN_FILE = "run.json"


def write_run_report(
    output_dir: str | Path,
    rows: Sequence[ScoreRow] = (),
    pictures: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Write ``report.html`` into the output folder of a run.

    What the folder holds of split, training log and choice of the network is shown; what it does
    not hold is left out.

    Args:
        output_dir: folder of the run.
        rows: the scores of the cases that were evaluated, if any were.
        pictures: (caption, PNG) pairs.
    """
    output_dir = Path(output_dir)
    facts: dict[str, object] = {}
    notes: tuple[str, ...] = ()
    if (output_dir / DATALIST_NAME).is_file():
        datalist = load_saved_datalist(output_dir / DATALIST_NAME)
        facts["split"] = datalist.source
        facts |= _sizes(datalist)
        notes = datalist.notes
    run = _read_json(output_dir / RUN_FILE)
    validation: dict[str, Curve] = run.pop("validation", {})
    facts |= {key.replace("_", " "): value for key, value in run.items()}
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
        curves={name: curve for name, curve in log.items() if not name.startswith("share_")},
        validation={name.replace("_", " "): scores for name, scores in validation.items()},
        scores=rows,
        pictures=pictures,
        notes=notes,
    )
    write_report(output_dir / "report.html", report)


def read_training_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves that ``TrainingLog`` wrote: name to (step, value), empty without a file."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                point = (int(line["step"]), float(line["value"]))
                curves.setdefault(line["name"], []).append(point)
    return curves


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
