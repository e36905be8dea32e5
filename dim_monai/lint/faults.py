"""One fault of a bundle: a stable code and one line with what was got and expected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dim_monai.errors import DataError
from dim_monai.lint.codes import CODES

MAX_SHOWN = 120
"""Characters of a bundle's own text in a line: enough to find it, too few to hide the rest."""


@dataclass(frozen=True)
class Fault:
    """One reason why a bundle should not be run.

    Attributes:
        code: a key of `CODES`.
        what: what is wrong, in one clause.
        file: the file that is wrong.
        line: its line, counted from 1; None where there is none or JSON does not tell.
        id: where in the config, such as ``train::handlers::0``.
        got: what was found there.
        expected: what should have been found.
        do: what to do about it.
    """

    code: str
    what: str
    file: Path
    line: int | None = None
    id: str | None = None
    got: str | None = None
    expected: str | None = None
    do: str | None = None

    def __post_init__(self) -> None:
        """Refuse a code that the table does not know."""
        if self.code not in CODES:
            raise ValueError(f"unknown code {self.code!r}")

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the fields as JSON has them; what a bundle wrote is made printable."""
        texts = {
            "file": str(self.file),
            "id": self.id,
            "got": self.got,
            "expected": self.expected,
            "do": self.do,
        }
        shown = {name: None if text is None else printable(text) for name, text in texts.items()}
        return {"code": self.code, "what": printable(self.what), "line": self.line, **shown}

    def __str__(self) -> str:
        """Return the fault on one line."""
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        what = self.what if self.id is None else f"{self.what} in {self.id}"
        error = DataError(what, file=place, got=self.got, expected=self.expected, do=self.do)
        return f"{self.code} {printable(str(error))}"


def shown(text: object) -> str:
    """Return the beginning of what a bundle wrote, in quotation marks."""
    whole = str(text)
    return repr(whole if len(whole) <= MAX_SHOWN else whole[:MAX_SHOWN] + "...")


def printable(text: str) -> str:
    """Return ``text`` with all that could move a cursor or break a line written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
