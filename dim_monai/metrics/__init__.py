"""Scores of one case, the table of scores, and its means."""

from dim_monai.metrics.case import (
    BOTH_EMPTY,
    EMPTY_MASK_RULE,
    FALSE_POSITIVE,
    MISSED,
    SCORE_NAMES,
    SCORING_RULE,
    ClassScore,
    Unit,
    score_case,
)
from dim_monai.metrics.summary import (
    ALL,
    CUP,
    DISC,
    MEAN_OF_DOMAINS,
    VCDR_ERROR,
    VCDR_NAMES,
    ScoreRow,
    Summary,
    score_names,
    summarise,
    summary_names,
)

__all__ = [
    "ALL",
    "BOTH_EMPTY",
    "CUP",
    "DISC",
    "EMPTY_MASK_RULE",
    "FALSE_POSITIVE",
    "MEAN_OF_DOMAINS",
    "MISSED",
    "SCORE_NAMES",
    "SCORING_RULE",
    "VCDR_ERROR",
    "VCDR_NAMES",
    "ClassScore",
    "ScoreRow",
    "Summary",
    "Unit",
    "score_case",
    "score_names",
    "summarise",
    "summary_names",
]
