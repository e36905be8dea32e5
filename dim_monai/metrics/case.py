"""Scores of one case in mm or in pixels, with an explicit empty-mask rule.

The usual defaults of the field hide failures: MONAI 1.6.1 turns a missed structure into NaN, drops
it from the mean, and reports 0 mm (perfect) when every case was missed; a structure predicted where
there is none is not counted at all. So the surfaces and distances here are taken from SciPy, in
float64, and what happens to an empty mask is written down in `EMPTY_MASK_RULE` and nowhere else.
Where both masks are present, HD95 and ASSD equal MONAI's ``compute_hausdorff_distance(...,
percentile=95)`` and ``compute_average_surface_distance(..., symmetric=True)`` in the same spacing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from dim_monai.errors import ConfigError, DataError, NumericError

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]

Unit = Literal["mm", "px"]

SCORE_NAMES: dict[Unit, tuple[str, ...]] = {
    "mm": ("dice", "jaccard", "hd95_mm", "assd_mm", "volume_error_ml"),
    "px": ("dice", "jaccard", "hd95_px", "assd_px", "area_error_px"),
}
"""Names of the scores of a volume, in mm, and of a photograph, which has no mm, in pixels."""

MISSED = "missed"
FALSE_POSITIVE = "false positive"
BOTH_EMPTY = "both empty: not scored"

EMPTY_MASK_RULE = (
    "Empty masks: a structure that is in the truth but not in the prediction (missed), or in the "
    "prediction but not in the truth (false positive), scores Dice 0 and Jaccard 0, and its "
    "distances are the image diagonal. A case in which both are empty is not scored and "
    "enters no mean."
)

SCORING_RULE = (
    "Each case is scored once, as a whole. A surface is the set of voxels of the structure that "
    "share a face with the outside; distances are between voxel centres, in mm, and for "
    "photographs in their own pixels. HD95 is the larger of the two directed 95th percentiles of "
    "surface distance; ASSD is the mean over both surfaces pooled; errors are prediction minus "
    "truth. Means are over the cases of a domain, then over domains with equal weight; ± is the "
    "sample standard deviation of what was averaged."
)


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

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name, value in self.named().items():
            require_finite(f"score {name} of {self.class_name}", value)

    def named(self) -> dict[str, float | None]:
        """Return the scores by their names in `SCORE_NAMES`, which hold the unit."""
        values = (self.dice, self.jaccard, self.hd95, self.assd, self.size_error)
        return dict(zip(SCORE_NAMES[self.unit], values, strict=True))


def score_case(
    prediction: Labels,
    truth: Labels,
    spacing_mm: Sequence[float] | None,
    classes: Mapping[str, Sequence[int]],
) -> list[ClassScore]:
    """Score every region of one case under `EMPTY_MASK_RULE` and `SCORING_RULE`.

    The surface distances are symmetric in prediction and truth. Percentiles interpolate linearly.
    What lies outside the image counts as outside the structure. An axis of length 1 carries no
    surface: a volume of one slice gets the distances of the 2-D image (as a 3-D array every one of
    its voxels would be surface, and the distances too small).

    Deviation: the peers' reference code (medpy) takes the 95th percentile of both directions
    pooled, in pixels of the network's grid, and a one-directional ASD; see `SCORING_RULE` for ours.

    Args:
        prediction: integer or boolean labels, (X, Y) or (X, Y, Z).
        truth: the same grid as `prediction`.
        spacing_mm: voxel size along each axis of the arrays, mm. None for a photograph (W, H):
            its scores are in pixels.
        classes: region name to the label values that form it; regions may overlap, such as
            ``{"peripheral_zone": [1], "central_gland": [2], "prostate": [1, 2]}``.

    Returns:
        One score per region, in the order of `classes`.

    Raises:
        DataError: the shapes differ, the image is not 2-D or 3-D, or the spacing does not fit it.
        ConfigError: `classes` is empty or a region has no labels.
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
    element = 1.0 if unit == "px" else None  # px; the size of what size_error counts
    if unit == "mm" and truth.ndim == 3:
        element = math.prod(steps) / 1000.0  # ml
    steps = tuple(step for step, n in zip(steps, truth.shape, strict=True) if n > 1)
    prediction, truth = prediction.squeeze(), truth.squeeze()
    return [
        _score_region(
            name, np.isin(prediction, labels), np.isin(truth, labels), steps, element, unit
        )
        for name, labels in classes.items()
    ]


def _score_region(
    name: str,
    predicted: Mask,
    true: Mask,
    steps: Sequence[float],
    element: float | None,
    unit: Unit,
) -> ClassScore:
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    if n_predicted == 0 and n_true == 0:
        return ClassScore(name, None, None, None, None, None, BOTH_EMPTY, unit)
    size_error = None if element is None else (n_predicted - n_true) * element
    if n_predicted == 0 or n_true == 0:
        # The diagonal from edge to edge exceeds every distance between two voxel centres, so a
        # miss always costs more than the worst hit.
        diagonal = math.hypot(*(n * step for n, step in zip(true.shape, steps, strict=True)))
        note = MISSED if n_predicted == 0 else FALSE_POSITIVE
        return ClassScore(name, 0.0, 0.0, diagonal, diagonal, size_error, note, unit)
    overlap = int((predicted & true).sum())
    hd95, assd = _surface_scores(predicted, true, steps)
    return ClassScore(
        name,
        dice=2 * overlap / (n_predicted + n_true),
        jaccard=overlap / (n_predicted + n_true - overlap),
        hd95=hd95,
        assd=assd,
        size_error=size_error,
        unit=unit,
    )


def _surface_scores(predicted: Mask, true: Mask, steps: Sequence[float]) -> tuple[float, float]:
    # Only the box around both masks is looked at. No margin is needed for the result to equal that
    # of the whole image: every surface voxel lies in the box, and what is outside it is background,
    # which is also what the erosion takes it for.
    (box,) = ndimage.find_objects((predicted | true).view(np.uint8))
    surface_predicted, surface_true = _surface(predicted[box]), _surface(true[box])
    there = _distances(surface_predicted, surface_true, steps)
    back = _distances(surface_true, surface_predicted, steps)
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return hd95, float(np.concatenate([there, back]).mean())


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask), dtype=np.bool_)


def _distances(origin: Mask, target: Mask, steps: Sequence[float]) -> npt.NDArray[np.float64]:
    if origin.ndim == 2:
        # A speck far from the disc makes the box the whole photograph, of which a distance map
        # takes 0.4 GB at 4288 x 2848; the surfaces stay a few thousand points.
        points, targets = (np.argwhere(surface) * np.asarray(steps) for surface in (origin, target))
        return np.asarray(KDTree(targets).query(points)[0], dtype=np.float64)
    to_target = ndimage.distance_transform_edt(~target, sampling=steps)
    return np.asarray(to_target[origin], dtype=np.float64)


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


def require_finite(what: str, value: float | None) -> None:
    """Refuse NaN and infinity: such a value must never reach a mean.

    Raises:
        NumericError: the value is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise NumericError(what, got=value, expected="finite")
