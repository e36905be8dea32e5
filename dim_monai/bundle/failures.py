"""The last line of a failed run says what failed."""

from __future__ import annotations

import sys
from types import TracebackType

from dim_monai.errors import DimError


def show_cause_last() -> None:
    """Make an uncaught DimError the last line of the output.

    MONAI wraps whatever a config expression raises in a RuntimeError that only repeats the
    expression, and a traceback ends with the outermost error: the sentence written for the user
    would stand somewhere in the middle. To be called first in a config's ``initialize``. The
    traceback and the exit status stay as they are; calling it again changes nothing.
    """
    if sys.excepthook is not _cause_last:
        sys.excepthook = _cause_last


def _cause_last(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.__excepthook__(kind, error, trace)
    cause = _first_dim_error(error)
    if cause is not None and cause is not error:
        sys.stderr.write(f"\n{type(cause).__name__}: {cause}\n")


def _first_dim_error(error: BaseException | None) -> DimError | None:
    while error is not None:
        if isinstance(error, DimError):
            return error
        error = error.__cause__ or error.__context__
    return None
