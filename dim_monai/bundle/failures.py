"""The last line of a failed run says what failed."""

from __future__ import annotations

import sys
from types import TracebackType

from dim_monai.errors import DimError


def show_cause_last() -> None:
    """Make the cause of an uncaught error the last line of the output.

    MONAI wraps whatever a config expression raises in a RuntimeError that only repeats the
    expression, and a traceback ends with the outermost error: what happened would stand somewhere
    in the middle. The cause is the DimError among the errors, whose sentence is written for the
    user, else the one that all others were raised from. To be called first in a config's
    ``initialize``. The traceback and the exit status stay as they are; calling it again changes
    nothing.
    """
    if sys.excepthook is not _cause_last:
        sys.excepthook = _cause_last


def _cause_last(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.__excepthook__(kind, error, trace)
    cause = _first_dim_error(error) or _innermost(error)
    if cause is not error:
        text = str(cause) if isinstance(cause, DimError) else " ".join(str(cause).split())
        name = type(cause).__name__
        sys.stderr.write(f"\n{name}: {text}\n" if text else f"\n{name}\n")


def _first_dim_error(error: BaseException | None) -> DimError | None:
    while error is not None:
        if isinstance(error, DimError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _innermost(error: BaseException) -> BaseException:
    """Follow what an error was raised from; what was only being handled then may be unrelated."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
