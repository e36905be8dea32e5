"""One line of the table of scores, and the names of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dim_monai.errors import DataError
from dim_monai.metrics.case import SCORE_NAMES, ClassScore
from dim_monai.metrics.numbers import require_finite
from dim_monai.metrics.paper import PaperScore

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
        selection: what a reader must know about how the network was chosen, or "".
        sha256: of name, image and truth of the case as they were scored, "" where unknown. Like
            what follows it is not in ``metrics.csv`` and does not count in a comparison.
        paper: the reference scores of the region, slice by slice; empty unless asked for.

    Raises:
        NumericError: a ratio is NaN or infinite.
    """

    case: str
    domain: str
    split: str
    score: ClassScore
    vcdr: float | None = None
    vcdr_truth: float | None = None
    selection: str = ""
    sha256: str = field(default="", compare=False)
    paper: tuple[PaperScore, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name in VCDR_NAMES:
            require_finite(f"{name} of {self.case}", getattr(self, name))

    def named(self) -> dict[str, float | None]:
        """Return all numbers of the line by name: scores, both ratios, and their difference."""
        ratio, truth = self.vcdr, self.vcdr_truth
        error = None if ratio is None or truth is None else ratio - truth
        return {**self.score.named(), "vcdr": ratio, "vcdr_truth": truth, VCDR_ERROR: error}


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
