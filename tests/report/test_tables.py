"""The printed means say of how many of how many they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.metrics import (
    BOTH_EMPTY,
    MISSED,
    PAPER_NAMES,
    SCORE_NAMES,
    VCDR_NAMES,
    ClassScore,
    PaperScore,
    ScoreRow,
    split_digest,
    summary_names,
)
from dim_monai.report.tables import SHOWN, printed_summary, selection_mark, tables

NOTHING = ClassScore("gland", None, None, None, None, None, BOTH_EMPTY, tolerance=2.0)
MISS = ClassScore("gland", 0.0, 0.0, 60.0, 60.0, -9.0, MISSED, "mm", 0.0, 2.0)
HIT = ClassScore("gland", 0.8, 0.6, 4.0, 2.0, -1.0, "", "mm", 0.7, 2.0)
ROWS = [
    ScoreRow(case, "north", "test", score, sha256=case, paper=(PaperScore(1, 0.5, 0.4, 3.0, 1.0),))
    for case, score in (("a", HIT), ("b", MISS), ("c", NOTHING))
]


def test_every_mean_has_its_counts_and_every_table_its_cases_and_rule():
    beside = {"split": "drawn", "rule": "highest Dice"}
    head, north, mean, *reference = printed_summary(ROWS, beside)
    assert head == (
        f"test: cases: 3, SHA-256 {split_digest(ROWS)}, surface Dice within 2 mm; "
        "split: drawn; rule: highest Dice"
    )
    assert north == (
        "test: gland, north: Dice 0.400 (2/3), Jaccard 0.300 (2/3), HD95 (mm) 32.0 (2/3), "
        "ASSD (mm) 31.00 (2/3), Surface Dice 0.350 (2/3), "
        "Volume error (ml) -5.0 (2/3); 1 missed, 0 false positive"
    )
    assert all(line.isascii() for line in (head, north, mean, *reference))
    assert mean.startswith("test: gland, mean of domains: Dice 0.400 (2/3)")
    assert all(line.startswith("test, reference definitions per slice: ") for line in reference)
    assert "Paper Dice 0.500 (3/3)" in reference[0]


def test_every_split_has_a_table():
    other = ScoreRow("d", "north", "validation", HIT, selection=SELECTED_ON_TEST)
    test, validation = tables([*ROWS, other])
    assert (test.cases, test.selection, len(test.paper)) == (3, "", 2)
    assert (validation.cases, validation.sha256, validation.paper) == (1, "", [])
    assert (validation.selection, validation.facts) == (
        SELECTED_ON_TEST,
        "cases: 1, surface Dice within 2 mm",
    )


def test_every_printed_line_of_a_list_of_the_reference_protocol_is_marked():
    marked = [replace(row, split="validation", selection=SELECTED_ON_TEST) for row in ROWS]
    lines = printed_summary([*ROWS, *marked], {})
    assert len(lines) == 2 * 5  # of each split a head, and a domain and the mean of each kind
    for line in lines:
        assert line.startswith(f"validation, {SELECTED_ON_TEST}") == ("validation" in line)
        assert (SELECTED_ON_TEST in line) == ("validation" in line)


def test_every_score_can_be_shown():
    averaged = summary_names([ScoreRow("a", "b", "test", HIT)])
    names = {*PAPER_NAMES, *VCDR_NAMES, *averaged, *SCORE_NAMES["mm"], *SCORE_NAMES["px"]}
    assert names <= SHOWN.keys()


@pytest.mark.parametrize(
    ("notes", "mark"),
    [
        ([], ""),
        (["nothing was selected"], ""),
        (["a", f"{SELECTED_ON_TEST}: so"], SELECTED_ON_TEST),
    ],
)
def test_the_notes_of_a_data_list_give_the_mark(notes, mark):
    assert selection_mark(notes) == mark
