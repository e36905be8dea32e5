"""The files that measurements write: CSV, Markdown, and lines between two marks of a page."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from threading import Lock
from typing import Any

from dim_monai.files import atomic_write

_ADDING = Lock()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_rows(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a CSV file, which is begun if there is none; threads may do so at a time.

    Raises:
        ValueError: the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _ADDING, path.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        there = next(csv.reader(file), list(columns))
        if there != list(columns):
            raise ValueError(f"{path} has the columns {there}, expected {list(columns)}")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not path.stat().st_size:
            writer.writeheader()
        writer.writerows(rows)


def write_table(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as the rows of a CSV file, which is begun anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [field.name for field in fields(rows[0])]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def show(table: Sequence[str], path: Path | None) -> None:
    """Print the lines of a table and, if there is a path, write them there."""
    content = "\n".join([*table, ""])
    sys.stdout.write(content)
    if path:
        path.write_text(content, encoding="utf-8")


def write_between(file: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Put lines between two marks of a text file.

    Raises:
        ValueError: the marks are not there once each.
    """
    text = file.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{file} needs one {begin} and one {end}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    with atomic_write(file, "w") as whole:
        whole.write("\n".join([before + begin, *lines, end + after]))
