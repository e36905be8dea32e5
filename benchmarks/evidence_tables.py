"""The tables of ``evidence.py``, from the rows of its cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from evidence_data import PARTS
from evidence_plan import ABLATION, GROUPS, HALF, SETTINGS, VARIANTS, present
from paired import dice_of, difference, mean_and_spread, paired_interval, with_interval

Row = dict[str, str]
NOT_RUN, BROKEN = "not run", "DOES NOT HOLD"
SEEDS = 3
"""Of a cell of fewer the table says so."""


@dataclass(frozen=True)
class Table:
    """One table, of text."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def markdown(self) -> list[str]:
        """The table without its title and note; nothing where it has no lines."""
        if not self.lines:
            return []
        rows = [self.header, ("---",) * len(self.header), *self.lines]
        return [f"| {' | '.join(row)} |" for row in rows]


@dataclass(frozen=True)
class Results:
    """The rows of all cells; those of the settings as they are now count, the others are counted.

    Attributes:
        rows: of ``evidence_cell.SCORES``.
        steps: variant to its mean step as a ratio to that of MiDSS, see ``mean_step``.
    """

    rows: Sequence[Row]
    steps: Mapping[str, float] = field(default_factory=dict)

    def of(self, part: str, setting: str, variant: str) -> list[Row]:
        """Return the scored rows of a variant with its present settings."""
        wanted = {"part": part, "setting": setting, "digest": present(setting, variant)}
        return [row for row in self.rows if wanted.items() <= row.items() and row["dice"]]

    def left_out(self, part: str, setting: str) -> int:
        """Return how many rows belong to other settings than the present ones."""
        variants = {v for g in GROUPS.values() if setting in g.settings for v in g.variants}
        known = {present(setting, variant) for variant in variants}
        rows = [row for row in self.rows if (row["part"], row["setting"]) == (part, setting)]
        return sum(row["digest"] not in known for row in rows)


def group_tables(results: Results, name: str, part: str) -> list[Table]:
    """Return a table for each setting of a group."""
    group = GROUPS[name]
    tables = []
    for setting in group.settings:
        first, second = SETTINGS[setting].source.domains
        minus = f"minus {VARIANTS[group.baseline].title}"
        header = (
            "method", "seeds", f"Dice {first}", minus, f"Dice {second}", minus, f"both, {minus}",
            "sharpness SAM / ASAM", "step / MiDSS", "GB",
        )  # fmt: skip
        lines = [_line(results, part, setting, v, group.baseline) for v in group.variants]
        left_out = results.left_out(part, setting)
        notes = [f"{left_out} rows of other settings were left out."] if left_out else []
        if not any(results.of(part, setting, variant) for variant in group.variants):
            # A line each would look like a finding.
            notes.insert(0, f"Not run: {', '.join(VARIANTS[v].title for v in group.variants)}.")
            lines = []
        title = f"{setting}, {part}: {SETTINGS[setting].title}"
        tables.append(Table(title, header, tuple(lines), " ".join(notes)))
    return tables


def _line(
    results: Results, part: str, setting: str, variant: str, baseline: str
) -> tuple[str, ...]:
    title, rows = VARIANTS[variant].title, results.of(part, setting, variant)
    if variant != baseline and present(setting, variant) == present(setting, baseline):
        # The same training under another name: a difference of 0 would look like a replication.
        return (title, f"= {VARIANTS[baseline].title}", *[""] * 8)
    if not rows:
        return (title, NOT_RUN, *[""] * 8)
    others = results.of(part, setting, baseline) if variant != baseline else []
    columns = [title, ", ".join(sorted({row["seed"] for row in rows}, key=int))]
    for domain in SETTINGS[setting].source.domains:
        here, there = (in_domain(part_of, domain) for part_of in (rows, others))
        columns += [mean_and_spread(here), difference(here, there, "patient")]
    columns.append(difference(rows, others, "patient"))
    columns.append(" / ".join(_mean(rows, f"sharpness_{rule}", 3) for rule in ("sam", "asam")))
    # Minutes are kept, too, but not shown: cells share their machine. The ratio is of steps as
    # dim_prostate makes them.
    timed = SETTINGS[setting].bundle == "dim_prostate"
    ratio = results.steps.get(variant.removeprefix(HALF)) if timed else None
    step = "-" if ratio is None else f"{ratio:.2f}"
    return (*columns, step, _mean(rows, "peak_gb", 1))


def in_domain(rows: Iterable[Row], domain: str) -> list[Row]:
    """Return the rows of one domain."""
    return [row for row in rows if row["domain"] == domain]


