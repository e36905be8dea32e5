"""The table of scores, one row per case and region, and its means over cases and domains."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dim_monai.errors import DataError
from dim_monai.metrics.case import (
    FALSE_POSITIVE,
    MISSED,
    SCORE_NAMES,
    ClassScore,
    require_finite,
)

MEAN_OF_DOMAINS = "mean of domains"
ALL = "all"

VCDR_NAMES = ("vcdr", "vcdr_truth")
VCDR_ERROR = "vcdr_error"
DISC, CUP = "disc", "cup"
"""Photographs with regions of these names have a vertical cup-to-disc ratio."""


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table of scores: which case, from where, used for what, and its score.

    Args:
        case: its name.
        domain: its site, scanner or camera.
        split: its list.
        score: of one region.
        vcdr: vertical cup-to-disc ratio of the prediction, the same in all rows of a case; None
            without disc or cup.
        vcdr_truth: the same of the truth.

    Raises:
        NumericError: a ratio is NaN or infinite.
    """

    case: str
    domain: str
    split: str
    score: ClassScore
    vcdr: float | None = None
    vcdr_truth: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name in VCDR_NAMES:
            require_finite(f"{name} of {self.case}", getattr(self, name))

    def named(self) -> dict[str, float | None]:
        """Return all numbers of the line by name: scores, both ratios, and their difference."""
        ratio, truth = self.vcdr, self.vcdr_truth
        error = None if ratio is None or truth is None else ratio - truth
        return {**self.score.named(), "vcdr": ratio, "vcdr_truth": truth, VCDR_ERROR: error}


@dataclass(frozen=True)
class Summary:
    """Mean scores of one class in one domain, or over the domains (`MEAN_OF_DOMAINS`).

    Args:
        domain: the domain, `MEAN_OF_DOMAINS`, or `ALL`.
        class_name: the region, or `ALL`.
        n_scored: rows that enter the means.
        n_total: rows there are, with those in which both masks are empty.
        n_penalised: scored rows whose distances are the image diagonal (missed, false positive).
        mean: name to mean; None where nothing was scored. The names are the `SCORE_NAMES` of the
            rows' unit, and `VCDR_ERROR` where the rows are of disc and cup.
        std: name to sample standard deviation; None for fewer than two values. It is over
            cases for a domain and over the means of the domains for `MEAN_OF_DOMAINS`.
    """

    domain: str
    class_name: str
    n_scored: int
    n_total: int
    n_penalised: int
    mean: Mapping[str, float | None]
    std: Mapping[str, float | None]


def summarise(
    rows: Iterable[ScoreRow], by: Sequence[Literal["domain", "class"]] = ("domain", "class")
) -> list[Summary]:
    """Mean over cases per domain, then the mean of the domains with equal weight.

    A large domain so cannot hide a failure in a small one. Rows in which both masks are empty
    count in `n_total` only; a domain with no scored row enters no mean.

    Args:
        rows: scores of one split.
        by: what to keep apart. Without "domain" all cases are pooled and no mean of domains is
            given; without "class" all regions are pooled.

    Returns:
        Per class, in the order of `rows`: one summary per domain, then one `MEAN_OF_DOMAINS`.

    Raises:
        DataError: the rows come from several splits or units. Their mean would mean nothing.
    """
    rows = list(rows)
    names = summary_names(rows)
    groups: dict[str, dict[str, list[ScoreRow]]] = {}
    splits = set()
    for row in rows:
        splits.add(row.split)
        class_name = row.score.class_name if "class" in by else ALL
        domain = row.domain if "domain" in by else ALL
        groups.setdefault(class_name, {}).setdefault(domain, []).append(row)
    if len(splits) > 1:
        raise DataError(
            "scores of several splits", got=sorted(splits), do="summarise each split on its own"
        )
    summaries = []
    for class_name, domains in groups.items():
        of_domains = [
            _of_cases(domain, class_name, group, names) for domain, group in domains.items()
        ]
        summaries += of_domains
        if "domain" in by:
            summaries.append(_of_domains(class_name, of_domains, names))
    return summaries


def score_names(rows: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Return the names of the numbers that a table of these rows holds.

    They are the `SCORE_NAMES` of the rows' unit, and `VCDR_NAMES` for photographs whose regions are
    named `DISC` and `CUP`. No rows are taken for those of volumes.

    Raises:
        DataError: the rows have several units.
    """
    units = {row.score.unit for row in rows} or {"mm"}
    if len(units) > 1:
        raise DataError("scores in several units", got=sorted(units), do="keep volumes apart")
    (unit,) = units
    has_ratio = unit == "px" and {DISC, CUP} <= {row.score.class_name for row in rows}
    return (*SCORE_NAMES[unit], *(VCDR_NAMES if has_ratio else ()))


def summary_names(rows: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Return the names of what `summarise` averages: `score_names`, with one error for the ratios.

    Raises:
        DataError: see `score_names`.
    """
    names = score_names(rows)
    scores = tuple(name for name in names if name not in VCDR_NAMES)
    return scores if scores == names else (*scores, VCDR_ERROR)


def _of_cases(
    domain: str, class_name: str, rows: Sequence[ScoreRow], names: Sequence[str]
) -> Summary:
    scored = [row for row in rows if row.score.dice is not None]
    mean, std = _mean_and_std([row.named() for row in scored], names)
    n_penalised = sum(row.score.note in (MISSED, FALSE_POSITIVE) for row in scored)
    return Summary(domain, class_name, len(scored), len(rows), n_penalised, mean, std)


def _of_domains(class_name: str, domains: Sequence[Summary], names: Sequence[str]) -> Summary:
    mean, std = _mean_and_std([domain.mean for domain in domains], names)
    return Summary(
        MEAN_OF_DOMAINS,
        class_name,
        sum(domain.n_scored for domain in domains),
        sum(domain.n_total for domain in domains),
        sum(domain.n_penalised for domain in domains),
        mean,
        std,
    )


def _mean_and_std(
    scores: Sequence[Mapping[str, float | None]], names: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    mean: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    for name in names:
        values = [value for score in scores if (value := score[name]) is not None]
        mean[name] = statistics.fmean(values) if values else None
        std[name] = statistics.stdev(values) if len(values) > 1 else None
    return mean, std
