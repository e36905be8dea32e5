"""Typed errors: what failed, in which file, what was got, what was expected, what to do."""

from __future__ import annotations

from os import PathLike


def one_line(text: object) -> str:
    """Return text that comes from outside with every character visible, on one line.

    Names of files and values of headers may hold line ends or control characters of a terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def counted(number: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class DimError(Exception):
    """Base of every error that dim_monai raises on purpose.

    In the message, file and what was got stand on one line, whatever they hold.

    Args:
        what: what failed, in one clause.
        file: the file or folder it failed on.
        got: what was found there.
        expected: what should have been found.
        do: what the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | PathLike[str] | None = None,
        got: object = None,
        expected: object = None,
        do: str | None = None,
    ) -> None:
        self.what = what
        self.file = None if file is None else str(file)
        self.got = got
        self.expected = expected
        self.do = do
        parts = [what if file is None else f"{what}: {one_line(file)}"]
        if got is not None:
            parts.append(f"got {one_line(got)}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if do is not None:
            parts.append(do)
        super().__init__("; ".join(parts))


class DataError(DimError):
    """An image, label, series, data list or folder that cannot be used as it is."""


class ConfigError(DimError):
    """A setting that is unknown, contradictory or out of range."""


class CheckpointError(DimError):
    """A weight or checkpoint file that is missing, damaged or of another network."""


class NumericError(DimError):
    """A computation that left the finite numbers and cannot go on."""
