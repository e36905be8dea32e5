"""One fault or remark: a stable code and one line with what was got and expected."""

from __future__ import annotations

from dataclasses import dataclass

from dim_monai.data.checks.codes import CODES
from dim_monai.errors import DataError


@dataclass(frozen=True)
class Fault:
    """One reason why data cannot be used (code D...), or a remark on them (code R...).

    Attributes:
        code: a key of `CODES`.
        what: what is wrong, in one clause.
        file: the file or folder that is wrong; None where it is the data list itself.
        got: what was found there.
        expected: what should have been found.
        do: what the user can do about it.
    """

    code: str
    what: str
    file: str | None
    got: object = None
    expected: object = None
    do: str | None = None

    def __post_init__(self) -> None:
        """Refuse a code that the table does not know."""
        if self.code not in CODES:
            raise ValueError(f"unknown code {self.code!r}")

    @classmethod
    def of(cls, code: str, error: DataError, file: str | None) -> Fault:
        """Return an error as a fault; it is about ``file`` where it names none itself."""
        return cls(code, error.what, error.file or file, error.got, error.expected, error.do)

    @property
    def is_remark(self) -> bool:
        """Whether the data can be used as they are."""
        return self.code.startswith("R")

    def as_dict(self) -> dict[str, str | None]:
        """Return the fields as JSON has them: strings, or None for what is not said."""
        said = {"got": self.got, "expected": self.expected}
        return {
            "code": self.code,
            "what": self.what,
            "file": self.file,
            **{name: None if value is None else str(value) for name, value in said.items()},
            "do": self.do,
        }

    def __str__(self) -> str:
        """Return the fault on one line."""
        error = DataError(
            self.what, file=self.file, got=self.got, expected=self.expected, do=self.do
        )
        return f"{self.code} {' '.join(str(error).splitlines())}"


def no_labelled_case() -> Fault:
    """Return the fault of a list that has nothing to learn from."""
    return Fault("D007", "no labelled case", None, expected="at least one to train on")
