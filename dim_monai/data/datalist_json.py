"""The JSON of a data list: its keys, and the entries that it holds."""

from __future__ import annotations

import difflib
import json
import os
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias, cast

from dim_monai.data.kinds import PHOTOGRAPH, VOLUME
from dim_monai.data.photograph import is_photograph
from dim_monai.errors import DataError

Entry = dict[str, str]
"""One case: paths and names by their keys."""

Fact: TypeAlias = str | int | float
"""What a data list says of how it was made."""

LISTS = ("labeled", "unlabeled", "validation", "test")
HASH_KEYS = {"image": "image_sha256", "label": "label_sha256"}
ENTRY_KEYS = ("image", "label", "domain", "case", "patient", *HASH_KEYS.values())
FACT_KEYS = (
    "layout",
    "kind",
    "protocol",
    "seed",
    "labeled_domain",
    "labeled_cases",
    "validation_fraction",
    "test_fraction",
    "command",
)
DATALIST_NAME = "datalist.json"
UNKNOWN_DOMAIN = "unknown"

_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_SHORT = reprlib.Repr()
_SHORT.maxstring = 120


def read_json(path: Path) -> dict[str, object]:
    """Return the object that a data list holds.

    Raises:
        DataError: the file cannot be read, is no JSON object, or has a key twice.
    """

    def refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = Counter(key for key, _ in pairs)
        if len(keys) < len(pairs):
            repeated = ", ".join(shown(key)[1:-1] for key, count in keys.items() if count > 1)
            raise DataError("repeated key in data list", file=path, got=repeated[:_LONGEST_NAME])
        return dict(pairs)

    def refuse_constants(name: str) -> NoReturn:
        raise DataError("malformed JSON", file=path, got=name, expected="finite numbers")

    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(
            text, object_pairs_hook=refuse_repeated_keys, parse_constant=refuse_constants
        )
        if "\\ud" in text.lower():  # may be half of a character, which no other file can hold
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError("malformed JSON", file=path, got=f"{error.msg} at {where}") from error
    except (OSError, UnicodeError) as error:
        raise DataError("data list cannot be read", file=path, got=error) from error
    except (RecursionError, ValueError) as error:  # the latter for an integer of 4300 digits
        got = "lists within lists" if isinstance(error, RecursionError) else "a number too long"
        raise DataError("malformed JSON", file=path, got=got) from error
    if not isinstance(document, dict):
        raise DataError("malformed data list", file=path, expected="an object with four lists")
    return document


def parse_list(document: Mapping[str, object], name: str, file: Path) -> tuple[Entry, ...]:
    """Return the entries of one list, complete and with absolute paths.

    Raises:
        DataError: an entry lacks what its list demands, holds what it forbids, has an unknown key,
            or names a file that does not exist.
    """
    raw = document.get(name, [])
    if not is_list_of(raw, dict):
        raise DataError("malformed data list", file=file, expected=f'"{name}" a list of objects')
    entries = cast(list[dict[str, object]], raw)
    return tuple(
        _parse_entry(entry, name, f"{name}[{index}]", file) for index, entry in enumerate(entries)
    )


def _parse_entry(raw: Mapping[str, object], name: str, where: str, file: Path) -> Entry:
    refuse_unknown_keys(raw, ENTRY_KEYS, file, where)
    for key, value in raw.items():
        if not isinstance(value, str) or not value:
            got, expected = f"{key} {shown(value)}", "a string"
            raise DataError(f"malformed {where}", file=file, got=got, expected=expected)
        longest = _LONGEST_PATH if key in HASH_KEYS else _LONGEST_NAME
        if len(value) > longest or (key in HASH_KEYS and not _is_line(value)):
            got, expected = f"{key} {shown(value)}", f"one line of at most {longest} characters"
            raise DataError(f"malformed {where}", file=file, got=got, expected=expected)
    entry = cast(Mapping[str, str], raw)
    paths = {key: file.parent / entry[key] for key in files_of(entry)}
    if "image" not in paths:
        raise DataError(f"{where} has no image", file=file, do='give its path as "image"')
    if name != "unlabeled" and "label" not in paths:
        raise DataError(
            f"{where} has no label",
            file=file,
            got=shown(entry["image"])[1:-1],
            do='give its path as "label", or list the case under "unlabeled"',
        )
    if name == "unlabeled" and "label" in paths:
        raise DataError(
            f"{where} has a label",
            file=file,
            got=shown(entry["label"])[1:-1],
            do='list the case under "labeled", or take the label out: it would not be used',
        )
    for key, path in paths.items():
        try:
            found = path.exists() if key == "image" else path.is_file()
        except OSError as error:  # a name too long, a folder that may not be searched
            what = f"{key} of {where} cannot be read"
            raise DataError(what, file=path, got=error.strerror, do=f"mend {file}") from error
        if not found:
            raise DataError(f"{key} of {where} does not exist", file=path, do=f"mend {file}")
    return make_entry(**{**entry, **{key: os.path.abspath(path) for key, path in paths.items()}})


def make_entry(*, image: str, domain: str = UNKNOWN_DOMAIN, **given: str) -> Entry:
    """Return a complete entry; the key order is that of ``ENTRY_KEYS``."""
    case = given.get("case", (PHOTOGRAPH if is_photograph(image) else VOLUME).case_name(image))
    complete = {"patient": f"{domain}/{case}", **given}
    complete |= {"image": image, "domain": domain, "case": case}
    return {key: complete[key] for key in ENTRY_KEYS if key in complete}


def refuse_unknown_keys(found: Iterable[str], known: Sequence[str], file: Path, what: str) -> None:
    """Refuse keys that do not exist.

    Raises:
        DataError: names the first of them and the closest known one.
    """
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise DataError(
                f"unknown key in {what}",
                file=file,
                got=shown(key),
                expected=f"one of {', '.join(known)}",
                do=f"did you mean {close[0]!r}?" if close else None,
            )


def files_of(entry: Mapping[str, str]) -> list[str]:
    """Return the keys of an entry that name files."""
    return [key for key in HASH_KEYS if key in entry]


def shown(value: object) -> str:
    """Return a value from outside as one line for a message, shortened in the middle."""
    return _SHORT.repr(value)


def is_list_of(value: object, kind: type) -> bool:
    """Whether ``value`` is a list of nothing but ``kind``."""
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is_line(text: str) -> bool:
    """Whether ``text`` is one line without control characters.

    Other signs that cannot be seen, such as a space that does not break, are allowed.
    """
    return not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text)
