"""The table of scores as a CSV file: one line per case and region, nothing averaged."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dim_monai.errors import DataError, NumericError
from dim_monai.files import atomic_write
from dim_monai.metrics import (
    PAPER_NAMES,
    SCORE_NAMES,
    VCDR_NAMES,
    ClassScore,
    ScoreRow,
    Unit,
    score_names,
)

__all__ = ["ScoreRow", "columns", "read_scores_csv", "write_paper_csv", "write_scores_csv"]

_FIRST, _LAST = ("case", "domain", "split", "class"), ("note", "selection")
_PAPER_LAST = ("paper_note", "paper_selection")


def columns(scores: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the table that holds these scores, see `score_names`."""
    tolerance = "tolerance_px" if set(SCORE_NAMES["px"]) <= set(scores) else "tolerance_mm"
    return (*_FIRST, *scores, tolerance, *_LAST)


def write_scores_csv(path: str | os.PathLike[str], rows: Iterable[ScoreRow]) -> None:
    """Write the scores so that `read_scores_csv` returns equal rows; the file is whole or absent.

    Numbers carry all their digits; what is not scored is an empty cell. Names of columns hold the
    unit: ``hd95_mm`` of volumes, ``hd95_px`` of photographs. The tolerance is that of surface Dice;
    the selection says on every line what must be known of how the network was chosen.

    Args:
        path: the file to write or replace, UTF-8 with one header line.
        rows: the scores, in the order of the lines.

    Raises:
        DataError: the rows have several units.
        OSError: the file cannot be written; an older one is then left as it was.
    """
    rows = list(rows)
    names = score_names(rows)
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(columns(names))
        for row in rows:
            numbers = row.named()
            # None becomes an empty cell and a float its shortest exact form.
            cells = [numbers[name] for name in names]
            last = (row.score.tolerance, row.score.note, row.selection)
            writer.writerow([*_names(row), *cells, *last])


def write_paper_csv(path: str | os.PathLike[str], rows: Iterable[ScoreRow]) -> None:
    """Write the reference scores, one line per slice; the file is whole or absent.

    They have a file and names of their own, so that nobody takes them for the scores of cases.

    Args:
        path: the file to write or replace, UTF-8 with one header line.
        rows: the scores with their slices.

    Raises:
        OSError: the file cannot be written; an older one is then left as it was.
    """
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow((*_FIRST, "slice", *PAPER_NAMES, *_PAPER_LAST))
        for row in rows:
            for score in row.paper:
                cells = [score.slice, *score.named().values(), score.note, row.selection]
                writer.writerow([*_names(row), *cells])


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
        unit = _unit(header, path)
        return [_row(cells, header, unit, path, reader.line_num) for cells in reader]


def _names(row: ScoreRow) -> tuple[str, ...]:
    return row.case, row.domain, row.split, row.score.class_name


def _unit(header: tuple[str, ...], path: str | os.PathLike[str]) -> Unit:
    known = {columns(names): unit for unit, names in SCORE_NAMES.items()}
    known[columns((*SCORE_NAMES["px"], *VCDR_NAMES))] = "px"
    if header not in known:
        expected = " or ".join(",".join(names) for names in known)
        raise DataError("columns of the table of scores", file=path, got=header, expected=expected)
    return known[header]


def _row(
    cells: list[str], header: Sequence[str], unit: Unit, path: str | os.PathLike[str], line: int
) -> ScoreRow:
    if len(cells) != len(header):
        raise DataError(
            f"line {line} of the table of scores",
            file=path,
            got=f"{len(cells)} cells",
            expected=len(header),
        )
    case, domain, split, class_name, *texts, note, selection = cells
    try:
        numbers = [None if text == "" else float(text) for text in texts]
        dice, jaccard, hd95, assd, surface, size_error, *ratios, tolerance = numbers
        score = ClassScore(
            class_name, dice, jaccard, hd95, assd, size_error, note, unit, surface, tolerance
        )
        vcdr, vcdr_truth = ratios or (None, None)
        return ScoreRow(case, domain, split, score, vcdr, vcdr_truth, selection)
    except (ValueError, NumericError) as error:
        raise DataError(
            f"line {line} of the table of scores",
            file=path,
            got=texts,
            expected="finite numbers or empty cells",
        ) from error
