"""Scores of one case in mm or in pixels, with an explicit empty-mask rule.

The usual defaults of the field hide failures: MONAI 1.6.1 turns a missed structure into NaN, drops
it from the mean, and reports 0 mm (perfect) when every case was missed; a structure predicted where
there is none is not counted at all. So the surfaces and distances here are taken from SciPy, in
float64, and what happens to an empty mask is written down in `EMPTY_MASK_RULE` and nowhere else.
Where both masks are present, HD95 and ASSD equal MONAI's ``compute_hausdorff_distance(...,
percentile=95)`` and ``compute_average_surface_distance(..., symmetric=True)`` in the same spacing,
and surface Dice equals ``compute_surface_dice(..., use_subvoxels=False)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dim_monai.errors import ConfigError, DataError
from dim_monai.metrics.numbers import require_finite
from dim_monai.metrics.rules import BOTH_EMPTY, BOTH_EMPTY_IS_1, FALSE_POSITIVE, MISSED
from dim_monai.metrics.surface import Mask, share_within, surface_distances

Labels = npt.NDArray[Any]

Unit = Literal["mm", "px"]
BothEmpty = Literal["not scored", 1]

SCORE_NAMES: dict[Unit, tuple[str, ...]] = {
    "mm": ("dice", "jaccard", "hd95_mm", "assd_mm", "surface_dice", "volume_error_ml"),
    "px": ("dice", "jaccard", "hd95_px", "assd_px", "surface_dice", "area_error_px"),
}
"""Names of the scores of a volume, in mm, and of a photograph, which has no mm, in pixels."""

TOLERANCE: dict[Unit, float] = {"mm": 2.0, "px": 5.0}
"""Of surface Dice. Ours: 2 mm is more than a pixel of T2-weighted prostate volumes (0.5 to 0.6 mm)
and less than the distance of their slices (3 to 4 mm), so that a surface is looked for in its own
slice. 5 px are two pixels of the network's grid, where a photograph of 2000 px is segmented at 768.
"""


@dataclass(frozen=True)
class ClassScore:
    """The scores of one region in one case; None where there is nothing to score.

    Args:
        class_name: the region.
        dice: twice the overlap over the sum of both sizes, 0 to 1.
        jaccard: overlap over union, 0 to 1.
        hd95: larger of the two directed 95th percentiles of surface distance, in `unit`.
        assd: mean surface distance over both surfaces pooled, in `unit`.
        size_error: prediction minus truth: volume in ml, or area in pixels of a photograph; None
            for a 2-D image in mm, which has no volume.
        note: what the empty-mask rule did, or "".
        unit: "mm", or "px" for a photograph.
        surface_dice: share of both surfaces pooled within the tolerance of the other, 0 to 1.
        tolerance: of surface Dice, in `unit`; None where it is not known.

    Raises:
        NumericError: a score is NaN or infinite. Such a value must never reach a mean.
    """

    class_name: str
    dice: float | None
    jaccard: float | None
    hd95: float | None
    assd: float | None
    size_error: float | None
    note: str = ""
    unit: Unit = "mm"
    surface_dice: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name, value in self.named().items():
            require_finite(f"score {name} of {self.class_name}", value)
        require_finite(f"tolerance of {self.class_name}", self.tolerance)

    def named(self) -> dict[str, float | None]:
        """Return the scores by their names in `SCORE_NAMES`, which hold the unit."""
        distances = (self.hd95, self.assd)
        values = (self.dice, self.jaccard, *distances, self.surface_dice, self.size_error)
        return dict(zip(SCORE_NAMES[self.unit], values, strict=True))


def score_case(
    prediction: Labels,
    truth: Labels,
    spacing_mm: Sequence[float] | None,
    classes: Mapping[str, Sequence[int]],
    *,
    tolerance: float | None = None,
    both_empty: BothEmpty = "not scored",
) -> list[ClassScore]:
    """Score every region of one case under `EMPTY_MASK_RULE` and `SCORING_RULE`.

    The surface distances are symmetric in prediction and truth. Percentiles interpolate linearly.
    What lies outside the image counts as outside the structure. An axis of length 1 carries no
    surface: a volume of one slice gets the distances of the 2-D image (as a 3-D array every one of
    its voxels would be surface, and the distances too small).

    Surface Dice (Nikolov et al., J Med Internet Res 2021) is 1 where every surface voxel of either
    mask lies within the tolerance of the other surface.

    Deviation: the peers' reference code takes the 95th percentile of both directions pooled, in
    pixels, and a one-directional ASD; see `paper_scores`. Nikolov et al. weigh surface elements by
    their area; here every surface voxel counts once.

    Args:
        prediction: integer or boolean labels, (X, Y) or (X, Y, Z).
        truth: the same grid as `prediction`.
        spacing_mm: voxel size along each axis of the arrays, mm. None for a photograph (W, H):
            its scores are in pixels.
        classes: region name to the label values that form it; regions may overlap, such as
            ``{"peripheral_zone": [1], "central_gland": [2], "prostate": [1, 2]}``.
        tolerance: of surface Dice, mm or pixels; None takes `TOLERANCE` of the unit.
        both_empty: what a region that is in neither mask scores: nothing, which keeps easy cases
            out of the means, or 1 with distances 0.

    Returns:
        One score per region, in the order of `classes`.

    Raises:
        DataError: the shapes differ, the image is not 2-D or 3-D, or the spacing does not fit it.
        ConfigError: `classes` is empty, a region has no labels, the tolerance is negative or not
            finite, or there is no such `both_empty`.
        TypeError: the arrays are neither integer nor boolean.

    Example:
        >>> truth = np.zeros((8, 8, 8), dtype=np.uint8)
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> score_case(truth, truth, (1.0, 1.0, 3.0), {"prostate": [1]})[0].dice
        1.0
    """
    unit: Unit = "px" if spacing_mm is None else "mm"
    # Headers give float32; a table of scores holds plain floats.
    steps = (1.0,) * 2 if spacing_mm is None else tuple(float(mm) for mm in spacing_mm)
    _check(prediction, truth, steps, classes)
    tolerance = TOLERANCE[unit] if tolerance is None else float(tolerance)
    _check_choices(tolerance, both_empty)
    element = 1.0 if unit == "px" else None  # px; the size of what size_error counts
    if unit == "mm" and truth.ndim == 3:
        element = math.prod(steps) / 1000.0  # ml
    steps = tuple(step for step, n in zip(steps, truth.shape, strict=True) if n > 1)
    prediction, truth = prediction.squeeze(), truth.squeeze()
    scores = []
    for name, labels in classes.items():
        predicted, true = np.isin(prediction, labels), np.isin(truth, labels)
        error = None if element is None else (int(predicted.sum()) - int(true.sum())) * element
        score = ClassScore(name, None, None, None, None, error, "", unit, tolerance=tolerance)
        if predicted.any() and true.any():
            scores.append(replace(score, **_overlap(predicted, true, steps, tolerance)))
        else:
            scores.append(replace(score, **_of_empty(predicted, true, steps, both_empty)))
    return scores


def _of_empty(
    predicted: Mask, true: Mask, steps: Sequence[float], both_empty: BothEmpty
) -> dict[str, Any]:
    if predicted.any() or true.any():
        # The diagonal from edge to edge exceeds every distance between two voxel centres, so a
        # miss always costs more than the worst hit.
        distance = math.hypot(*(n * step for n, step in zip(true.shape, steps, strict=True)))
        overlap, note = 0.0, MISSED if true.any() else FALSE_POSITIVE
    elif both_empty == "not scored":
        return {"size_error": None, "note": BOTH_EMPTY}
    else:
        distance, overlap, note = 0.0, 1.0, BOTH_EMPTY_IS_1
    distances = {"hd95": distance, "assd": distance}
    overlaps = dict.fromkeys(("dice", "jaccard", "surface_dice"), overlap)
    return {**overlaps, **distances, "note": note}


def _overlap(
    predicted: Mask, true: Mask, steps: Sequence[float], tolerance: float
) -> dict[str, Any]:
    overlap = int((predicted & true).sum())
    size = int(predicted.sum()) + int(true.sum())
    there, back = surface_distances(predicted, true, steps)
    pooled = np.concatenate([there, back])
    return {
        "dice": 2 * overlap / size,
        "jaccard": overlap / (size - overlap),
        "hd95": max(float(np.percentile(there, 95)), float(np.percentile(back, 95))),
        "assd": float(pooled.mean()),
        "surface_dice": share_within(pooled, tolerance),
    }


def _check(
    prediction: Labels,
    truth: Labels,
    steps: Sequence[float],
    classes: Mapping[str, Sequence[int]],
) -> None:
    for name, array in (("prediction", prediction), ("truth", truth)):
        if array.dtype.kind not in "iub":
            raise TypeError(f"{name} must hold integer or boolean labels, got {array.dtype}")
    if prediction.shape != truth.shape:
        raise DataError(
            "prediction and truth are on different grids",
            got=prediction.shape,
            expected=truth.shape,
            do="resample the prediction to the grid of the truth before scoring",
        )
    if truth.ndim not in (2, 3) or sum(n > 1 for n in truth.shape) < 2:
        raise DataError("not an image to score", got=truth.shape, expected="(X, Y) or (X, Y, Z)")
    if len(steps) != truth.ndim or not all(math.isfinite(step) and step > 0 for step in steps):
        raise DataError(
            "spacing does not fit the image",
            got=tuple(steps),
            expected=f"{truth.ndim} positive numbers in mm",
        )
    if not classes or not all(classes.values()):
        raise ConfigError(
            "a region to score has no labels",
            got=dict(classes),
            expected='every region with its labels, such as {"prostate": [1]}',
        )


def _check_choices(tolerance: float, both_empty: object) -> None:
    if not math.isfinite(tolerance) or tolerance < 0:
        raise ConfigError("tolerance of surface Dice", got=tolerance, expected="0 or more")
    if both_empty not in get_args(BothEmpty) or isinstance(both_empty, bool):
        expected = " or ".join(map(repr, get_args(BothEmpty)))
        raise ConfigError("unknown both_empty", got=repr(both_empty), expected=expected)
