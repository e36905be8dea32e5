"""One HTML file that tells what a run did and how good it is, readable without a network."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from dim_monai.files import atomic_write
from dim_monai.metrics import (
    EMPTY_MASK_RULE,
    MEAN_OF_DOMAINS,
    SCORING_RULE,
    ScoreRow,
    Summary,
    score_names,
    summarise,
    summary_names,
)
from dim_monai.report.figures import Curve, curves_png

MINUS = (
    "\N{MINUS SIGN}"  # as wide as the plus, so that the signs of a column stand under each other
)
NOT_SCORED = "\N{EN DASH}"

# Column heading and number format of each score; signed where the sign is the message.
_SHOWN = {
    "dice": ("Dice", ".3f"),
    "jaccard": ("Jaccard", ".3f"),
    "hd95_mm": ("HD95 (mm)", ".1f"),
    "assd_mm": ("ASSD (mm)", ".2f"),
    "volume_error_ml": ("Volume error (ml)", "+.1f"),
    "hd95_px": ("HD95 (px)", ".1f"),
    "assd_px": ("ASSD (px)", ".2f"),
    "area_error_px": ("Area error (px)", "+.0f"),
    "vcdr": ("vCDR", ".2f"),
    "vcdr_truth": ("true vCDR", ".2f"),
    "vcdr_error": ("vCDR error", "+.2f"),
}


@dataclass(frozen=True)
class Report:
    """Everything the page shows; it reads no file and computes nothing but the means.

    Args:
        title: heading of the page.
        facts: provenance in the order of the page: data set, split sizes per domain, selection
            rule, deployed network, seed, versions, steps, duration. A value that is itself a
            mapping is shown as a list of its items.
        curves: name of a loss term to (step, value) pairs.
        validation: name of a validation score to (step, value) pairs.
        scores: the table of scores; every split gets a summary of its own.
        pictures: (caption, PNG file) pairs.
        notes: warnings the reader must see first, such as "nothing was selected".
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    validation: Mapping[str, Curve] = field(default_factory=dict)
    scores: Sequence[ScoreRow] = ()
    pictures: Sequence[tuple[str, bytes]] = ()
    notes: Sequence[str] = ()


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the report as one self-contained HTML file; it is whole or absent.

    The page holds no script and loads nothing: style is inline and pictures are data. All text is
    escaped, so that a case name cannot become markup.

    Args:
        path: the file to write or replace.
        report: what to show.

    Raises:
        OSError: the file cannot be written; an older one is then left as it was.
    """
    figures = {
        "Loss terms. Pale: every value; strong: mean over a tenth of the run.": report.curves,
        "Validation scores.": report.validation,
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            summaries=_summaries(report.scores),
            shown=_SHOWN,
            score_names=score_names(report.scores),
            summary_names=summary_names(report.scores),
            mean_of_domains=MEAN_OF_DOMAINS,
            rules=(EMPTY_MASK_RULE, SCORING_RULE),
            figures=[(text, curves_png(curves)) for text, curves in figures.items() if curves],
        )
    )
    with atomic_write(path, "w") as file:
        file.write(page)


def _summaries(rows: Sequence[ScoreRow]) -> dict[str, list[Summary]]:
    splits = dict.fromkeys(row.split for row in rows)
    return {split: summarise([row for row in rows if row.split == split]) for split in splits}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dim_monai.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["png"] = _png_address
    environment.tests["nested"] = lambda value: isinstance(value, Mapping)
    return environment


def _number(value: float | None, name: str) -> str:
    """The score as printed: its own precision, a true minus, a dash for what is not scored."""
    return NOT_SCORED if value is None else format(value, _SHOWN[name][1]).replace("-", MINUS)


def _png_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
