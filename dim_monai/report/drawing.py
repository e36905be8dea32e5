"""What the pictures of a run share: how outlines look, their legend, and PNG bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect

Array = npt.NDArray[Any]

INK = "#333333"
DOTS_PER_INCH = 130

_CHARACTERS_AN_INCH, _LINE_INCH = 11, 0.17  # of a title: 10 point, of wide letters fewer would fit


class Line(NamedTuple):
    """How an outline is drawn, in the picture and in its legend."""

    name: str
    colour: str
    width: float
    style: Literal["solid", "dashed"]


# Blue and orange of Okabe and Ito ("Color Universal Design", 2008), told apart under every common
# colour blindness and on grey; the dashes tell them apart in black and white, and let one show
# through the other where the two outlines agree.
TRUTH = Line("truth", "#56B4E9", 1.8, "solid")
PREDICTION = Line("prediction", "#E69F00", 1.4, "dashed")


def outline(
    axes: Axes,
    mask: Array,
    line: Line,
    *,
    step: float = 1.0,
    within: Array | None = None,
    effects: Sequence[AbstractPathEffect] = (),
) -> None:
    """Draw the outline of a structure over an image that is shown on the same axes.

    Args:
        axes: where the image is shown; its limits stay as they are.
        mask: whether a pixel belongs to the structure, (rows, columns).
        line: how it is drawn.
        step: distance of two neighbours of `mask` in pixels of the image, of which it may be a
            coarser copy.
        within: only what lies between two pixels of this mask is drawn; None draws all.
        effects: of matplotlib, such as a dark rim.
    """
    axes.autoscale(False)
    # A rim of background closes the outline of a structure that touches the edge of the image.
    shown: Array = np.pad(mask, 1)
    # Pixel centres: a copy coarser by n has its first centre in the middle of n pixels.
    rows, columns = (step * (np.arange(n) - 1) + (step - 1) / 2 for n in shown.shape)
    if not mask.any():
        return
    if within is not None:
        if mask[within].all():
            return
        shown = np.ma.masked_array(shown, mask=~np.pad(within, 1))
    contours = axes.contour(
        columns,
        rows,
        shown,
        levels=[0.5],
        colors=line.colour,
        linewidths=line.width,
        linestyles=line.style,
    )
    contours.set_path_effects(list(effects))


def legend(
    figure: Figure,
    title: str,
    lines: Sequence[Line],
    *,
    effects: Sequence[AbstractPathEffect] = (),
) -> None:
    """Write a title above the picture and say below it what the lines are."""
    handles = [
        Line2D([], [], color=line.colour, linewidth=2, linestyle=line.style, label=line.name)
        for line in lines
    ]
    for handle in handles:
        handle.set_path_effects(list(effects))
    figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    # A title that is too long for one line takes further ones, and the picture grows by them.
    lines_of_title = textwrap.wrap(title, int(figure.get_figwidth() * _CHARACTERS_AN_INCH)) or [""]
    figure.set_figheight(figure.get_figheight() + _LINE_INCH * (len(lines_of_title) - 1))
    text = "\n".join(lines_of_title)
    # No mathematics in a title: a "$" in a case name is a "$".
    figure.suptitle(text, x=0.01, ha="left", fontsize=10, color=INK, parse_math=False)


def png(figure: Figure) -> bytes:
    """Return the picture as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
