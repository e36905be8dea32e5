"""What a demo set is: its version, its cases and how one of them is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Split = Mapping[str, Mapping[str, int]]
"""Cases per list of the data list and domain."""


class WriteCase(Protocol):
    """Writes one case: its image below `images` and, if that is given, its label below `labels`.

    Returns the two paths. The folders may not exist yet.
    """

    def __call__(
        self, domain: str, number: int, seed: int, *, images: Path, labels: Path | None
    ) -> tuple[Path, Path | None]:
        """Write case `number` of `domain`."""


@dataclass(frozen=True)
class DemoSet:
    """One demo set.

    Attributes:
        identity: version, raised whenever the same seed would give other cases or another layout,
            and what else tells the set from the other ones.
        split: cases per list and domain. Validation comes from the labelled domain, as it would in
            practice.
        write_case: writes one of its cases.
    """

    identity: Mapping[str, str | int]
    split: Split
    write_case: WriteCase


def case_name(domain: str, number: int) -> str:
    """Return the name of a case, which is also that of its patient."""
    return f"{domain}_{number:02d}"
