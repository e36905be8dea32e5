"""Means of the table of scores: over cases, then domains, each with what it is of."""

from __future__ import annotations

import numpy as np
import pytest

from dim_monai.errors import DataError
from dim_monai.metrics import (
    ALL,
    BOTH_EMPTY,
    FALSE_POSITIVE,
    MEAN_OF_DOMAINS,
    MISSED,
    SCORE_NAMES,
    VCDR_ERROR,
    ClassScore,
    ScoreRow,
    score_names,
    split_digest,
    summarise,
)


def row(case, domain, dice, *, class_name="prostate", split="test", hd95_mm=1.0, note=""):
    values = (None,) * 5 if dice is None else (dice, dice / 2, hd95_mm, 1.0, -1.0)
    return ScoreRow(case, domain, split, ClassScore(class_name, *values, note=note))


ROWS = [
    row("a", "one", 0.9),
    row("b", "one", 0.7),
    row("c", "one", 0.5),
    row("d", "two", 0.2, hd95_mm=9.0),
    row("e", "two", 0.0, hd95_mm=99.0, note=MISSED),
    row("f", "two", None, note=BOTH_EMPTY),
    row("g", "three", None, note=BOTH_EMPTY),
]


def test_domains_weigh_the_same_whatever_their_size():
    one, two, three, mean = summarise(ROWS)
    assert [s.domain for s in (one, two, three, mean)] == ["one", "two", "three", MEAN_OF_DOMAINS]
    assert one.mean["dice"] == pytest.approx(0.7)
    assert two.mean["dice"] == pytest.approx(0.1)
    assert two.mean["hd95_mm"] == pytest.approx(54.0)
    assert mean.mean["dice"] == pytest.approx(0.4)
    assert one.std["dice"] == pytest.approx(np.std([0.9, 0.7, 0.5], ddof=1))
    assert mean.std["dice"] == pytest.approx(np.std([0.7, 0.1], ddof=1))


def test_what_is_not_scored_is_counted_and_enters_no_mean():
    one, two, three, mean = summarise(ROWS)
    counts = [(s.n_scored, s.n_total, s.n_missed) for s in (one, two, three, mean)]
    assert counts == [(3, 3, 0), (2, 3, 1), (0, 1, 0), (5, 7, 1)]
    assert set(three.mean.values()) == set(three.std.values()) == {None}
    assert set(three.scored.values()) == {0}


def test_a_single_value_has_no_spread():
    (only, mean) = summarise([row("a", "one", 0.5)])
    assert only.mean == mean.mean
    assert set(only.std.values()) == set(mean.std.values()) == {None}


def test_classes_are_kept_apart_and_pooled_only_on_request():
    rows = [row("a", "one", 1.0, class_name="x"), row("a", "one", 0.0, class_name="y")]
    assert [(s.class_name, s.mean["dice"]) for s in summarise(rows, by=("class",))] == [
        ("x", 1.0),
        ("y", 0.0),
    ]
    (pooled, _) = summarise(rows, by=("domain",))
    assert (pooled.class_name, pooled.domain, pooled.mean["dice"]) == (ALL, "one", 0.5)


def test_without_domains_every_case_weighs_the_same():
    (pooled,) = summarise(ROWS, by=("class",))
    assert pooled.domain == ALL
    assert pooled.mean["dice"] == pytest.approx((0.9 + 0.7 + 0.5 + 0.2 + 0.0) / 5)


def test_splits_are_never_averaged_together():
    with pytest.raises(DataError, match="split"):
        summarise([row("a", "one", 0.5), row("b", "one", 0.5, split="validation")])


def photograph_row(case, class_name, dice, vcdr=None, vcdr_truth=None, domain="one"):
    score = ClassScore(class_name, dice, dice / 2, 3.0, 1.0, -5.0, unit="px")
    return ScoreRow(case, domain, "test", score, vcdr, vcdr_truth)


EYES = [
    photograph_row("a", "disc", 0.9, 0.6, 0.5),
    photograph_row("a", "cup", 0.8, 0.6, 0.5),
    photograph_row("b", "disc", 0.7, 0.3, 0.5),
    photograph_row("b", "cup", 0.6, 0.3, 0.5),
    photograph_row("c", "disc", 0.5, None, 0.4),
]


def test_the_error_of_the_ratio_is_averaged_over_the_cases_that_have_one():
    summaries = {(s.class_name, s.domain): s for s in summarise(EYES)}
    cup = summaries["cup", "one"]
    assert list(cup.mean) == [*SCORE_NAMES["px"], VCDR_ERROR]
    assert cup.mean[VCDR_ERROR] == pytest.approx((0.1 - 0.2) / 2)
    assert cup.std[VCDR_ERROR] == pytest.approx(np.std([0.1, -0.2], ddof=1))
    assert summaries["disc", "one"].mean[VCDR_ERROR] == cup.mean[VCDR_ERROR]
    assert cup.mean["area_error_px"] == -5.0
    disc = summaries["disc", "one"]
    assert (disc.scored["dice"], disc.scored[VCDR_ERROR], disc.n_total) == (3, 2, 3)
    assert summaries["disc", MEAN_OF_DOMAINS].scored == disc.scored


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([], SCORE_NAMES["mm"]),
        (ROWS, SCORE_NAMES["mm"]),
        (EYES[:1], SCORE_NAMES["px"]),
        (EYES[:2], (*SCORE_NAMES["px"], "vcdr", "vcdr_truth")),
        ([row("a", "one", 0.5, class_name=name) for name in ("disc", "cup")], SCORE_NAMES["mm"]),
    ],
)
def test_ratios_belong_to_photographs_with_disc_and_cup(rows, names):
    assert score_names(rows) == names


def test_mm_and_pixels_are_never_averaged_together():
    with pytest.raises(DataError, match="several units"):
        summarise([ROWS[0], EYES[0]])


def test_no_rows_give_no_summary():
    assert summarise([]) == []


def test_misses_and_false_positives_are_counted_apart():
    rows = [
        row("a", "one", 0.0, note=MISSED),
        row("b", "one", 0.0, note=FALSE_POSITIVE),
        row("c", "one", 0.0, note=FALSE_POSITIVE),
        row("d", "one", 0.7),
    ]
    for summary in summarise(rows):
        counts = (summary.n_scored, summary.n_missed, summary.n_false_positive)
        assert counts == (4, 1, 2)


def digested(case, sha256):
    score = ClassScore("prostate", 0.5, 0.5, 1.0, 1.0, 0.0)
    return ScoreRow(case, "one", "test", score, sha256=sha256)


def test_the_digest_of_a_split_names_its_cases_and_nothing_else():
    a, b, other = digested("a", "1a"), digested("b", "2b"), digested("b", "3c")
    digest = split_digest([a, b])
    assert len(digest) == 64
    assert split_digest([b, a, a]) == digest
    assert len({digest, split_digest([a]), split_digest([a, other])}) == 3
    assert split_digest([]) == split_digest([a, digested("c", "")]) == ""
