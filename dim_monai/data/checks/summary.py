"""A data set in one table: per domain, how many cases there are and what they are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from dim_monai.data.checks.case import CaseFacts

Range = tuple[float, float]
"""Smallest and largest."""


@dataclass(frozen=True)
class DomainSummary:
    """What the cases of one domain are like; of those that can be read.

    Attributes:
        domain: its name.
        cases: how many there are.
        labelled: how many of them have a label that can be read.
        size: range of the voxels along right, front and head, or of the pixels along right and
            down.
        spacing_mm: range of the spacing along the same axes; empty for photographs.
        orientations: how many images are stored in which orientation; empty for photographs.
        intensity: median over the cases of each of `INTENSITY_PERCENTILES`.
        volumes: mean over the labelled cases of each class, ml or px.
    """

    domain: str
    cases: int
    labelled: int
    size: tuple[Range, ...]
    spacing_mm: tuple[Range, ...]
    orientations: dict[str, int]
    intensity: tuple[float, ...]
    volumes: dict[str, float]


def summarise_domains(cases: Sequence[CaseFacts]) -> list[DomainSummary]:
    """Return one row a domain, in the order of their names."""
    domains = sorted({case.domain for case in cases})
    return [_summarise(domain, [c for c in cases if c.domain == domain]) for domain in domains]


def _summarise(domain: str, cases: Sequence[CaseFacts]) -> DomainSummary:
    stored = sorted({case.orientation for case in cases} - {""})
    measured = [case.volumes for case in cases if case.volumes is not None]
    # Without a mapping the classes are values, and each case lists them up to its own largest.
    names = list(max(measured, key=len, default=()))
    return DomainSummary(
        domain,
        cases=len(cases),
        labelled=len(measured),
        size=_ranges([case.shape for case in cases]),
        spacing_mm=_ranges([case.spacing_mm for case in cases]),
        orientations={axes: sum(case.orientation == axes for case in cases) for axes in stored},
        intensity=tuple(map(median, zip(*(case.intensity for case in cases), strict=True))),
        # A value that does not occur in a case has the volume 0 there.
        volumes={name: fmean(volumes.get(name, 0.0) for volumes in measured) for name in names},
    )


def _ranges(rows: Sequence[Sequence[float]]) -> tuple[Range, ...]:
    return tuple((min(column), max(column)) for column in zip(*rows, strict=True))
