"""Scores of one case, the table of scores, and its means."""

from dim_monai.metrics.case import (
    SCORE_NAMES,
    TOLERANCE,
    BothEmpty,
    ClassScore,
    Unit,
    score_case,
)
from dim_monai.metrics.paper import (
    EMPTY_PREDICTION_PX,
    PAPER_BOTH_EMPTY,
    PAPER_NAMES,
    PaperScore,
    paper_scores,
)
from dim_monai.metrics.row import (
    CUP,
    DISC,
    VCDR_ERROR,
    VCDR_NAMES,
    ScoreRow,
    score_names,
    summary_names,
)
from dim_monai.metrics.rules import (
    BOTH_EMPTY,
    BOTH_EMPTY_IS_1,
    EMPTY_MASK_RULE,
    FALSE_POSITIVE,
    MISSED,
    PAPER_RULE,
    SCORING_RULE,
)
from dim_monai.metrics.summary import (
    ALL,
    MEAN_OF_DOMAINS,
    Summary,
    split_digest,
    summarise,
    summarise_paper,
)

__all__ = [
    "ALL",
    "BOTH_EMPTY",
    "BOTH_EMPTY_IS_1",
    "CUP",
    "DISC",
    "EMPTY_MASK_RULE",
    "EMPTY_PREDICTION_PX",
    "FALSE_POSITIVE",
    "MEAN_OF_DOMAINS",
    "MISSED",
    "PAPER_BOTH_EMPTY",
    "PAPER_NAMES",
    "PAPER_RULE",
    "SCORE_NAMES",
    "SCORING_RULE",
    "TOLERANCE",
    "VCDR_ERROR",
    "VCDR_NAMES",
    "BothEmpty",
    "ClassScore",
    "PaperScore",
    "ScoreRow",
    "Summary",
    "Unit",
    "paper_scores",
    "score_case",
    "score_names",
    "split_digest",
    "summarise",
    "summarise_paper",
    "summary_names",
]
