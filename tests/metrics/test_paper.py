"""The reference scores: per slice, in pixels, one way, and never among the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.errors import DataError
from dim_monai.metrics import (
    MEAN_OF_DOMAINS,
    PAPER_NAMES,
    SCORE_NAMES,
    ClassScore,
    PaperScore,
    ScoreRow,
    paper_scores,
    summarise_paper,
)
from tests.metrics.masks import all_pairs_mm, percentile_95, random_masks


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), density=st.floats(0.05, 0.6))
def test_every_slice_is_scored_alone_as_all_pairs_say(seed, density):
    prediction, truth = random_masks(seed, shape=(9, 8, 3), density=density)
    for z, ours in enumerate(paper_scores(prediction, truth, [1])):
        p, t = prediction[..., z], truth[..., z]
        assert ours.slice == z + 1
        if not (p.any() and t.any()):
            continue  # the golden table has them
        there, back = all_pairs_mm(p, t, (1, 1))
        assert ours.hd95_px == pytest.approx(percentile_95(np.concatenate([there, back])))
        assert ours.asd_px == pytest.approx(there.mean())
        assert ours.dice == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()))
        assert ours.jaccard == pytest.approx((p & t).sum() / (p | t).sum())


def test_the_distance_goes_one_way_and_the_percentile_is_pooled():
    truth = np.zeros((10, 41), dtype=int)
    truth[:, 5] = 1
    prediction = truth.copy()
    prediction[0, 35] = 1
    (out,), (back,) = paper_scores(prediction, truth, [1]), paper_scores(truth, prediction, [1])
    # Prediction to truth: ten zeros and one 30. Back: ten zeros.
    assert (out.asd_px, back.asd_px) == (pytest.approx(30 / 11), 0.0)
    assert out.hd95_px == back.hd95_px == 0.0  # of 21 values the 95th percentile is the 20th


def test_a_region_is_a_union_of_labels():
    prediction, truth = np.random.default_rng(0).integers(0, 3, size=(2, 8, 7, 4))
    assert paper_scores(prediction, truth, [1, 2]) == paper_scores(prediction > 0, truth > 0, [1])


def row(case, domain, *dice, split="test"):
    slices = tuple(PaperScore(n + 1, d, d, 2.0, 1.0) for n, d in enumerate(dice))
    score = ClassScore("prostate", 0.1, 0.1, 9.0, 9.0, 0.0)
    return ScoreRow(case, domain, split, score, paper=slices)


def test_slices_weigh_the_same_and_then_domains():
    rows = [row("a", "one", 1.0, 0.8, 0.6), row("b", "one", 0.0), row("c", "two", 0.2)]
    one, two, mean = summarise_paper(rows)
    assert [s.domain for s in (one, two, mean)] == ["one", "two", MEAN_OF_DOMAINS]
    assert one.mean["paper_dice"] == pytest.approx(0.6)  # of the cases it would be 0.4
    assert mean.mean["paper_dice"] == pytest.approx(0.4)
    assert [(s.n_scored, s.n_total) for s in (one, two, mean)] == [(4, 4), (1, 1), (5, 5)]


def test_scores_of_cases_and_of_slices_share_no_name():
    assert not set(PAPER_NAMES) & {name for names in SCORE_NAMES.values() for name in names}
    assert all(name.startswith("paper_") for name in PAPER_NAMES)


def test_without_slices_there_is_no_summary():
    assert summarise_paper([row("a", "one")]) == []


def test_splits_are_never_averaged_together():
    with pytest.raises(DataError, match="split"):
        summarise_paper([row("a", "one", 1.0), row("b", "one", 1.0, split="validation")])
