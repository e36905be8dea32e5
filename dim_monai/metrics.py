"""Scores of one case in physical units, and their means, with an explicit empty-mask rule.

The usual defaults of the field hide failures: MONAI 1.6.1 turns a missed structure into NaN, drops
it from the mean, and reports 0 mm (perfect) when every case was missed; a structure predicted where
there is none is not counted at all. So the surfaces and distances here are taken from SciPy, in
float64, and what happens to an empty mask is written down in `EMPTY_MASK_RULE` and nowhere else.
Where both masks are present, HD95 and ASSD equal MONAI's ``compute_hausdorff_distance(...,
percentile=95)`` and ``compute_average_surface_distance(..., symmetric=True)`` in the same spacing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dim_monai.errors import ConfigError, DataError, NumericError

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]

SCORE_NAMES = ("dice", "jaccard", "hd95_mm", "assd_mm", "volume_error_ml")

MISSED = "missed"
FALSE_POSITIVE = "false positive"
BOTH_EMPTY = "both empty: not scored"

EMPTY_MASK_RULE = (
    "Empty masks: a structure that is in the truth but not in the prediction (missed), or in the "
    "prediction but not in the truth (false positive), scores Dice 0 and Jaccard 0, and its "
    "distances are the image diagonal in mm. A case in which both are empty is not scored and "
    "enters no mean."
)

SCORING_RULE = (
    "Each case is scored once, as a whole. A surface is the set of voxels of the structure that "
    "share a face with the outside; distances are in mm between voxel centres. HD95 is the larger "
    "of the two directed 95th percentiles of surface distance; ASSD is the mean over both surfaces "
    "pooled; volume error is prediction minus truth. Means are over the cases of a domain, then "
    "over domains with equal weight; ± is the sample standard deviation of what was averaged."
)

MEAN_OF_DOMAINS = "mean of domains"
ALL = "all"


@dataclass(frozen=True)
class ClassScore:
    """The scores of one region in one case; None where there is nothing to score.

    Args:
        class_name: the region.
        dice: twice the overlap over the sum of both volumes, 0 to 1.
        jaccard: overlap over union, 0 to 1.
        hd95_mm: larger of the two directed 95th percentiles of surface distance, mm.
        assd_mm: mean surface distance over both surfaces pooled, mm.
        volume_error_ml: prediction minus truth, ml; None for a 2-D image, which has no volume.
        note: what the empty-mask rule did, or "".

    Raises:
        NumericError: a score is NaN or infinite. Such a value must never reach a mean.
    """

    class_name: str
    dice: float | None
    jaccard: float | None
    hd95_mm: float | None
    assd_mm: float | None
    volume_error_ml: float | None
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        for name in SCORE_NAMES:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise NumericError(
                    f"score {name} of {self.class_name}", got=value, expected="finite"
                )


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table of scores: which case, from where, used for what, and its score."""

    case: str
    domain: str
    split: str
    score: ClassScore


@dataclass(frozen=True)
class Summary:
    """Mean scores of one class in one domain, or over the domains (`MEAN_OF_DOMAINS`).

    Args:
        domain: the domain, `MEAN_OF_DOMAINS`, or `ALL`.
        class_name: the region, or `ALL`.
        n_scored: rows that enter the means.
        n_total: rows there are, with those in which both masks are empty.
        n_penalised: scored rows whose distances are the image diagonal (missed, false positive).
        mean: score name to mean; None where nothing was scored.
        std: score name to sample standard deviation; None for fewer than two values. It is over
            cases for a domain and over the means of the domains for `MEAN_OF_DOMAINS`.
    """

    domain: str
    class_name: str
    n_scored: int
    n_total: int
    n_penalised: int
    mean: Mapping[str, float | None]
    std: Mapping[str, float | None]


