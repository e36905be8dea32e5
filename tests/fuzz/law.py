"""What every reader owes to every input: the right answer, or one clear line that names the file.

And in any case: soon, in little memory, without a warning, without a word in a log.
"""

from __future__ import annotations

import logging
import resource
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings

from dim_monai.errors import DimError, one_line

Result = TypeVar("Result")

INPUTS = 500
"""Least number of generated inputs for each format."""

SECONDS = 5.0
"""Processor time that one tiny input may take; it takes some milliseconds."""

MEMORY_BYTES = 256 * 2**20
"""Address space that reading one tiny input may add; a hundred times of what it needs."""

LONGEST = 1500
"""Characters of a message beyond the path of its file."""

SECRET = "Doe^Jane"  # noqa: S105
"""Text that the inputs hold where a scanner writes names, and that no message may repeat."""


def bounded(examples: int = INPUTS) -> settings:
    """How many inputs, and none is too large or too rarely of use."""
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


def outcome(read: Callable[[], Result], file: Path, *, reserves: bool = False) -> Result | DimError:
    """Return what ``read`` returns or the DimError that it raises; fail if it breaks the law.

    Args:
        read: reads one input.
        file: of the input, which a refusal must name.
        reserves: whether the parser may reserve room for what a damaged length promises, and be
            refused it. It touches no more than it finds in the file.
    """
    result: Result | DimError
    start = time.process_time()
    with (
        warnings.catch_warnings(record=True) as warned,
        _overheard() as logged,
        _little_memory(),
    ):
        warnings.simplefilter("always")
        try:
            result = read()
        except DimError as error:
            result = error
    assert time.process_time() - start < SECONDS
    said = [str(w.message) for w in warned if not _is_of_others(w, file)]
    assert not said, said
    assert [record.getMessage() for record in logged] == []
    if isinstance(result, DimError):
        require_plain(result, file)
        assert reserves or "MemoryError" not in str(result)
    return result


def _is_of_others(warning: warnings.WarningMessage, file: Path) -> bool:
    """Tell what earlier tests left open: the collector may find it during any later one."""
    return warning.category is ResourceWarning and str(file) not in str(warning.message)


def require_plain(error: DimError, file: Path) -> None:
    """Fail unless the message is one short line that names the file and nobody."""
    said = str(error)
    assert error.file is not None
    assert one_line(file) in said
    assert one_line(error.file) in said
    assert {
        char for char in said if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    } == set()
    assert len(said) < LONGEST + len(error.file)
    assert SECRET not in said


def require_both(outcomes: Counter[str], inputs: int = INPUTS) -> None:
    """Fail unless there were enough inputs, and neither all were refused nor all accepted."""
    assert outcomes.total() >= inputs
    assert outcomes["refused"] > inputs / 20
    assert outcomes["accepted"] > inputs / 20


@contextmanager
def _overheard() -> Iterator[list[logging.LogRecord]]:
    """Yield the list to which every record of any logger is added."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Let allocations fail that would take `MEMORY_BYTES` more than the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
