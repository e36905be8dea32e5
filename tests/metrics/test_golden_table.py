"""What empty masks score: the whole table, and that nothing that is no number gets into a mean.

MONAI 1.6.1 drops a miss from its mean distances (0 mm, "perfect", if all are missed), drops a false
positive from its mean Dice, and makes NaN of two empty masks a 0.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from dim_monai.errors import NumericError
from dim_monai.metrics import (
    BOTH_EMPTY,
    BOTH_EMPTY_IS_1,
    FALSE_POSITIVE,
    MISSED,
    PAPER_BOTH_EMPTY,
    PAPER_NAMES,
    SCORE_NAMES,
    ClassScore,
    PaperScore,
    ScoreRow,
    paper_scores,
    summarise,
    summarise_paper,
)
from tests.metrics.masks import score

EMPTY = np.zeros((30, 40), dtype=int)
FULL = EMPTY.copy()
FULL[3:6, 7:9] = 1  # 6 pixels
GRIDS = {
    "photograph": ((), None, 50.0, 6.0),  # px, px
    "volume": ((5,), (1.0, 0.5, 4.0), math.hypot(30, 20, 20), 0.06),  # 30 voxels of 2 mm3: ml
}
CHOICES = {"not scored": BOTH_EMPTY, 1: BOTH_EMPTY_IS_1}


@pytest.mark.parametrize("both_empty", CHOICES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("prediction", "truth", "overlap", "far", "size", "note", "paper"),
    [
        (EMPTY, FULL, 0.0, 1, -1, MISSED, (0.0, 0.0, 100.0, 100.0, MISSED)),
        (FULL, EMPTY, 0.0, 1, 1, FALSE_POSITIVE, (0.0, 0.0, None, None, FALSE_POSITIVE)),
        (FULL, FULL, 1.0, 0, 0, "", (1.0, 1.0, 0.0, 0.0, "")),
        (EMPTY, EMPTY, 1.0, 0, 0, None, (0.0, 0.0, 100.0, 100.0, PAPER_BOTH_EMPTY)),
    ],
    ids=["missed", "false positive", "hit", "both empty"],
)
def test_the_golden_table(prediction, truth, overlap, far, size, note, paper, grid, both_empty):
    depth, spacing_mm, diagonal, whole = GRIDS[grid]
    masks = [
        np.broadcast_to(m.reshape(*m.shape, *depth and (1,)), m.shape + depth)
        for m in (prediction, truth)
    ]
    got = score(*masks, spacing_mm, both_empty=both_empty)
    distance = far * diagonal
    expected = [overlap, overlap, distance, distance, overlap, size * whole]
    if note is None and both_empty == "not scored":
        expected = [None] * 6
    assert list(got.named().values()) == [v if v is None else pytest.approx(v) for v in expected]
    assert got.note == (CHOICES[both_empty] if note is None else note)

    slices = paper_scores(*masks, [1])
    assert slices == tuple(PaperScore(n + 1, *paper) for n in range(*depth or (1,)))
    row = ScoreRow("a", "one", "test", got, paper=slices)
    in_cases, in_slices = summarise([row])[0], summarise_paper([row])[0]
    n_scored = int(got.dice is not None)
    assert (in_cases.n_scored, in_cases.n_total) == (n_scored, 1)
    assert in_cases.mean == got.named()
    assert set(in_cases.scored.values()) == {n_scored}
    assert (in_cases.n_missed, in_cases.n_false_positive) == (note == MISSED, size == 1)
    assert (in_slices.n_scored, in_slices.n_total) == (len(slices), len(slices))
    assert list(in_slices.mean.values()) == list(paper[:4])
    n_distances = 0 if note == FALSE_POSITIVE else len(slices)
    assert in_slices.scored["paper_hd95_px"] == in_slices.scored["paper_asd_px"] == n_distances


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("unit", "name", "field"),
    [
        (unit, name, field)
        for unit, names in SCORE_NAMES.items()
        for name, field in zip(
            names,
            ("dice", "jaccard", "hd95", "assd", "surface_dice", "size_error"),
            strict=True,
        )
    ],
)
def test_what_is_not_a_number_is_never_a_score(unit, name, field, value):
    numbers = dict.fromkeys(("dice", "jaccard", "hd95", "assd", "size_error"), 0.5)
    with pytest.raises(NumericError, match=name):
        ClassScore("prostate", **{**numbers, field: value}, unit=unit)


def test_what_is_not_a_number_is_never_a_tolerance():
    with pytest.raises(NumericError, match="tolerance"):
        ClassScore("prostate", 1.0, 1.0, 0.0, 0.0, 0.0, tolerance=math.nan)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_never_a_reference_score(place, value):
    with pytest.raises(NumericError, match=f"{PAPER_NAMES[place]} of slice 7"):
        PaperScore(7, *(value if n == place else 0.5 for n in range(4)))


@pytest.mark.parametrize("name", ["vcdr", "vcdr_truth"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_never_a_ratio(name, value):
    score = ClassScore("cup", None, None, None, None, None, BOTH_EMPTY, "px")
    with pytest.raises(NumericError, match=f"{name} of eye"):
        ScoreRow("eye", "clinic", "test", score, **{name: value})
