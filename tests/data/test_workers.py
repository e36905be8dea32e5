"""The last notes of processes that died, wherever the word of a death arrives."""

from __future__ import annotations

import subprocess
import sys
from types import FrameType
from typing import Any

import pytest
import torch

from dim_monai.data import workers
from dim_monai.data.workers import WorkerNotes

STREAM, ITEM = 1, 7
BROKEN = ConnectionResetError("by a process that dies")


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def notes_of(*rows: tuple[int, int, int]) -> WorkerNotes:
    notes = WorkerNotes(len(rows))
    notes._notes[:] = torch.tensor(rows)
    return notes


def word_of(process: int) -> RuntimeError:
    """What PyTorch raises from the handler of the signal of a death."""
    return RuntimeError(f"DataLoader worker (pid {process}) exited unexpectedly")


def struck_at(line: int, notes: WorkerNotes, process: int) -> tuple[bool, Any]:
    """Ask what died; the signal arrives at a line of the search, counted as they are run.

    Returns:
        Whether the search was as long as that, and what it found.
    """
    seen = 0

    def strike(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != workers.__file__ or frame.f_code.co_name == "of_the_dead":
            return strike
        if event == "line":
            seen += 1
            if seen == line:
                raise word_of(process)
        return strike

    before = sys.gettrace()
    sys.settrace(strike)
    try:
        found = notes.of_the_dead(BROKEN)
    finally:
        sys.settrace(before)
    return seen >= line, found


def test_the_word_of_a_death_may_arrive_at_any_line_of_the_search(dead: int) -> None:
    """The connection breaks first, and PyTorch's handler raises wherever the search is by then."""
    notes, line = notes_of((dead, STREAM, ITEM)), 1
    while True:
        struck, found = struck_at(line, notes, dead)
        assert found == (STREAM, ITEM), f"line {line}"
        if not struck:
            break
        line += 1
    assert line > 5  # it was struck


def test_a_process_that_was_between_two_cases_is_not_blamed(dead: int) -> None:
    assert notes_of((dead, -1, -1)).of_the_dead(word_of(dead)) is None


def test_other_errors_are_not_about_a_death(dead: int) -> None:
    notes = notes_of((dead, STREAM, ITEM))
    assert notes.of_the_dead(ValueError("of a transform")) is None
    assert notes.of_the_dead(word_of(dead + 1)) is None
