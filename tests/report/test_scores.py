"""The table of scores survives its file, and a damaged file is refused."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.errors import DataError
from dim_monai.metrics import BOTH_EMPTY, ClassScore, ScoreRow
from dim_monai.report.scores import read_scores_csv, write_scores_csv

HEADER = "case,domain,split,class,dice,jaccard,hd95_mm,assd_mm,volume_error_ml,note"
SCORED = ScoreRow("a", "one", "test", ClassScore("prostate", 0.5, 1 / 3, 0.1 + 0.2, 7.0, -1e-9))
EMPTY = ScoreRow(
    "b", "two", "test", ClassScore("prostate", None, None, None, None, None, BOTH_EMPTY)
)

text = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"))
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.tuples(*[text] * 5), st.tuples(*[number] * 5)), max_size=4))
def test_reading_returns_what_was_written(tmp_path_factory, rows):
    rows = [
        ScoreRow(case, domain, split, ClassScore(class_name, *numbers, note=note))
        for (case, domain, split, class_name, note), numbers in rows
    ]
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores_csv(path, rows)
    assert read_scores_csv(path) == rows


def test_columns_are_the_documented_ones_and_nothing_is_an_empty_cell(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, [SCORED, EMPTY])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    assert lines[2] == f"b,two,test,prostate,,,,,,{BOTH_EMPTY}"
    with open(path, newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert float(first["hd95_mm"]) == 0.1 + 0.2


def test_a_failing_row_leaves_the_old_table(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, [SCORED])

    def rows():
        yield EMPTY
        raise RuntimeError("evaluation broke")

    with pytest.raises(RuntimeError):
        write_scores_csv(path, rows())
    assert read_scores_csv(path) == [SCORED]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns"),
        ("case,dice\na,0.5\n", "columns"),
        (HEADER + "\na,one,test,prostate,0.5\n", "line 2"),
        (HEADER + "\na,one,test,prostate,0.5,0.5,nan,1,1,\n", "line 2"),
        (HEADER + "\na,one,test,prostate,good,0.5,1,1,1,\n", "line 2"),
    ],
)
def test_another_table_is_refused(tmp_path, content, message):
    path = tmp_path / "scores.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_scores_csv(path)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"scores\.csv"):
        read_scores_csv(tmp_path / "scores.csv")