def _mean(rows: Iterable[Row], name: str, digits: int) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    return f"{np.mean(values):.{digits}f}" if values else "-"


@dataclass(frozen=True)
class Claim:
    """That one variant is better than another."""

    text: str
    better: str
    worse: str
    flatter: bool = False


CLAIMS = (
    Claim("Unlabelled images help: DiM above supervised", "dim", "supervised"),
    Claim("DiM above its base, MiDSS", "dim", "midss"),
    Claim("The sharpness-aware step helps: DiM above DiM without it", "dim", "no_sharpness"),
    Claim("The f-divergence helps: DiM above DiM without it", "dim", "no_divergence"),
    Claim("The network is flatter: sharpness (SAM) of DiM below MiDSS", "dim", "midss", True),
)


def claims_table(results: Results, part: str, settings: Sequence[str]) -> Table:
    """Return what the ablation says of each claim: holds, does not hold, not shown, or not run."""
    lines = [(c.text, *(_verdict(results, part, s, c) for s in settings)) for c in CLAIMS]
    note = (
        "Holds or does not hold: the 95 % interval of the paired difference is on one side of 0. "
        f"Fewer than {SEEDS} seeds show nothing."
    )
    return Table(f"What is claimed of DiM, {part}", ("claim", *settings), tuple(lines), note)


def _verdict(results: Results, part: str, setting: str, claim: Claim) -> str:
    of = [results.of(part, setting, variant) for variant in (claim.better, claim.worse)]
    better, worse = (_sharpness(r) if claim.flatter else dice_of(r, "patient") for r in of)
    common = better.keys() & worse.keys()
    if not common:
        return NOT_RUN
    mean, low, high = paired_interval(better, worse)
    seeds = len({seed for seed, _ in common})
    verdict = "not shown"
    if seeds >= SEEDS and low * high > 0:
        verdict = "holds" if (mean > 0) != claim.flatter else BROKEN
    return f"{verdict}: {with_interval(mean, low, high)}{few(seeds)}"


def _sharpness(rows: Iterable[Row]) -> dict[tuple[int, str], float]:
    return {(int(r["seed"]), ""): float(r["sharpness_sam"]) for r in rows if r["sharpness_sam"]}


def few(seeds: int) -> str:
    """Return what is said beside a number of fewer seeds than a claim needs."""
    return "" if seeds >= SEEDS else f" [{seeds} seed{'s' if seeds > 1 else ''}]"


def readme_table(results: Results) -> Table:
    """Return the test part of the ablation in all its settings, a line a method."""
    settings = GROUPS["ablation"].settings
    header = ["method"]
    for setting in settings:
        domains = " / ".join(SETTINGS[setting].source.domains)
        header += [f"{setting}: Dice {domains}", "both, minus supervised"]
    lines = []
    for variant in ABLATION:
        line = [VARIANTS[variant].title]
        for setting in settings:
            line += _in_short(results, setting, variant)
        lines.append(tuple(line))
    left_out = sum(results.left_out("test", setting) for setting in settings)
    return Table("", tuple(header), tuple(lines), f"{left_out} rows of other settings left out.")


def _in_short(results: Results, setting: str, variant: str) -> tuple[str, str]:
    rows = results.of("test", setting, variant)
    if not rows:
        return NOT_RUN, ""
    baseline = results.of("test", setting, "supervised") if variant != "supervised" else []
    dice = [mean_and_spread(in_domain(rows, d)) for d in SETTINGS[setting].source.domains]
    seeds = len({row["seed"] for row in rows})
    return " / ".join(dice) + few(seeds), difference(rows, baseline, "patient")


def readme_lines(results: Results, diagnosis: Iterable[Row]) -> list[str]:
    """Return what stands between the marks of the README."""
    table = readme_table(results)
    settings = GROUPS["ablation"].settings
    claims = claims_table(results, "test", settings)
    broken = [
        f"{text} ({setting})"
        for text, *verdicts in claims.lines
        for setting, verdict in zip(settings, verdicts, strict=True)
        if verdict.startswith(BROKEN)
    ]
    used = {present(setting, variant) for setting in settings for variant in ABLATION}
    rows = [row for row in diagnosis if row["digest"] in used and row["part"] == "test"]
    places = sorted({f"{row['machine']}; {row['versions']}" for row in rows})
    caption = [
        f"{SEEDS} seeds but where the cell says fewer, each with other labelled cases. "
        f"Scored patients: {_scored_patients(settings)}.",
        "Mean ± standard deviation of the seeds' means; paired difference with its 95 % interval "
        "(seeds and patients resampled).",
        table.note,
        *([f"**Does not hold:** {'; '.join(broken)}."] if broken else []),
        f"Run on: {' | '.join(places) or 'not recorded'}.",
    ]
    return [*table.markdown, "", " ".join(caption)]


