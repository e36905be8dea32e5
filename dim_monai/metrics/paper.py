"""Scores as the reference code of MiDSS and SynFoC defines them, per slice and in pixels.

They stand beside published numbers and nowhere else: the names begin with ``paper_``, and
`PAPER_RULE` is printed with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dim_monai.metrics.numbers import require_finite
from dim_monai.metrics.rules import FALSE_POSITIVE, MISSED
from dim_monai.metrics.surface import Mask, surface_distances

PAPER_NAMES = ("paper_dice", "paper_jaccard", "paper_hd95_px", "paper_asd_px")

EMPTY_PREDICTION_PX = 100.0
"""Both distances of an empty prediction: a constant of the reference code."""

PAPER_BOTH_EMPTY = "both empty: scored 0"


@dataclass(frozen=True)
class PaperScore:
    """The reference scores of one region in one slice.

    Args:
        slice: its number along the third axis, from 1; 1 of a photograph.
        dice: 0 to 1; 0 where both masks are empty.
        jaccard: the same.
        hd95_px: 95th percentile of the surface distances of both directions pooled; None where only
            the truth is empty.
        asd_px: mean surface distance from prediction to truth; None likewise.
        note: what was empty, or "".

    Raises:
        NumericError: a score is NaN or infinite.
    """

    slice: int
    dice: float
    jaccard: float
    hd95_px: float | None
    asd_px: float | None
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name, value in self.named().items():
            require_finite(f"score {name} of slice {self.slice}", value)

    def named(self) -> dict[str, float | None]:
        """Return the scores by `PAPER_NAMES`."""
        values = (self.dice, self.jaccard, self.hd95_px, self.asd_px)
        return dict(zip(PAPER_NAMES, values, strict=True))


def paper_scores(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], labels: Sequence[int]
) -> tuple[PaperScore, ...]:
    """Score a region in every slice by the definitions of the reference code (`PAPER_RULE`).

    Deviation: the reference code scores slices at the size of its network; these are in pixels of
    the arrays. It says nothing of the Jaccard index of two empty masks; here it is 0, as Dice is.

    Args:
        prediction: integer or boolean labels, (X, Y) or (X, Y, Z); slices lie along Z.
        truth: the same grid.
        labels: that form the region.

    Returns:
        One score per slice; one in all for two axes.
    """
    predicted, true = (np.isin(array, labels) for array in (prediction, truth))
    if true.ndim == 2:
        predicted, true = predicted[..., None], true[..., None]
    return tuple(_score_slice(z + 1, predicted[..., z], true[..., z]) for z in range(true.shape[2]))


def _score_slice(number: int, predicted: Mask, true: Mask) -> PaperScore:
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    if n_predicted == 0:
        note = MISSED if n_true else PAPER_BOTH_EMPTY
        return PaperScore(number, 0.0, 0.0, EMPTY_PREDICTION_PX, EMPTY_PREDICTION_PX, note)
    if n_true == 0:
        return PaperScore(number, 0.0, 0.0, None, None, FALSE_POSITIVE)
    overlap = int((predicted & true).sum())
    there, back = surface_distances(predicted, true, (1.0, 1.0))
    return PaperScore(
        number,
        dice=2 * overlap / (n_predicted + n_true),
        jaccard=overlap / (n_predicted + n_true - overlap),
        hd95_px=float(np.percentile(np.concatenate([there, back]), 95)),
        asd_px=float(there.mean()),
    )
