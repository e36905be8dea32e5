"""Typed errors: what failed, in which file, what was got, what was expected, what to do."""

from __future__ import annotations

from os import PathLike


class DimError(Exception):
    """Base of every error that dim_monai raises on purpose.

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
        parts = [what if file is None else f"{what}: {file}"]
        if got is not None:
            parts.append(f"got {got}")
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