def _scored_patients(settings: Sequence[str]) -> str:
    """Return whose cases are scored; settings of one source share their words."""
    by_count: dict[str, list[str]] = {}
    for setting in settings:
        scored = SETTINGS[setting].source.scored.items()
        told = ", ".join(f"{count} of {domain}" for domain, count in scored)
        by_count.setdefault(told, []).append(setting)
    return "; ".join(f"{told} ({', '.join(names)})" for told, names in by_count.items())


DIAGNOSED = (
    "pseudo_coverage", "pseudo_precision", "pseudo_recall", "pseudo_dice", "logged_teacher_trust",
    "logged_coverage", "logged_agreement",
)  # fmt: skip


def diagnosis_table(rows: Sequence[Row], setting: str, part: str) -> Table:
    """Return how good the pseudo-labels of each variant are in each domain: means over seeds."""
    variants: dict[str, str] = {}
    for group in (group for group in GROUPS.values() if setting in group.settings):
        for variant in group.variants:
            variants.setdefault(present(setting, variant), variant)
    lines = []
    for digest, variant in variants.items():
        for domain in SETTINGS[setting].source.domains:
            wanted = {"part": part, "setting": setting, "domain": domain, "digest": digest}
            found = [row for row in rows if wanted.items() <= row.items()]
            means = (_mean(found, name, 3) for name in DIAGNOSED)
            line = (VARIANTS[variant].title, domain, str(len({r["seed"] for r in found})), *means)
            lines += [line] if found else []
    header = ("method", "domain", "seeds", *(name.replace("_", " ") for name in DIAGNOSED))
    return Table(f"Pseudo-labels in {setting}, {part}", header, tuple(lines))


ENDS = {"0": (0, 0), "1 to 3": (1, 3), "4 and more": (4, math.inf)}
"""Empty labelled slices of a cell -> the least and the most."""


def ends_table(rows: Iterable[Row]) -> Table:
    """Return how much of the pseudo-labels' foreground is right, by empty labelled slices.

    Of every cell of `PROSTATE` with a teacher, whatever its settings: the lowest and the highest.
    """
    source = SETTINGS["R1"].source
    settings = [name for name, setting in SETTINGS.items() if setting.source is source]
    found = [
        row
        for row in rows
        if row["setting"] in settings and row["logged_teacher_trust"] and row["pseudo_precision"]
    ]
    lines = []
    for name, (least, most) in ENDS.items():
        here = [row for row in found if least <= int(row["empty_slices"]) <= most]
        draws = {(row["part"], row["setting"], row["seed"]) for row in here}
        line = [name, str(len(draws))]
        for domain in source.domains:
            right = [float(row["pseudo_precision"]) for row in in_domain(here, domain)]
            line.append(f"{min(right):.2f} to {max(right):.2f}" if right else NOT_RUN)
        lines.append(tuple(line))
    domains = (f"right in {domain}" for domain in source.domains)
    header = ("empty labelled slices", "draws", *domains)
    return Table("Pseudo-labels by empty labelled slices", header, tuple(lines))


def evidence_markdown(results: Results, diagnosis: Sequence[Row], groups: Sequence[str]) -> str:
    """Return all tables of some groups as one Markdown page."""
    lines = [
        "# Evidence",
        "",
        "Written by `benchmarks/evidence.py`, which says how it was made.",
        "",
    ]
    for table in all_tables(results, diagnosis, groups):
        lines += [f"## {table.title}", ""]
        lines += [*table.markdown, ""] if table.lines else []
        lines += [table.note, ""] if table.note else []
    return "\n".join(lines)


def all_tables(results: Results, diagnosis: Sequence[Row], groups: Sequence[str]) -> list[Table]:
    """Return the claims, then every group, both parts of each, then the diagnosis."""
    first = GROUPS[groups[0]]
    tables = [claims_table(results, part, first.settings) for part in reversed(PARTS)]
    for name in groups:
        for part in reversed(PARTS):
            for table in group_tables(results, name, part):
                title = f"{GROUPS[name].title}: {table.title}"
                tables.append(Table(title, table.header, table.lines, table.note))
    settings = dict.fromkeys(s for name in groups for s in GROUPS[name].settings)
    found = [diagnosis_table(diagnosis, s, part) for s in settings for part in PARTS]
    return tables + [table for table in found if table.lines]
