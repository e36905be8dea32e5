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
    PAPER_NAMES,
    PAPER_RULE,
    SCORING_RULE,
    ScoreRow,
    score_names,
    summary_names,
)
from dim_monai.report.figures import Curve, curves_png
from dim_monai.report.tables import SHOWN, selection_mark, shown, tables


@dataclass(frozen=True)
class Report:
    """Everything the page shows; it reads no file and computes nothing but the means.

    Args:
        title: heading of the page.
        facts: provenance in the order of the page: data set, split sizes per domain, selection
            rule, deployed network, seed, versions, steps, duration. A value that is itself a
            mapping is shown as a list of its items.
        settings: of the training, told at the end; a mapping as in `facts`.
        curves: name of a loss term to (step, value) pairs.
        validation: name of a validation score to (step, value) pairs.
        scores: the table of scores; every split gets a summary of its own.
        beside: what stands under every table of means: how the lists were made that were scored,
            and how the network was chosen.
        pictures: (caption, PNG file) pairs.
        notes: warnings the reader must see first, such as "nothing was selected".
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    validation: Mapping[str, Curve] = field(default_factory=dict)
    scores: Sequence[ScoreRow] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
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
        "Loss, its terms, and what else was logged. Where there is a pale line it is every value, "
        "and the strong one is the mean over a tenth of the run.": report.curves,
        "Validation scores.": report.validation,
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            tables=tables(report.scores),
            mark=selection_mark(report.notes),
            headings=SHOWN,
            score_names=score_names(report.scores),
            summary_names=summary_names(report.scores),
            paper_names=PAPER_NAMES,
            paper_rule=PAPER_RULE,
            mean_of_domains=MEAN_OF_DOMAINS,
            rules=(EMPTY_MASK_RULE, SCORING_RULE),
            figures=[(text, curves_png(curves)) for text, curves in figures.items() if curves],
        )
    )
    with atomic_write(path, "w") as file:
        file.write(page)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dim_monai.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = shown
    environment.filters["png"] = _png_address
    environment.tests["nested"] = lambda value: isinstance(value, Mapping)
    return environment


def _png_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
