"""The summary of a checked data set as a table of words, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Sequence

from dim_monai.data.checks.case import INTENSITY_PERCENTILES
from dim_monai.data.checks.result import Checked
from dim_monai.data.checks.summary import DomainSummary, Range

_CLASSES_SHOWN = 6
"""More are no classes but the values of something else, and only their number is told."""


def summary_table(checked: Checked) -> tuple[list[str], list[list[str]]]:
    """Return the headings, and one row a domain."""
    percentiles = ", ".join(f"p{p:g}" for p in INTENSITY_PERCENTILES)
    headings = [
        "domain",
        "cases",
        "labelled",
        f"size ({'px' if checked.volume_unit == 'px' else 'voxels'})",
        "spacing (mm)",
        f"intensity ({percentiles})",
        f"mean {'area' if checked.volume_unit == 'px' else 'volume'} ({checked.volume_unit})",
    ]
    rows = [_row(summary, checked.volume_unit) for summary in checked.domains]
    if checked.volume_unit == "px":  # photographs have no spacing
        del headings[4]
        for row in rows:
            del row[4]
    return headings, rows


def _row(summary: DomainSummary, unit: str) -> list[str]:
    volumes = summary.volumes.items()
    shown = ", ".join(f"{name} {size:.{0 if unit == 'px' else 1}f}" for name, size in volumes)
    return [
        summary.domain,
        str(summary.cases),
        str(summary.labelled),
        _by_axis(summary.size, "{:.0f}"),
        _by_axis(summary.spacing_mm, "{:.2f}"),
        ", ".join(f"{value:.4g}" for value in summary.intensity),
        shown if len(volumes) <= _CLASSES_SHOWN else f"{len(volumes)} values",
    ]


def _by_axis(ranges: Sequence[Range], form: str) -> str:
    ends = ([form.format(end) for end in pair] for pair in ranges)
    return " × ".join(low if low == high else f"{low}–{high}" for low, high in ends)
