"""The scores agree with computations that share no code with them.

SimpleITK counts the same overlap, so Dice and Jaccard are equal. Its Hausdorff filter measures
between all voxels of two sets, not between surfaces, gives the maximum instead of a percentile, and
averages the two directions half and half: fed with the surfaces it agrees with ASSD where both have
equally many voxels, and with HD95 where all distances are equal. Its distance maps, read out on its
contours, give HD95, ASSD and surface Dice of any masks.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.metrics.masks import (
    SPACING_MM,
    all_pairs_mm,
    distances_by_hand_mm,
    percentile_95,
    random_masks,
    score,
)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_agrees_with_simpleitk(seed):
    prediction, truth = random_masks(seed)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(SimpleITK.GetImageFromArray(truth), SimpleITK.GetImageFromArray(prediction))
    ours = score(prediction, truth)
    assert ours.dice == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-12)
    assert ours.jaccard == pytest.approx(overlap.GetJaccardCoefficient(), abs=1e-12)


@pytest.mark.parametrize("density", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_all_pairs_in_3d(seed, density):
    prediction, truth = random_masks(seed, density=density)
    hd95_mm, assd_mm = distances_by_hand_mm(prediction, truth, SPACING_MM)
    ours = score(prediction, truth)
    assert ours.hd95 == pytest.approx(hd95_mm, abs=1e-9)
    assert ours.assd == pytest.approx(assd_mm, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_all_pairs_in_2d(seed):
    prediction, truth = random_masks(seed, shape=(15, 11))
    hd95_mm, assd_mm = distances_by_hand_mm(prediction, truth, (0.5, 2.0))
    ours = score(prediction, truth, (0.5, 2.0))
    assert ours.hd95 == pytest.approx(hd95_mm, abs=1e-9)
    assert ours.assd == pytest.approx(assd_mm, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.lists(st.integers(2, 7), min_size=2, max_size=3).map(tuple),
    densities=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    spacing_mm=st.lists(st.floats(0.2, 6.0), min_size=3, max_size=3),
    tolerance=st.floats(0.0, 8.0),
)
def test_any_masks_in_any_spacing_agree_with_all_pairs(
    seed, shape, densities, spacing_mm, tolerance
):
    random = np.random.default_rng(seed)
    prediction, truth = (random.random(shape) < density for density in densities)
    assume(prediction.any() and truth.any())
    spacing_mm = spacing_mm[: len(shape)]
    there, back = all_pairs_mm(prediction, truth, spacing_mm)
    pooled = np.concatenate([there, back])
    ours = score(prediction, truth, spacing_mm, tolerance=tolerance)
    assert ours.hd95 == pytest.approx(max(percentile_95(there), percentile_95(back)), abs=1e-9)
    assert ours.assd == pytest.approx(pooled.mean(), abs=1e-9)
    assert ours.surface_dice == pytest.approx((pooled <= tolerance * (1 + 1e-9)).mean(), abs=1e-12)


def itk(mask, spacing_mm=SPACING_MM):
    """An image with room around the mask: a contour of SimpleITK is open at the border."""
    image = SimpleITK.GetImageFromArray(np.pad(mask, 1).T.astype(np.uint8))
    image.SetSpacing(spacing_mm)
    return image


def itk_directed_mm(origin, target):
    to_target = SimpleITK.SignedMaurerDistanceMap(
        SimpleITK.LabelContour(itk(target)), squaredDistance=False, useImageSpacing=True
    )
    contour = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(itk(origin))) > 0
    return np.abs(SimpleITK.GetArrayFromImage(to_target))[contour]


@pytest.mark.parametrize("density", [0.02, 0.2, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_distances_agree_with_simpleitk_distance_maps(seed, density):
    prediction, truth = random_masks(seed, shape=(12, 10, 8), density=density)
    there, back = itk_directed_mm(prediction, truth), itk_directed_mm(truth, prediction)
    ours = score(prediction, truth, tolerance=1.1)
    # The distance map of SimpleITK is float32.
    assert ours.hd95 == pytest.approx(max(percentile_95(there), percentile_95(back)), rel=1e-5)
    assert ours.assd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)
    # No distance of this spacing lies within 0.09 mm of the tolerance.
    assert ours.surface_dice == pytest.approx((np.concatenate([there, back]) <= 1.1).mean())


def itk_hausdorff(one, other):
    hausdorff = SimpleITK.HausdorffDistanceImageFilter()
    hausdorff.Execute(*(SimpleITK.LabelContour(itk(mask)) for mask in (one, other)))
    return hausdorff


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("seed", range(3))
def test_assd_is_the_average_hausdorff_distance_of_surfaces_of_one_size(seed, axis):
    truth, _ = random_masks(seed, shape=(11, 9, 8), density=0.05)
    prediction = np.flip(truth, axis)
    average_mm = itk_hausdorff(prediction, truth).GetAverageHausdorffDistance()
    assert average_mm > 0
    assert score(prediction, truth).assd == pytest.approx(average_mm, rel=1e-5)


@pytest.mark.parametrize("gap", [1, 3])
def test_hd95_is_the_hausdorff_distance_where_all_distances_are_equal(gap):
    truth = np.zeros((8, 7, 6), dtype=int)
    truth[1] = 1
    prediction = np.roll(truth, gap, axis=0)
    distance_mm = itk_hausdorff(prediction, truth).GetHausdorffDistance()
    ours = score(prediction, truth)
    assert ours.hd95 == pytest.approx(distance_mm, rel=1e-5)
    assert ours.assd == pytest.approx(distance_mm, rel=1e-5)


def test_distances_agree_with_monai_where_both_masks_are_present():
    metrics = pytest.importorskip("monai.metrics")
    prediction, truth = random_masks(3, shape=(16, 14, 9), density=0.1)
    batch = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    options = {"include_background": True, "spacing": list(SPACING_MM)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of its own deprecations
        hd95 = metrics.compute_hausdorff_distance(*batch, percentile=95, **options)
        assd = metrics.compute_average_surface_distance(*batch, symmetric=True, **options)
        surface_dice = metrics.compute_surface_dice(
            *batch, class_thresholds=[2.0], use_subvoxels=False, **options
        )
    ours = score(prediction, truth, tolerance=2.0)
    assert ours.hd95 == pytest.approx(hd95.item(), rel=1e-5)
    assert ours.assd == pytest.approx(assd.item(), rel=1e-5)
    assert ours.surface_dice == pytest.approx(surface_dice.item(), rel=1e-5)
