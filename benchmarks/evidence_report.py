"""The figures and the page of ``evidence.py``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from evidence_data import PARTS
from evidence_plan import GROUPS, SETTINGS, VARIANTS
from evidence_tables import Results, Row, all_tables, few, in_domain
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paired import dice_of, paired_interval

from dim_monai.files import atomic_write
from dim_monai.report.drawing import DOTS_PER_INCH, INK, png

COLOURS = ("#0072B2", "#D55E00")
"""Of the labelled and of the other domain."""


def write_report(
    folder: Path, results: Results, diagnosis: Sequence[Row], groups: Sequence[str], about: str
) -> Path:
    """Write ``evidence.html``, which holds everything, and each figure as a PNG file beside it.

    Args:
        folder: of the files.
        results: of the cells.
        diagnosis: rows of ``evidence_cell.DIAGNOSIS``.
        groups: names of those that are shown.
        about: how the cells are made, in paragraphs.
    """
    figures = all_figures(results, groups)
    for name, picture in figures.items():
        with atomic_write(folder / f"evidence_{name}.png", "wb") as file:
            file.write(picture)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    content = environment.get_template("evidence.html.j2").render(
        about=[paragraph for paragraph in about.split("\n\n") if not paragraph.startswith("    ")],
        tables=all_tables(results, diagnosis, groups),
        figures=figures,
        places=sorted({f"{row['machine']}; {row['versions']}" for row in diagnosis}),
    )
    page = folder / "evidence.html"
    with atomic_write(page, "w") as text:
        text.write(content)
    return page


def all_figures(results: Results, groups: Sequence[str]) -> dict[str, bytes]:
    """Return a figure for every setting and part with something to compare: name to PNG."""
    figures = {}
    for part in reversed(PARTS):
        for name in groups:
            for setting in GROUPS[name].settings:
                figure = forest(results, name, setting, part)
                if figure is not None:
                    figures[f"{name}_{setting}_{part}"] = png(figure)
    return figures


def forest(results: Results, name: str, setting: str, part: str) -> Figure | None:
    """Draw the Dice of every seed, and the differences with their intervals.

    None where nothing is compared. A square is open where fewer seeds made it than a claim needs.
    """
    group = GROUPS[name]
    rows = {variant: results.of(part, setting, variant) for variant in group.variants}
    rows = {variant: found for variant, found in rows.items() if found}
    if len(rows) < 2:
        return None
    figure = Figure(figsize=(9.0, 1.3 + 0.32 * len(rows)), dpi=DOTS_PER_INCH, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _seeds(left, rows, SETTINGS[setting].source.domains)
    _differences(right, rows, group.baseline)
    seeds = {variant: len({row["seed"] for row in found}) for variant, found in rows.items()}
    left.set_yticks(range(len(rows)), [f"{VARIANTS[v].title}{few(n)}" for v, n in seeds.items()])
    left.invert_yaxis()
    left.set_xlabel("Dice, a point a seed")
    right.set_xlabel(f"Dice minus {VARIANTS[group.baseline].title}, 95 % interval")
    for axes in (left, right):
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(alpha=0.25, linewidth=0.5, axis="x")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{SETTINGS[setting].title} ({part})", fontsize=10, color=INK)
    return figure


def _seeds(axes: Axes, rows: dict[str, list[Row]], domains: Sequence[str]) -> None:
    for place, found in enumerate(rows.values()):
        for domain, colour, shift in zip(domains, COLOURS, (-0.12, 0.12), strict=True):
            of_seed: dict[int, list[float]] = {}
            for (seed, _), dice in dice_of(in_domain(found, domain)).items():
                of_seed.setdefault(seed, []).append(dice)
            means = [sum(values) / len(values) for values in of_seed.values()]
            label = domain if place == 0 else None
            axes.plot(means, [place + shift] * len(means), "o", color=colour, ms=4, label=label)
    axes.legend(fontsize=7, frameon=False)


def _differences(axes: Axes, rows: dict[str, list[Row]], baseline: str) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    base = dice_of(rows.get(baseline, []), "patient")
    for place, (variant, found) in enumerate(rows.items()):
        dice = dice_of(found, "patient")
        if variant == baseline or not dice.keys() & base.keys():
            continue
        mean, low, high = paired_interval(dice, base)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        filled = "none" if few(len({seed for seed, _ in dice.keys() & base.keys()})) else INK
        axes.plot([mean], [place], "s", color=INK, markerfacecolor=filled, markersize=4)
