"""Pictures of a run as PNG bytes: outlines over slices, and curves over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dim_monai.data.checks.sample import WINDOW_PERCENTILES, radiological
from dim_monai.errors import DataError
from dim_monai.report.drawing import (
    DOTS_PER_INCH,
    INK,
    PREDICTION,
    TRUTH,
    Array,
    Line,
    legend,
    outline,
    png,
)

Curve = Sequence[tuple[int, float]]


SLICES = 5
MARGIN_MM = 15.0  # around the structure: enough anatomy to judge the outline by
SCALE_BAR_MM = 20.0


def overlay_png(
    image: Array,
    prediction: Array,
    truth: Array | None,
    spacing_mm: Sequence[float],
    title: str,
) -> bytes:
    """Draw the outlines of prediction and truth over a row of axial slices.

    Shown as a radiologist looks at them: patient anterior up, patient right on the viewer's left.
    The slices are spread evenly over the structure (truth or prediction), so that its ends are
    seen as well as its middle. With several labels the structure is outlined as a whole, and the
    borders between labels are drawn within it: none is drawn twice, which would fill dashes up.

    Args:
        image: intensities, (X, Y, Z), axes in RAS order.
        prediction: integer labels on the grid of `image`; 0 is background.
        truth: the same, or None where there is no truth.
        spacing_mm: voxel size along X, Y and Z, mm.
        title: printed above the row.

    Returns:
        A PNG file.

    Raises:
        DataError: the shapes differ, the image is not 3-D, or it holds NaN or infinity.
    """
    for name, array in (("truth", truth), ("prediction", prediction)):
        if image.ndim != 3 or (array is not None and array.shape != image.shape):
            raise DataError(
                f"{name} does not fit the image",
                got=None if array is None else array.shape,
                expected=f"{image.shape}, of three axes",
            )
    if not np.isfinite(image).all():
        raise DataError("image to draw holds NaN or infinity")
    structure = prediction > 0 if truth is None else (prediction > 0) | (truth > 0)
    window = _window(structure, spacing_mm)
    image, prediction = image[window], prediction[window]
    truth = None if truth is None else truth[window]
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    slices = _spread(structure)

    width_mm, height_mm = (n * mm for n, mm in zip(image.shape[:2], spacing_mm[:2], strict=True))
    panel_inch = 2.4
    figure = Figure(
        figsize=(panel_inch * len(slices), panel_inch * height_mm / width_mm + 0.65),
        dpi=DOTS_PER_INCH,
        layout="constrained",
    )
    panels = figure.subplots(1, len(slices), squeeze=False)[0]
    for axes, z in zip(panels, slices, strict=True):
        axes.imshow(
            radiological(image[:, :, z]),
            cmap="gray",
            vmin=low,
            vmax=high,
            aspect=spacing_mm[1] / spacing_mm[0],
        )
        for labels, line in ((truth, TRUTH), (prediction, PREDICTION)):
            if labels is not None:
                _outline_labels(axes, radiological(labels[:, :, z]), line)
        axes.set_title(f"slice {z + 1} of {structure.shape[2]}", fontsize=8, color=INK)
        axes.set_axis_off()
    _mark_side_and_scale(panels[0], spacing_mm[0])
    legend(figure, title, [PREDICTION] if truth is None else [TRUTH, PREDICTION])
    return png(figure)


def curves_png(curves: Mapping[str, Curve]) -> bytes:
    """Draw each curve in a panel of its own: the values pale, their moving mean on top.

    A panel is logarithmic where all its values are positive and span two decades or more. Values
    that are not finite leave a gap.

    Args:
        curves: name to (step, value) pairs, in the order of the panels.

    Returns:
        A PNG file.

    Raises:
        ValueError: there is no curve to draw.
    """
    if not curves:
        raise ValueError("no curve to draw")
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.2 * lines), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        _curve(axes, name, curve)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return png(figure)


def _window(structure: Array, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """The in-plane box around the structure and its margin; all of the image where it is empty."""
    if not structure.any():
        return slice(None), slice(None)
    first, second = (
        _interval(np.any(structure, axis=others), MARGIN_MM / mm)
        for others, mm in zip(((1, 2), (0, 2)), spacing_mm, strict=False)
    )
    return first, second


def _interval(occupied: Array, margin: float) -> slice:
    inside = np.flatnonzero(occupied)
    return slice(max(0, int(inside[0] - margin)), int(inside[-1] + margin) + 1)


def _spread(structure: Array) -> list[int]:
    """Slice numbers in the middle of equal parts of the structure, or of an empty image."""
    inside = np.flatnonzero(structure.any(axis=(0, 1)))
    first, last = (inside[0], inside[-1]) if inside.size else (0, structure.shape[2] - 1)
    parts = (np.arange(SLICES) + 0.5) / SLICES
    return [int(z) for z in np.unique((first + parts * (last - first + 1)).astype(int))]


def _outline_labels(axes: Axes, plane: Array, line: Line) -> None:
    outline(axes, plane > 0, line)
    for label in np.unique(plane[plane > 0])[1:]:
        outline(axes, plane >= label, line, within=plane > 0)


def _mark_side_and_scale(axes: Axes, mm_per_column: float) -> None:
    first, last = axes.get_xlim()
    end = 0.05 + SCALE_BAR_MM / (mm_per_column * (last - first))
    rim = [withStroke(linewidth=3, foreground="black")]  # legible on bright fat as on dark air
    axes.plot(
        [0.05, end],
        [0.04, 0.04],
        transform=axes.transAxes,
        color="white",
        linewidth=2,
        path_effects=rim,
    )
    for x, y, text in ((0.02, 0.5, "R"), (0.05, 0.07, f"{SCALE_BAR_MM:.0f} mm")):
        axes.text(x, y, text, transform=axes.transAxes, color="white", fontsize=8, path_effects=rim)


def _curve(axes: Axes, name: str, curve: Curve) -> None:
    steps = np.array([step for step, _ in curve], dtype=float)
    values = np.array([value for _, value in curve], dtype=float)
    values[~np.isfinite(values)] = np.nan
    known = values[~np.isnan(values)]
    # A tenth of the curve calms the noise of single batches and keeps the shape of a descent.
    width = len(values) // 10
    if width < 3:
        axes.plot(steps, values, color="#0072B2", linewidth=1.4, marker="o", markersize=3)
    else:
        axes.plot(steps, values, color="#0072B2", linewidth=0.6, alpha=0.3)
        axes.plot(steps, _moving_mean(values, width), color="#0072B2", linewidth=1.6)
    if known.size and known.min() > 0 and known.max() >= 100 * known.min():
        axes.set_yscale("log")
    axes.set_title(name, fontsize=9, color=INK, loc="left", parse_math=False)
    axes.set_xlabel("step", fontsize=7, color=INK)
    axes.tick_params(labelsize=7, colors=INK, which="both")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _moving_mean(values: Array, width: int) -> Array:
    """Centred mean of the known values in the window; NaN where the value itself is unknown."""
    window = np.ones(width)
    known = ~np.isnan(values)
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    count = np.convolve(known.astype(float), window, mode="same")
    means: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=known)
    return means
