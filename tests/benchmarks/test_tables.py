"""What measurements write."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import add_rows, read_rows, write_between


@pytest.mark.parametrize("text", ["a<b>c<d>e", "<b><d>"])
def test_lines_replace_what_stood_between_the_marks(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    write_between(file, "<b>", "<d>", ["one", "two"])
    before, after = text.partition("<b>")[0], text.partition("<d>")[2]
    expected = f"{before}<b>\none\ntwo\n<d>{after}"
    assert file.read_text() == expected
    write_between(file, "<b>", "<d>", ["one", "two"])
    assert file.read_text() == expected


@pytest.mark.parametrize("text", ["<b>", "<b><d><b>", ""])
def test_marks_that_are_not_there_once_each_leave_the_file_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        write_between(file, "<b>", "<d>", [])
    assert file.read_text() == text


def test_rows_are_added_to_a_table_of_the_same_columns_only(tmp_path: Path) -> None:
    file = tmp_path / "results" / "rows.csv"
    add_rows(file, ("a", "b"), [{"a": "1", "b": "x, y"}])
    add_rows(file, ("a", "b"), [{"a": "2", "b": ""}])
    rows = [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]
    assert read_rows(file) == rows
    with pytest.raises(ValueError, match=r"rows\.csv has the columns"):
        add_rows(file, ("a", "c", "b"), [{"a": "3", "c": "", "b": ""}])
    assert read_rows(file) == rows