def score_case(
    prediction: Labels,
    truth: Labels,
    spacing_mm: Sequence[float],
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
        spacing_mm: voxel size along each axis of the arrays, mm.
        classes: region name to the label values that form it, such as
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
    _check(prediction, truth, spacing_mm, classes)
    # Headers give float32; a table of scores holds plain floats.
    spacing_mm = [float(mm) for mm in spacing_mm]
    voxel_ml = math.prod(spacing_mm) / 1000.0 if truth.ndim == 3 else None
    spacing_mm = [mm for mm, n in zip(spacing_mm, truth.shape, strict=True) if n > 1]
    prediction, truth = prediction.squeeze(), truth.squeeze()
    return [
        _score_region(
            name, np.isin(prediction, labels), np.isin(truth, labels), spacing_mm, voxel_ml
        )
        for name, labels in classes.items()
    ]


def _score_region(
    name: str, predicted: Mask, true: Mask, spacing_mm: Sequence[float], voxel_ml: float | None
) -> ClassScore:
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    if n_predicted == 0 and n_true == 0:
        return ClassScore(name, None, None, None, None, None, BOTH_EMPTY)
    volume_error_ml = None if voxel_ml is None else (n_predicted - n_true) * voxel_ml
    if n_predicted == 0 or n_true == 0:
        # The diagonal from edge to edge exceeds every distance between two voxel centres, so a
        # miss always costs more than the worst hit.
        diagonal_mm = math.hypot(*(n * mm for n, mm in zip(true.shape, spacing_mm, strict=True)))
        note = MISSED if n_predicted == 0 else FALSE_POSITIVE
        return ClassScore(name, 0.0, 0.0, diagonal_mm, diagonal_mm, volume_error_ml, note)
    overlap = int((predicted & true).sum())
    hd95_mm, assd_mm = _surface_scores_mm(predicted, true, spacing_mm)
    return ClassScore(
        name,
        dice=2 * overlap / (n_predicted + n_true),
        jaccard=overlap / (n_predicted + n_true - overlap),
        hd95_mm=hd95_mm,
        assd_mm=assd_mm,
        volume_error_ml=volume_error_ml,
    )


def _surface_scores_mm(
    predicted: Mask, true: Mask, spacing_mm: Sequence[float]
) -> tuple[float, float]:
    # Only the box around both masks is looked at. No margin is needed for the result to equal that
    # of the whole image: every surface voxel lies in the box, and what is outside it is background,
    # which is also what the erosion takes it for.
    (box,) = ndimage.find_objects((predicted | true).astype(np.uint8))
    surface_predicted, surface_true = _surface(predicted[box]), _surface(true[box])
    there = _distances_mm(surface_predicted, surface_true, spacing_mm)
    back = _distances_mm(surface_true, surface_predicted, spacing_mm)
    hd95_mm = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return hd95_mm, float(np.concatenate([there, back]).mean())


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask), dtype=np.bool_)


def _distances_mm(
    origin: Mask, target: Mask, spacing_mm: Sequence[float]
) -> npt.NDArray[np.float64]:
    to_target_mm = ndimage.distance_transform_edt(~target, sampling=spacing_mm)
    return np.asarray(to_target_mm[origin], dtype=np.float64)


def _check(
    prediction: Labels,
    truth: Labels,
    spacing_mm: Sequence[float],
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
    if len(spacing_mm) != truth.ndim or not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise DataError(
            "spacing does not fit the image",
            got=tuple(spacing_mm),
            expected=f"{truth.ndim} positive numbers in mm",
        )
    if not classes or not all(classes.values()):
        raise ConfigError(
            "a region to score has no labels",
            got=dict(classes),
            expected='every region with its labels, such as {"prostate": [1]}',
        )


def summarise(
    rows: Iterable[ScoreRow], by: Sequence[Literal["domain", "class"]] = ("domain", "class")
) -> list[Summary]:
    """Mean over cases per domain, then the mean of the domains with equal weight.

    A large domain so cannot hide a failure in a small one. Rows in which both masks are empty
    count in `n_total` only; a domain with no scored row enters no mean.

    Args:
        rows: scores of one split.
        by: what to keep apart. Without "domain" all cases are pooled and no mean of domains is
            given; without "class" all regions are pooled.

    Returns:
        Per class, in the order of `rows`: one summary per domain, then one `MEAN_OF_DOMAINS`.

    Raises:
        DataError: the rows come from several splits. Their mean would mean nothing.
    """
    groups: dict[str, dict[str, list[ScoreRow]]] = {}
    splits = set()
    for row in rows:
        splits.add(row.split)
        class_name = row.score.class_name if "class" in by else ALL
        domain = row.domain if "domain" in by else ALL
        groups.setdefault(class_name, {}).setdefault(domain, []).append(row)
    if len(splits) > 1:
        raise DataError(
            "scores of several splits", got=sorted(splits), do="summarise each split on its own"
        )
    summaries = []
    for class_name, domains in groups.items():
        of_domains = [_of_cases(domain, class_name, group) for domain, group in domains.items()]
        summaries += of_domains
        if "domain" in by:
            summaries.append(_of_domains(class_name, of_domains))
    return summaries


def _of_cases(domain: str, class_name: str, rows: Sequence[ScoreRow]) -> Summary:
    scores = [row.score for row in rows if row.score.dice is not None]
    mean, std = _mean_and_std([{name: getattr(s, name) for name in SCORE_NAMES} for s in scores])
    n_penalised = sum(score.note in (MISSED, FALSE_POSITIVE) for score in scores)
    return Summary(domain, class_name, len(scores), len(rows), n_penalised, mean, std)


def _of_domains(class_name: str, domains: Sequence[Summary]) -> Summary:
    mean, std = _mean_and_std([domain.mean for domain in domains])
    return Summary(
        MEAN_OF_DOMAINS,
        class_name,
        sum(domain.n_scored for domain in domains),
        sum(domain.n_total for domain in domains),
        sum(domain.n_penalised for domain in domains),
        mean,
        std,
    )


def _mean_and_std(
    scores: Sequence[Mapping[str, float | None]],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    mean: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    for name in SCORE_NAMES:
        values = [value for score in scores if (value := score[name]) is not None]
        mean[name] = statistics.fmean(values) if values else None
        std[name] = statistics.stdev(values) if len(values) > 1 else None
    return mean, std
