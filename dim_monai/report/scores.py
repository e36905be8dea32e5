"""The table of scores as a CSV file: one line per case and region, nothing averaged."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from dim_monai.errors import DataError, NumericError
from dim_monai.files import atomic_write
from dim_monai.metrics import SCORE_NAMES, ClassScore, ScoreRow

__all__ = ["COLUMNS", "ScoreRow", "read_scores_csv", "write_scores_csv"]

COLUMNS = ("case", "domain", "split", "class", *SCORE_NAMES, "note")


def write_scores_csv(path: str | os.PathLike[str], rows: Iterable[ScoreRow]) -> None:
    """Write the scores so that `read_scores_csv` returns equal rows; the file is whole or absent.

    Numbers carry all their digits; what is not scored is an empty cell.

    Args:
        path: the file to write or replace, UTF-8 with the header `COLUMNS`.
        rows: the scores, in the order of the lines.

    Raises:
        OSError: the file cannot be written; an older one is then left as it was.
    """
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            score = row.score
            numbers = (getattr(score, name) for name in SCORE_NAMES)
            # None becomes an empty cell and a float its shortest exact form.
            writer.writerow(
                [row.case, row.domain, row.split, score.class_name, *numbers, score.note]
            )


def read_scores_csv(path: str | os.PathLike[str]) -> list[ScoreRow]:
    """Read what `write_scores_csv` wrote, and refuse anything else.

    Args:
        path: the file.

    Returns:
        The rows, in the order of the lines.

    Raises:
        DataError: the file is missing, its columns are others, or a cell is not a finite number.
    """
    if not Path(path).is_file():
        raise DataError("no table of scores", file=path, do="run the evaluation that writes it")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise DataError(
                "columns of the table of scores", file=path, got=header, expected=COLUMNS
            )
        return [_row(cells, path, reader.line_num) for cells in reader]


def _row(cells: list[str], path: str | os.PathLike[str], line: int) -> ScoreRow:
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"line {line} of the table of scores",
            file=path,
            got=f"{len(cells)} cells",
            expected=len(COLUMNS),
        )
    case, domain, split, class_name, *numbers, note = cells
    try:
        dice, jaccard, hd95, assd, volume = (None if c == "" else float(c) for c in numbers)
        score = ClassScore(class_name, dice, jaccard, hd95, assd, volume, note)
    except (ValueError, NumericError) as error:
        raise DataError(
            f"line {line} of the table of scores",
            file=path,
            got=numbers,
            expected="finite numbers or empty cells",
        ) from error
    return ScoreRow(case, domain, split, score)
