"""The table of scores survives its file, and a damaged file is refused."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.errors import DataError
from dim_monai.metrics import BOTH_EMPTY, ClassScore, PaperScore, ScoreRow
from dim_monai.report.scores import read_scores_csv, write_paper_csv, write_scores_csv

HEADER = (
    "case,domain,split,class,dice,jaccard,hd95_mm,assd_mm,surface_dice,volume_error_ml,"
    "tolerance_mm,note,selection"
)
SCORED = ScoreRow(
    "a",
    "one",
    "test",
    ClassScore("prostate", 0.5, 1 / 3, 0.1 + 0.2, 7.0, -1e-9, surface_dice=0.7, tolerance=2.0),
)
EMPTY = ScoreRow(
    "b", "two", "test", ClassScore("prostate", None, None, None, None, None, BOTH_EMPTY)
)

PX_HEADER = (
    "case,domain,split,class,dice,jaccard,hd95_px,assd_px,surface_dice,area_error_px,"
    "tolerance_px,note,selection"
)
EYE_HEADER = PX_HEADER.replace(",tolerance", ",vcdr,vcdr_truth,tolerance")


def eye_row(class_name, *numbers, vcdr=None, vcdr_truth=None, note=""):
    score = ClassScore(class_name, *numbers, note=note, unit="px", tolerance=5.0)
    return ScoreRow("eye", "clinic", "test", score, vcdr, vcdr_truth)


DISC = eye_row("disc", 0.9, 0.8, 3.5, 1.25, -120.0, vcdr=0.1 + 0.2, vcdr_truth=0.5)
CUP = eye_row("cup", None, None, None, None, None, note=BOTH_EMPTY)

text = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"))
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
numbers = st.tuples(st.tuples(*[number] * 5), st.tuples(*[number] * 2))


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(st.tuples(*[text] * 6), numbers), max_size=4))
def test_reading_returns_what_was_written(tmp_path_factory, rows):
    rows = [
        ScoreRow(
            *names,
            ClassScore(class_name, *first, note, "mm", *last),
            selection=selection,
        )
        for (*names, class_name, note, selection), (first, last) in rows
    ]
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores_csv(path, rows)
    assert read_scores_csv(path) == rows


def test_columns_are_the_documented_ones_and_nothing_is_an_empty_cell(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, [SCORED, EMPTY])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    assert lines[2] == f"b,two,test,prostate,,,,,,,,{BOTH_EMPTY},"
    with open(path, newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert float(first["hd95_mm"]) == 0.1 + 0.2
    assert (first["surface_dice"], first["tolerance_mm"]) == ("0.7", "2.0")


@pytest.mark.parametrize(
    ("rows", "header"),
    [([], HEADER), ([SCORED, EMPTY], HEADER), ([DISC], PX_HEADER), ([DISC, CUP], EYE_HEADER)],
)
def test_columns_follow_the_unit_and_the_regions(tmp_path, rows, header):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, rows)
    assert path.read_text(encoding="utf-8").splitlines()[0] == header


def test_scores_of_photographs_come_back_with_their_ratios(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, [DISC, CUP])
    assert read_scores_csv(path) == [DISC, CUP]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1] == "eye,clinic,test,disc,0.9,0.8,3.5,1.25,,-120.0,0.30000000000000004,0.5,5.0,,"
    assert lines[2] == f"eye,clinic,test,cup,,,,,,,,,5.0,{BOTH_EMPTY},"


def test_every_line_of_a_list_of_the_reference_protocol_is_marked(tmp_path):
    path = tmp_path / "scores.csv"
    marked = [replace(row, selection=SELECTED_ON_TEST) for row in (SCORED, EMPTY)]
    write_scores_csv(path, marked)
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(",")[2] for line in lines] == [SELECTED_ON_TEST] * 2
    assert read_scores_csv(path) == marked != [SCORED, EMPTY]


def test_the_scores_of_slices_have_a_table_and_names_of_their_own(tmp_path):
    slices = (PaperScore(1, 0.5, 0.4, 3.5, 1.25), PaperScore(2, 0.0, 0.0, None, None, "odd"))
    row = replace(SCORED, paper=slices, selection=SELECTED_ON_TEST)
    write_paper_csv(tmp_path / "paper.csv", [row, EMPTY])
    assert (tmp_path / "paper.csv").read_text(encoding="utf-8").splitlines() == [
        "case,domain,split,class,slice,"
        "paper_dice,paper_jaccard,paper_hd95_px,paper_asd_px,paper_note,paper_selection",
        "a,one,test,prostate,1,0.5,0.4,3.5,1.25,,selected on test data",
        "a,one,test,prostate,2,0.0,0.0,,,odd,selected on test data",
    ]
    with pytest.raises(DataError, match="columns"):
        read_scores_csv(tmp_path / "paper.csv")


def test_volumes_and_photographs_are_not_one_table(tmp_path):
    with pytest.raises(DataError, match="several units"):
        write_scores_csv(tmp_path / "scores.csv", [SCORED, DISC])
    assert not list(tmp_path.iterdir())


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
        (HEADER + "\na,one,test,prostate,0.5,0.5,nan,1,1,1,2,,\n", "line 2"),
        (HEADER + "\na,one,test,prostate,good,0.5,1,1,1,1,2,,\n", "line 2"),
        (HEADER.replace("hd95_mm", "hd95_px") + "\n", "columns"),
        (HEADER.replace(",selection", "") + "\n", "columns"),
        (HEADER.replace("tolerance_mm", "tolerance_px") + "\n", "columns"),
        (HEADER + "\na,one,test,prostate,0.5,0.5,1,1,1,1,inf,,\n", "line 2"),
        (EYE_HEADER + "\na,one,test,disc,0.5,0.5,1,1,1,1,5,,\n", "line 2"),
        (EYE_HEADER + "\na,one,test,disc,0.5,0.5,1,1,1,1,inf,0.5,5,,\n", "line 2"),
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
