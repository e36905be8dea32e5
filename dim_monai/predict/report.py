"""What a run was and did, as JSON and as the rows of a table; no patient and no UID in it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pydicom
import torch

import dim_monai
from dim_monai.data.kinds import VOLUME
from dim_monai.errors import DataError, DimError
from dim_monai.predict.cases import Found
from dim_monai.predict.run import Outcome
from dim_monai.predict.segmenter import Segmenter, Settings

SCHEMA = 1
EMPTY = "-"


def as_document(
    found: Found,
    outcomes: Sequence[Outcome],
    segmenter: Segmenter,
    settings: Settings,
    *,
    model_sha256: str,
    options: dict[str, bool],
    out: Path,
    started: str,
    seconds: float,
) -> dict[str, Any]:
    """Return the report of a run.

    Args:
        found: what the input holds.
        outcomes: of its cases; fewer than there are cases if the run was interrupted.
        segmenter: the bundle.
        settings: of the user.
        model_sha256: of the file of the weights.
        options: what was asked for beside the masks.
        out: the output folder.
        started: time of the start, ISO 8601.
        seconds: from there to the end.
    """
    failed = sum(outcome.error is not None for outcome in outcomes)
    return {
        "schema": SCHEMA,
        "started": started,
        "seconds": round(seconds, 3),
        "complete": len(outcomes) == len(found.cases) + len(found.refused),
        "versions": {
            "dim_monai": dim_monai.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pydicom": pydicom.__version__,
            "python": platform.python_version(),
        },
        "bundle": {
            "name": segmenter.bundle.name,
            "folder": str(segmenter.bundle),
            "version": segmenter.version,
            "overlays": [file.name for file in settings.overlays],
        },
        "model": {
            "file": str(segmenter.model_file),
            "sha256": model_sha256,
            "pretrained": segmenter.pretrained,
        },
        "device": str(segmenter.device),
        "settings": {
            "test_time_flips": segmenter.flips,
            "largest_component": segmenter.largest_component,
            **options,
        },
        "input": str(found.root),
        "output": str(out),
        "counts": {
            "segmented": len(outcomes) - failed,
            "failed": failed,
            "skipped": len(found.skipped),
        },
        "cases": [_case(outcome, _unit(segmenter)) for outcome in outcomes],
        "skipped": [{"name": one.name, "reason": one.reason} for one in found.skipped],
    }


def table(outcomes: Sequence[Outcome], segmenter: Segmenter) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of the table that ends a run."""
    unit = _unit(segmenter)
    names = [structure.name for structure in segmenter.structures]
    with_ratio = any(outcome.cup_to_disc is not None for outcome in outcomes)
    headings = ["case", *(f"{name} {unit} (confidence)" for name in names)]
    headings += ["vCDR"] * with_ratio + ["seconds", "result"]
    rows = []
    for outcome in outcomes:
        row = [outcome.name]
        for name in names:
            measured = outcome.structures.get(name)
            row.append(EMPTY if measured is None else _size(measured.size, measured.confidence))
        if with_ratio:
            ratio = outcome.cup_to_disc
            row.append(EMPTY if ratio is None else f"{ratio:.2f}")
        rows.append([*row, f"{outcome.seconds:.1f}", _result(outcome)])
    return headings, rows


def failure(outcome: Outcome) -> str:
    """Return why a case has no mask, without a word of what its file says.

    Errors of this package name files and numbers alone. What others say may quote a header, so only
    the kind of error is repeated, and of the system its reason.
    """
    error = outcome.error
    if isinstance(error, DimError):
        return str(error)
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or 'reading or writing failed'}"
    return f"unexpected {type(error).__name__}; --traceback shows where"


def kind_of_failure(outcomes: Sequence[Outcome]) -> type[DimError] | None:
    """Return what stands for the failure of a whole run, None where a case was segmented.

    It is the kind of error of all cases, or DataError where they differ or there is no case.
    """
    kinds = {type(outcome.error) for outcome in outcomes}
    if type(None) in kinds:
        return None
    kind = kinds.pop() if len(kinds) == 1 else DataError
    return kind if issubclass(kind, DimError) else DataError


def _case(outcome: Outcome, unit: str) -> dict[str, Any]:
    if outcome.error is not None:
        return {
            "name": outcome.name,
            "result": "failed",
            "seconds": round(outcome.seconds, 3),
            "error": type(outcome.error).__name__,
            "message": failure(outcome),
        }
    size = "volume_ml" if unit == "ml" else "area_px"
    case: dict[str, Any] = {
        "name": outcome.name,
        "result": "segmented",
        "seconds": round(outcome.seconds, 3),
        "structures": {
            name: {
                size: round(one.size, 3),
                "confidence": None if one.confidence is None else round(one.confidence, 4),
            }
            for name, one in outcome.structures.items()
        },
        "files": outcome.files,
    }
    if unit == "px":
        ratio = outcome.cup_to_disc
        case["vertical_cup_to_disc_ratio"] = None if ratio is None else round(ratio, 4)
    if outcome.missing_slices:
        case["missing_slices"] = list(outcome.missing_slices)
    return case


def _size(size: float, confidence: float | None) -> str:
    number = f"{size:.0f}" if size == int(size) and size >= 100 else f"{size:.1f}"
    return number if confidence is None else f"{number} ({confidence:.2f})"


def _result(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "FAILED"
    if outcome.missing_slices:
        count = len(outcome.missing_slices)
        return f"segmented, {count} slice{'s' * (count > 1)} missing"
    if all(measured.size == 0 for measured in outcome.structures.values()):
        return "segmented, nothing found"
    return "segmented"


def _unit(segmenter: Segmenter) -> str:
    return "ml" if segmenter.kind is VOLUME else "px"
