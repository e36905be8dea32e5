"""Pictures of photographs as PNG bytes: outlines over the whole and over the disc."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dim_monai.errors import DataError
from dim_monai.report.drawing import (
    DOTS_PER_INCH,
    INK,
    TRUTH,
    Array,
    Line,
    legend,
    outline,
    png,
)

LONGEST_SIDE = 1000
"""Of the picture, px: readable on a page, and less than 0.5 MB in the report."""

# The retina is orange: the prediction is white here, on a dark rim that the bright disc does not
# swallow. The truth keeps its blue.
PREDICTION = Line("prediction", "#FFFFFF", 1.4, "dashed")
_RIM = (withStroke(linewidth=3, foreground="#333333"),)

MARGIN = 0.6  # of the structure's own size, on each side: the vessels around a disc show its edge
ZOOM_PAYS = 0.7  # a close-up that shows more of the photograph than this tells nothing new
_HIGHEST_INCH = 4.0
_TITLE_INCH = 0.65


def photograph_png(
    image: Array,
    prediction: Array,
    truth: Array | None,
    regions: Mapping[str, Sequence[int]],
    title: str,
) -> bytes:
    """Draw the outlines of prediction and truth over a photograph and over a close-up of it.

    Shown upright, as any viewer shows it. The close-up is a square around all structures; where it
    would show most of the photograph, as of one that is cut out around the disc, it is left out.

    Args:
        image: red, green, blue, 0 to 255, (W, H, 3).
        prediction: class of every pixel, integers (W, H).
        truth: the same, or None where there is no truth.
        regions: name of what is outlined to the classes that form it; unions may overlap.
        title: printed above.

    Returns:
        A PNG file of about `LONGEST_SIDE` px.

    Raises:
        DataError: the shapes do not fit, or it is no photograph.
    """
    for name, array in (("truth", truth), ("prediction", prediction)):
        if image.ndim != 3 or (array is not None and array.shape != image.shape[:2]):
            got = image.shape if array is None else array.shape
            raise DataError(f"{name} does not fit the photograph", got=got, expected="(W, H)")
    values = sorted({value for classes in regions.values() for value in classes})
    structure = np.isin(prediction, values)
    if truth is not None:
        structure |= np.isin(truth, values)
    views = [(slice(0, image.shape[0]), slice(0, image.shape[1]))]
    if (close := _close_up(structure)) is not None:
        views.append(close)
    ratios = [_length(view[0]) / _length(view[1]) for view in views]
    width_inch = LONGEST_SIDE / DOTS_PER_INCH
    height_inch = min(width_inch / sum(ratios), _HIGHEST_INCH)
    figure = Figure(
        figsize=(max(height_inch * sum(ratios), 4.0), height_inch + _TITLE_INCH),
        dpi=DOTS_PER_INCH,
        layout="constrained",
    )
    panels = figure.subplots(1, len(views), squeeze=False, width_ratios=ratios)[0]
    for axes, view, name in zip(panels, views, ("whole", "close-up"), strict=False):
        step = max(1, math.ceil(_length(view[1]) / (height_inch * DOTS_PER_INCH)))
        _show(axes, image[view], step)
        for labels, line in ((truth, TRUTH), (prediction, PREDICTION)):
            if labels is not None:
                _outline_regions(axes, labels[view], regions, line, step)
        axes.set_title(name if len(views) > 1 else "", fontsize=8, color=INK)
        axes.set_axis_off()
    legend(figure, title, [PREDICTION] if truth is None else [TRUTH, PREDICTION], effects=_RIM)
    return png(figure)


def _close_up(structure: Array) -> tuple[slice, slice] | None:
    """Return the square around the structure and its margin; None where there is no use for it."""
    inside = [np.flatnonzero(structure.any(axis=axis)) for axis in (1, 0)]
    if not inside[0].size:
        return None
    size = max(int(places[-1] - places[0]) + 1 for places in inside)
    side = min(math.ceil(size * (1 + 2 * MARGIN)), *structure.shape)
    if side >= ZOOM_PAYS * min(structure.shape):
        return None
    starts = [
        min(max(0, int(places[0] + places[-1] - side) // 2), n - side)
        for places, n in zip(inside, structure.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _show(axes: Axes, image: Array, step: int) -> None:
    """Show the mean of blocks of ``step`` x ``step`` pixels on axes that count single pixels."""
    width, height = (n - n % step for n in image.shape[:2])
    blocks = image[:width, :height].reshape(width // step, step, height // step, step, 3)
    # float32 where a mean in float64 would hold the photograph eight times over
    shown = blocks.mean(axis=(1, 3), dtype=np.float32).clip(0, 255).astype(np.uint8)
    axes.imshow(shown.swapaxes(0, 1), extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def _outline_regions(
    axes: Axes, labels: Array, regions: Mapping[str, Sequence[int]], line: Line, step: int
) -> None:
    width, height = (n - n % step for n in labels.shape)
    coarse = labels[step // 2 : width : step, step // 2 : height : step]
    for classes in regions.values():
        mask = np.isin(coarse, classes).T
        outline(axes, mask, line, step=step, effects=_RIM)


def _length(interval: slice) -> int:
    return int(interval.stop - interval.start)
