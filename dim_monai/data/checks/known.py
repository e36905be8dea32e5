"""The cases that were sound when a training last began, so that 10,000 need not be read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import dim_monai
from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.codes import CODES
from dim_monai.data.datalist import Entry
from dim_monai.data.identity import entry_identity, key_of
from dim_monai.data.labels import LabelMapping
from dim_monai.data.remembered import Remembered

CHECKS = "checks.json"

_OF_THE_LIST = ("case", "domain", "split")
"""Facts that the data list says itself: no name of a case is written."""


class KnownCases:
    """Facts of sound cases, as long as nothing changes on which the checks depend.

    That is a case's entry and list, its files, the label mapping, the kind, and the checks.

    Args:
        folder: see `Remembered`.
        mapping: which label values are allowed.
        kind: of the cases.
    """

    def __init__(self, folder: str | None, mapping: LabelMapping, kind: str) -> None:
        self._remembered = Remembered(folder, CHECKS)
        self._settings = (dim_monai.__version__, CODES, str(mapping), kind)

    def key(self, entry: Entry, split: str) -> str | None:
        """Return what the facts of a case are found by; None if a file of it is missing."""
        try:
            return key_of(*self._settings, split, entry_identity(entry))
        except OSError:
            return None

    def facts(self, key: str | None, entry: Entry, split: str) -> CaseFacts | None:
        """Return the facts of a case that was sound; None if it must be opened."""
        known = None if key is None else self._remembered.recall(key)
        if not isinstance(known, Mapping) or known.keys() != _STORED:
            return None
        read = {name: _as_tuple(value) for name, value in known.items()}
        return CaseFacts(entry["case"], entry["domain"], split, **read)

    def note(self, key: str | None, facts: CaseFacts) -> None:
        """Keep the facts of a sound case until `save`."""
        if key is not None:
            told = asdict(facts)
            self._remembered.note(key, {name: told[name] for name in _STORED})

    def save(self) -> None:
        """Write what was noted.

        Raises:
            DataError: the folder cannot be written.
        """
        self._remembered.save()


_STORED = {field.name for field in fields(CaseFacts)} - {*_OF_THE_LIST}


def _as_tuple(value: Any) -> Any:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list else value
