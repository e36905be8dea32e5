"""What cells of measurements share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cells import call, write_between


def test_a_cell_computes_on_one_thread_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    told = tmp_path / "threads"
    script = "import sys, torch; open(sys.argv[1], 'w').write(str(torch.get_num_threads()))"
    call([sys.executable, "-c", script, str(told)])
    assert told.read_text() == "1"


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        call([sys.executable, "-c", "raise SystemExit('no such luck')"])


@pytest.mark.parametrize("text", ["a<b>c<d>e", "<b><d>"])
def test_lines_replace_what_stood_between_the_marks(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    write_between(file, "<b>", "<d>", ["one", "two"])
    before, after = text.partition("<b>")[0], text.partition("<d>")[2]
    assert file.read_text() == f"{before}<b>\none\ntwo\n<d>{after}"


@pytest.mark.parametrize("text", ["<b>", "<b><d><b>", ""])
def test_marks_that_are_not_there_once_each_leave_the_file_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        write_between(file, "<b>", "<d>", [])
    assert file.read_text() == text
