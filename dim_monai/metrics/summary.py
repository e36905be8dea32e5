"""Means of the table of scores over cases and domains."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dim_monai.errors import DataError
from dim_monai.metrics.paper import PAPER_NAMES
from dim_monai.metrics.row import ScoreRow, summary_names
from dim_monai.metrics.rules import FALSE_POSITIVE, MISSED

MEAN_OF_DOMAINS = "mean of domains"
ALL = "all"


@dataclass(frozen=True)
class Summary:
    """Mean scores of one class in one domain, or over the domains (`MEAN_OF_DOMAINS`).

    Args:
        domain: the domain, `MEAN_OF_DOMAINS`, or `ALL`.
        class_name: the region, or `ALL`.
        n_scored: rows that enter the means.
        n_total: rows there are, with those in which both masks are empty.
        n_missed: rows of a structure that the prediction lacks.
        n_false_positive: rows of one that the truth lacks.
        scored: name to the number of values that its mean is of; `n_scored` but for what some
            scored rows lack, such as a cup-to-disc ratio.
        mean: name to mean; None where nothing was scored. The names are the `SCORE_NAMES` of the
            rows' unit, and `VCDR_ERROR` where the rows are of disc and cup.
        std: name to sample standard deviation; None for fewer than two values. It is over
            cases for a domain and over the means of the domains for `MEAN_OF_DOMAINS`.
    """

    domain: str
    class_name: str
    n_scored: int
    n_total: int
    n_missed: int
    n_false_positive: int
    scored: Mapping[str, int]
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
    unscored: dict[str, float | None] = dict.fromkeys(names)
    lines = [
        _Line(
            row.domain if "domain" in by else ALL,
            row.score.class_name if "class" in by else ALL,
            unscored if row.score.dice is None else row.named(),
            row.score.note,
        )
        for row in _of_one_split(rows)
    ]
    return _summarise(lines, names, of_domains="domain" in by)


def summarise_paper(rows: Iterable[ScoreRow]) -> list[Summary]:
    """Mean of the reference scores over the slices of a domain, then over the domains.

    This is the aggregation of the reference code: a slice counts as much as any other, from
    whatever case. Rows of `Summary` are slices here, and the names are `PAPER_NAMES`.

    Args:
        rows: scores of one split with their slices; none without slices give no summary.

    Raises:
        DataError: the rows come from several splits.
    """
    lines = [
        _Line(row.domain, row.score.class_name, slice_.named(), slice_.note)
        for row in _of_one_split(rows)
        for slice_ in row.paper
    ]
    return _summarise(lines, PAPER_NAMES, of_domains=True)


def split_digest(rows: Iterable[ScoreRow]) -> str:
    """Return the SHA-256 of the cases of some rows, in whatever order; "" if one is unknown."""
    cases = sorted({row.sha256 for row in rows})
    if not cases or "" in cases:
        return ""
    return hashlib.sha256("\n".join(cases).encode()).hexdigest()


class _Line(NamedTuple):
    """What one row, or one slice of it, brings to a summary."""

    domain: str
    class_name: str
    numbers: Mapping[str, float | None]
    note: str


def _of_one_split(rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    rows = list(rows)
    splits = {row.split for row in rows}
    if len(splits) > 1:
        raise DataError(
            "scores of several splits", got=sorted(splits), do="summarise each split on its own"
        )
    return rows


def _summarise(lines: Sequence[_Line], names: Sequence[str], *, of_domains: bool) -> list[Summary]:
    groups: dict[str, dict[str, list[_Line]]] = {}
    for line in lines:
        groups.setdefault(line.class_name, {}).setdefault(line.domain, []).append(line)
    summaries = []
    for domains in groups.values():
        each = [_of_cases(group, names) for group in domains.values()]
        summaries += [*each, _of_domains(each, names)] if of_domains else each
    return summaries


def _of_cases(lines: Sequence[_Line], names: Sequence[str]) -> Summary:
    mean, std, scored = _mean_and_std([line.numbers for line in lines], names)
    notes = [line.note for line in lines]
    return Summary(
        lines[0].domain,
        lines[0].class_name,
        n_scored=scored[names[0]],  # Dice, which all that are scored have
        n_total=len(lines),
        n_missed=notes.count(MISSED),
        n_false_positive=notes.count(FALSE_POSITIVE),
        scored=scored,
        mean=mean,
        std=std,
    )


def _of_domains(domains: Sequence[Summary], names: Sequence[str]) -> Summary:
    mean, std, _ = _mean_and_std([domain.mean for domain in domains], names)
    return Summary(
        MEAN_OF_DOMAINS,
        domains[0].class_name,
        n_scored=sum(domain.n_scored for domain in domains),
        n_total=sum(domain.n_total for domain in domains),
        n_missed=sum(domain.n_missed for domain in domains),
        n_false_positive=sum(domain.n_false_positive for domain in domains),
        scored={name: sum(domain.scored[name] for domain in domains) for name in names},
        mean=mean,
        std=std,
    )


def _mean_and_std(
    scores: Sequence[Mapping[str, float | None]], names: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, float | None], dict[str, int]]:
    mean: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    count: dict[str, int] = {}
    for name in names:
        values = [value for score in scores if (value := score[name]) is not None]
        mean[name] = statistics.fmean(values) if values else None
        std[name] = statistics.stdev(values) if len(values) > 1 else None
        count[name] = len(values)
    return mean, std, count
