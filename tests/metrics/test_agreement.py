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


@settings(max_examples=80)
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
    assert ours.surface_dice == pytest.approx((pooled <= tolerance * (1 + 1e-5)).mean(), abs=1e-12)


def itk(mask, spacing=SPACING_MM):
    """An image with room around the mask: a contour of SimpleITK is open at the border."""
    image = SimpleITK.GetImageFromArray(np.pad(mask, 1).T.astype(np.uint8))
    image.SetSpacing(spacing)
    return image


def itk_directed(origin, target, spacing=SPACING_MM):
    to_target = SimpleITK.SignedMaurerDistanceMap(
        SimpleITK.LabelContour(itk(target, spacing)), squaredDistance=False, useImageSpacing=True
    )
    contour = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(itk(origin, spacing))) > 0
    return np.abs(SimpleITK.GetArrayFromImage(to_target))[contour]


@pytest.mark.parametrize("density", [0.02, 0.2, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_distances_agree_with_simpleitk_distance_maps(seed, density):
    prediction, truth = random_masks(seed, shape=(12, 10, 8), density=density)
    there, back = itk_directed(prediction, truth), itk_directed(truth, prediction)
    ours = score(prediction, truth, tolerance=1.1)
    # The distance map of SimpleITK is float32.
    assert ours.hd95 == pytest.approx(max(percentile_95(there), percentile_95(back)), rel=1e-5)
    assert ours.assd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)
    # No distance of this spacing lies within 0.09 mm of the tolerance.
    assert ours.surface_dice == pytest.approx((np.concatenate([there, back]) <= 1.1).mean())


def one_voxel(shape, *place):
    mask = np.zeros(shape, dtype=np.int16)
    mask[place] = 1
    return mask


def plate(shape, axis, place):
    """All of the image's extent along the other axes: it touches the border on every side."""
    mask = np.zeros(shape, dtype=np.int16)
    np.moveaxis(mask, axis, 0)[place] = 1
    return mask


VOLUME, PHOTOGRAPH = (11, 9, 8), (37, 23)
PAIRS = {
    "photograph, ragged": (random_masks(0, PHOTOGRAPH, 0.3), None),
    "photograph, sparse": (random_masks(1, PHOTOGRAPH, 0.02), None),
    "2-D image in mm": (random_masks(2, PHOTOGRAPH, 0.2), (0.31, 1.7)),
    "one pixel each": ((one_voxel(PHOTOGRAPH, 0, 0), one_voxel(PHOTOGRAPH, 36, 22)), None),
    "one pixel and many": ((one_voxel(PHOTOGRAPH, 5, 22), random_masks(3, PHOTOGRAPH)[0]), None),
    "one voxel each": ((one_voxel(VOLUME, 10, 8, 7), one_voxel(VOLUME, 0, 3, 7)), SPACING_MM),
    "one voxel and many": ((random_masks(4, VOLUME)[0], one_voxel(VOLUME, 5, 5, 0)), SPACING_MM),
    "plates at two borders": ((plate(VOLUME, 2, 0), plate(VOLUME, 2, -1)), SPACING_MM),
    "plates that cross": ((plate(VOLUME, 0, -1), plate(VOLUME, 2, slice(0, 3))), SPACING_MM),
    "all of the image": ((np.ones(VOLUME, np.int16), plate(VOLUME, 1, slice(3, 7))), SPACING_MM),
    "thick slices": (random_masks(5, VOLUME, 0.2), (0.4, 0.4, 6.0)),
    "thin slices": (random_masks(6, VOLUME, 0.2), (2.5, 1.0, 0.13)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_all_scores_agree_with_simpleitk_on_masks_of_every_kind(name):
    (prediction, truth), spacing_mm = PAIRS[name]
    spacing = spacing_mm or (1.0,) * truth.ndim  # a photograph is scored in its pixels
    there, back = itk_directed(prediction, truth, spacing), itk_directed(truth, prediction, spacing)
    pooled = np.concatenate([there, back])
    # Between two of the distances that there are: float32 could fall on either side of one.
    levels = np.unique(pooled.round(4))
    between = levels[len(levels) // 2] + 1e-3
    ours = score(prediction, truth, spacing_mm, tolerance=float(between))
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(itk(truth, spacing), itk(prediction, spacing))
    assert ours.note == ""
    assert ours.dice == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-12)
    assert ours.jaccard == pytest.approx(overlap.GetJaccardCoefficient(), abs=1e-12)
    assert ours.hd95 == pytest.approx(max(percentile_95(there), percentile_95(back)), rel=1e-5)
    assert ours.assd == pytest.approx(pooled.mean(), rel=1e-5)
    assert ours.surface_dice == pytest.approx((pooled <= between).mean(), abs=1e-12)
    assert ours.unit == ("px" if spacing_mm is None else "mm")


@pytest.mark.parametrize("rounding", [3e-9, 7.7e-7, 3e-6])
@pytest.mark.parametrize("axis", range(3))
def test_surface_dice_does_not_depend_on_the_rounding_of_a_header(axis, rounding):
    """Four pixels of 0.5 mm are 2.0 mm, along every axis and whichever way float32 has gone."""
    exact = (0.5, 0.5, 0.5)
    truth = np.zeros((12, 12, 12), dtype=int)
    truth[3:8, 3:8, 3:8] = 1
    prediction = np.roll(truth, 4, axis)
    wanted = score(prediction, truth, exact, tolerance=2.0).surface_dice
    assert wanted > score(prediction, truth, exact, tolerance=1.99).surface_dice
    for sign in (1, -1):
        read = [mm * (1 + sign * rounding) for mm in exact]
        assert score(prediction, truth, read, tolerance=2.0).surface_dice == wanted


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
