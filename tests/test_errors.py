"""A message stays one line, whatever a file is called or a header says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dim_monai.errors import DataError, counted, one_line


@given(st.text())
def test_what_comes_from_outside_stays_on_one_line(text: str) -> None:
    message = str(DataError("cannot be read", file=f"a{text}", got=text))
    assert len(f"{message}.".splitlines()) == 1
    assert message.isprintable()


@given(st.text(st.characters(categories=["L", "N", "P"])))
def test_what_can_be_seen_is_not_changed(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\ud800", "\\ud800")]
)
def test_the_rest_is_named(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_the_parts_are_kept_as_they_are() -> None:
    error = DataError("what", file="a\nb", got="c\nd", expected=1, do="mend it")
    assert (error.file, error.got, error.expected, error.do) == ("a\nb", "c\nd", 1, "mend it")
    assert str(error) == "what: a\\nb; got c\\nd; expected 1; mend it"


def test_one_is_counted_in_the_singular() -> None:
    assert [counted(n, "file") for n in range(3)] == ["0 files", "1 file", "2 files"]
