"""Scores of a case: laws, photographs, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dim_monai.errors import ConfigError, DataError
from dim_monai.metrics import MISSED, ClassScore, score_case
from tests.metrics.masks import (
    PROSTATE,
    SPACING_MM,
    blob,
    distances_by_hand_mm,
    random_masks,
    score,
)


def test_a_miss_costs_more_than_the_worst_hit():
    first, last = np.zeros((2, 6, 7, 8), dtype=int)
    first[0, 0, 0] = 1
    last[-1, -1, -1] = 1
    worst, missed = score(first, last), score(0 * last, last)
    assert worst.note == ""
    assert worst.hd95 < missed.hd95
    assert worst.assd < missed.assd


def test_hd95_is_the_larger_directed_percentile_and_not_the_pooled_one():
    truth = np.zeros((10, 41), dtype=int)
    truth[:, 5] = 1
    prediction = truth.copy()
    prediction[0, 35] = 1
    # Prediction to truth: ten zeros and one 30; the 95th percentile of 11 values lies half way
    # between the 10th and the 11th. Truth to prediction: all zero. Pooled it would be 0.
    ours = score(prediction, truth, (1.0, 1.0))
    assert ours.hd95 == pytest.approx(15.0)
    assert ours.assd == pytest.approx(30.0 / 21.0)


def test_volume_error_is_prediction_minus_truth_in_ml():
    truth = np.zeros((20, 20, 20), dtype=int)
    truth[5:15, 5:15, 5:10] = 1  # 500 voxels
    prediction = np.zeros_like(truth)
    prediction[5:15, 5:15, 5:9] = 1  # 400 voxels
    assert score(prediction, truth, (0.5, 0.5, 4.0)).size_error == pytest.approx(-0.1)
    assert score(truth, prediction, (0.5, 0.5, 4.0)).size_error == pytest.approx(0.1)
    assert score(prediction[0:16, :, 6], truth[0:16, :, 6], (0.5, 0.5)).size_error is None


# Photographs


@pytest.mark.parametrize("seed", range(4))
def test_a_photograph_has_the_scores_of_an_image_with_pixels_of_1_mm(seed):
    prediction, truth = random_masks(seed, shape=(31, 17))
    (px,) = score_case(prediction, truth, None, PROSTATE)
    (mm,) = score_case(prediction, truth, (1.0, 1.0), PROSTATE)
    assert (px.unit, mm.unit) == ("px", "mm")
    assert (px.dice, px.jaccard, px.hd95, px.assd) == (mm.dice, mm.jaccard, mm.hd95, mm.assd)
    assert px.size_error == int(prediction.sum()) - int(truth.sum())
    hd95, assd = distances_by_hand_mm(prediction, truth, (1, 1))
    assert px.hd95 == pytest.approx(hd95, abs=1e-9)
    assert px.assd == pytest.approx(assd, abs=1e-9)


@pytest.mark.parametrize("density", [0.01, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_distances_in_pixels_are_those_of_a_distance_map_to_the_last_digit(seed, density):
    masks = [mask > 0 for mask in random_masks(seed, shape=(83, 61), density=density)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    there, back = (
        ndimage.distance_transform_edt(~target)[origin]
        for origin, target in (surfaces, surfaces[::-1])
    )
    (ours,) = score_case(*masks, None, {"disc": [True]})
    assert ours.hd95 == max(np.percentile(there, 95), np.percentile(back, 95))
    assert ours.assd == np.concatenate([there, back]).mean()


def test_the_names_of_a_photograph_hold_its_unit():
    names = score_case(np.eye(4, dtype=int), np.eye(4, dtype=int), None, PROSTATE)[0].named()
    assert list(names) == ["dice", "jaccard", "hd95_px", "assd_px", "surface_dice", "area_error_px"]
    assert not any("mm" in name for name in names)


@pytest.mark.parametrize("corner", [(0, 0), (0, -30), (-25, 0), (-25, -30)])
def test_the_photograph_around_the_structures_changes_no_distance(corner):
    prediction, truth = random_masks(5, shape=(25, 30))
    whole = np.zeros((2, 120, 90), dtype=int)
    place = tuple(
        slice(start, start + n or None) for start, n in zip(corner, (25, 30), strict=True)
    )
    whole[0][place], whole[1][place] = prediction, truth
    assert score_case(*whole, None, PROSTATE) == score_case(prediction, truth, None, PROSTATE)


def test_a_disc_holds_its_cup():
    truth = np.zeros((20, 20), dtype=int)
    truth[4:16, 4:16], truth[8:12, 8:12] = 1, 2
    prediction = np.where(truth == 2, 1, truth)  # the cup taken for rim
    disc, cup = score_case(prediction, truth, None, {"disc": [1, 2], "cup": [2]})
    assert (disc.dice, disc.hd95) == (1.0, 0.0)
    assert (cup.note, cup.size_error) == (MISSED, -16.0)


def test_a_photograph_has_two_axes():
    with pytest.raises(DataError, match="spacing does not fit"):
        score_case(blob(), blob(), None, PROSTATE)


# Laws


def test_a_prediction_equal_to_the_truth_is_perfect():
    assert score(blob(), blob()) == ClassScore(
        "prostate", 1.0, 1.0, 0.0, 0.0, 0.0, surface_dice=1.0, tolerance=2.0
    )


@pytest.mark.parametrize("seed", range(3))
def test_swapping_prediction_and_truth_only_turns_the_volume_error(seed):
    one, other = random_masks(seed)
    there, back = score(one, other), score(other, one)
    for name in ("dice", "jaccard", "hd95", "assd", "surface_dice"):
        assert getattr(there, name) == pytest.approx(getattr(back, name), rel=1e-12)
    assert there.size_error == -back.size_error


@pytest.mark.parametrize("shift", [(1, 0, 0), (-6, 3, 0), (5, -4, 3)])
def test_moving_both_masks_together_changes_nothing(shift):
    one, other = blob(), blob(centre=(11, 11, 7), radii=(5, 4, 2))
    moved = [np.roll(mask, shift, axis=(0, 1, 2)) for mask in (one, other)]
    assert score(*moved) == score(one, other)


@pytest.mark.parametrize("room", [0, 1, 7])
def test_empty_room_around_both_masks_changes_nothing(room):
    one, other = random_masks(1)
    assert score(np.pad(one, room), np.pad(other, room)) == score(one, other)


def test_distances_scale_with_the_spacing_and_volume_with_its_cube():
    one, other = random_masks(2)
    factor = 2.5
    small, large = score(one, other), score(one, other, tuple(factor * mm for mm in SPACING_MM))
    assert (large.dice, large.jaccard) == (small.dice, small.jaccard)
    assert large.hd95 == pytest.approx(factor * small.hd95)
    assert large.assd == pytest.approx(factor * small.assd)
    assert large.size_error == pytest.approx(factor**3 * small.size_error)


def test_surface_dice_grows_with_its_tolerance_from_the_shared_surface_to_1():
    one, other = random_masks(6, density=0.1)
    grown = [score(one, other, tolerance=mm).surface_dice for mm in (0, 0.7, 1.5, 4, 100)]
    assert grown == sorted(grown)
    assert grown[0] < grown[2] < grown[-1] == 1.0


@pytest.mark.parametrize(("gap", "within"), [(3, 1.0), (4, 0.0)])
def test_a_distance_that_equals_the_tolerance_is_within_it(gap, within):
    one = np.zeros((12, 4, 3), dtype=int)
    one[2] = 1
    # 3 * 0.4 is 1.2000000000000002
    assert score(one, np.roll(one, gap, axis=0), (0.4, 1, 3), tolerance=1.2).surface_dice == within


def test_the_default_tolerance_is_that_of_the_unit():
    one, other = random_masks(0, shape=(20, 20), density=0.05)
    assert score(one, other, (1.0, 1.0)) == score(one, other, (1.0, 1.0), tolerance=2.0)
    assert score(one, other, None) == score(one, other, None, tolerance=5.0)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), density=st.floats(0.1, 0.9))
def test_dice_and_jaccard_name_the_same_overlap(seed, density):
    ours = score(*random_masks(seed, density=density))
    assert ours.dice == pytest.approx(2 * ours.jaccard / (1 + ours.jaccard))


def test_a_volume_of_one_slice_has_the_distances_of_the_2d_image():
    one, other = random_masks(4, shape=(15, 11), density=0.7)
    flat = score(one, other, SPACING_MM[:2])
    volume = score(one[..., None], other[..., None])
    assert (volume.hd95, volume.assd) == (flat.hd95, flat.assd)
    missed = score(0 * one[..., None], other[..., None])
    assert missed.hd95 == score(0 * one, other, SPACING_MM[:2]).hd95


def test_a_region_is_the_union_of_its_labels():
    random = np.random.default_rng(0)
    prediction, truth = random.integers(0, 3, size=(2, 8, 8, 8))
    classes = {"zone": [1], "other zone": [2], "prostate": [1, 2]}
    zone, other, prostate = score_case(prediction, truth, SPACING_MM, classes)
    assert [zone.class_name, other.class_name, prostate.class_name] == list(classes)
    assert zone == score_case(prediction == 1, truth == 1, SPACING_MM, {"zone": [1]})[0]
    assert prostate == score(prediction > 0, truth > 0)
    assert prostate.size_error == pytest.approx(zone.size_error + other.size_error)


def test_scores_are_plain_floats_whatever_the_header_gives():
    ours = score(*random_masks(0), np.array(SPACING_MM, dtype=np.float32))
    assert {type(value) for value in ours.named().values()} == {float}


# What is refused


@pytest.mark.parametrize(
    ("shapes", "spacing_mm"),
    [
        (((4, 4, 4), (4, 4, 5)), (1, 1, 1)),
        (((4, 4, 4), (4, 4, 4)), (1, 1)),
        (((4, 4, 4), (4, 4, 4)), (1, 1, 0)),
        (((4, 4, 4), (4, 4, 4)), (1, 1, math.nan)),
        (((4,), (4,)), (1,)),
        (((4, 1, 1), (4, 1, 1)), (1, 1, 1)),
    ],
)
def test_an_unusable_grid_is_refused(shapes, spacing_mm):
    prediction, truth = (np.ones(shape, dtype=int) for shape in shapes)
    with pytest.raises(DataError):
        score(prediction, truth, spacing_mm)


def test_probabilities_are_refused():
    with pytest.raises(TypeError, match="prediction"):
        score(np.full((4, 4), 0.7), np.ones((4, 4), dtype=int), (1, 1))


@pytest.mark.parametrize("classes", [{}, {"prostate": []}])
def test_a_region_without_labels_is_refused(classes):
    with pytest.raises(ConfigError):
        score_case(*random_masks(0), SPACING_MM, classes)


@pytest.mark.parametrize(
    "choice",
    [{"tolerance": -1}, {"tolerance": math.nan}, {"both_empty": "1"}, {"both_empty": True}],
)
def test_a_choice_that_there_is_not_is_refused(choice):
    with pytest.raises(ConfigError):
        score(*random_masks(0), **choice)
