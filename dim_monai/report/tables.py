"""The means of every split, with all that has to stand beside them, for the page and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.metrics import ScoreRow, Summary, split_digest, summarise, summarise_paper

MINUS = (
    "\N{MINUS SIGN}"  # as wide as the plus, so that the signs of a column stand under each other
)
NOT_SCORED = "\N{EN DASH}"

# Column heading and number format of each score; signed where the sign is the message.
SHOWN = {
    "dice": ("Dice", ".3f"),
    "jaccard": ("Jaccard", ".3f"),
    "hd95_mm": ("HD95 (mm)", ".1f"),
    "assd_mm": ("ASSD (mm)", ".2f"),
    "surface_dice": ("Surface Dice", ".3f"),
    "volume_error_ml": ("Volume error (ml)", "+.1f"),
    "hd95_px": ("HD95 (px)", ".1f"),
    "assd_px": ("ASSD (px)", ".2f"),
    "area_error_px": ("Area error (px)", "+.0f"),
    "vcdr": ("vCDR", ".2f"),
    "vcdr_truth": ("true vCDR", ".2f"),
    "vcdr_error": ("vCDR error", "+.2f"),
    "paper_dice": ("Paper Dice", ".3f"),
    "paper_jaccard": ("Paper Jaccard", ".3f"),
    "paper_hd95_px": ("Paper 95HD (px)", ".2f"),
    "paper_asd_px": ("Paper ASD (px)", ".2f"),
}


@dataclass(frozen=True)
class Table:
    """The means of one split.

    Args:
        split: its name.
        cases: number of its cases.
        sha256: of its cases as they were scored, see `split_digest`; "" if unknown.
        selection: what a reader must know about how the network was chosen, or "".
        tolerances: of surface Dice, such as ``("2 mm",)``; empty if unknown.
        summaries: of the cases.
        paper: of the slices, by the reference definitions; empty unless asked for.
    """

    split: str
    cases: int
    sha256: str
    selection: str
    tolerances: tuple[str, ...]
    summaries: Sequence[Summary]
    paper: Sequence[Summary]

    @property
    def cases_and_digest(self) -> str:
        """What stands beside the table of slices: number and digest of the cases."""
        return f"cases: {self.cases}" + (f", SHA-256 {self.sha256}" if self.sha256 else "")

    @property
    def facts(self) -> str:
        """What stands beside the table: number and digest of the cases, and the tolerance."""
        within = (f"surface Dice within {tolerance}" for tolerance in self.tolerances)
        return ", ".join([self.cases_and_digest, *within])


def selection_mark(notes: Iterable[str]) -> str:
    """Return what the notes of a data list say of the selection, in three words, or ""."""
    return SELECTED_ON_TEST if any(note.startswith(SELECTED_ON_TEST) for note in notes) else ""


def tables(rows: Iterable[ScoreRow]) -> list[Table]:
    """Return one table for every split, in the order of the rows.

    Raises:
        DataError: the rows of a split have several units.
    """
    splits: dict[str, list[ScoreRow]] = {}
    for row in rows:
        splits.setdefault(row.split, []).append(row)
    return [
        Table(
            split,
            cases=len({(row.domain, row.case) for row in members}),
            sha256=split_digest(members),
            selection=", ".join(sorted({row.selection for row in members} - {""})),
            tolerances=_tolerances(members),
            summaries=summarise(members),
            paper=summarise_paper(members),
        )
        for split, members in splits.items()
    ]


def printed_summary(rows: Iterable[ScoreRow], beside: Mapping[str, str]) -> list[str]:
    """Return the means of every split as lines of text, each with how many of how many it is of.

    Every line says what must be known of the selection, for lines are quoted alone. The text is
    ASCII where the names are: a log may go to a terminal that knows nothing else.

    Args:
        rows: the table of scores.
        beside: what stands beside every table, such as how the network was chosen, by its name.
    """
    lines = []
    for table in tables(rows):
        title = f"{table.split}, {table.selection}" if table.selection else table.split
        facts = "; ".join([table.facts, *(f"{name}: {fact}" for name, fact in beside.items())])
        lines.append(f"{title}: {facts}")
        lines += [f"{title}: {_line(summary)}" for summary in table.summaries]
        lines += [
            f"{title}, reference definitions per slice: {_line(summary)}" for summary in table.paper
        ]
    return lines


def shown(value: float | None, name: str) -> str:
    """Return a score as printed: its own precision, a true minus, a dash where there is none."""
    return NOT_SCORED if value is None else format(value, SHOWN[name][1]).replace("-", MINUS)


def _line(summary: Summary) -> str:
    means = (
        f"{SHOWN[name][0]} {'-' if mean is None else format(mean, SHOWN[name][1])} "
        f"({summary.scored[name]}/{summary.n_total})"
        for name, mean in summary.mean.items()
    )
    empty = f"{summary.n_missed} missed, {summary.n_false_positive} false positive"
    return f"{summary.class_name}, {summary.domain}: {', '.join(means)}; {empty}"


def _tolerances(rows: Iterable[ScoreRow]) -> tuple[str, ...]:
    known = {(row.score.tolerance, row.score.unit) for row in rows}
    return tuple(f"{value:g} {unit}" for value, unit in known if value is not None)
