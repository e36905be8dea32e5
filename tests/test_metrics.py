"""Scores of a case: what empty masks cost, agreement with independent computations, laws."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dim_monai.errors import ConfigError, DataError, NumericError
from dim_monai.metrics import (
    ALL,
    BOTH_EMPTY,
    FALSE_POSITIVE,
    MEAN_OF_DOMAINS,
    MISSED,
    SCORE_NAMES,
    VCDR_ERROR,
    ClassScore,
    ScoreRow,
    score_case,
    score_names,
    summarise,
)

PROSTATE = {"prostate": [1]}
SPACING_MM = (0.6, 0.8, 3.5)


def score(prediction, truth, spacing_mm=SPACING_MM):
    return score_case(prediction, truth, spacing_mm, PROSTATE)[0]


def random_masks(seed, shape=(9, 8, 7), density=0.3):
    """Two ragged masks, which reach the border of the image."""
    random = np.random.default_rng(seed)
    return tuple((random.random(shape) < density).astype(np.int16) for _ in range(2))


def blob(shape=(24, 22, 14), centre=(12, 10, 7), radii=(6, 5, 3)):
    grid = np.indices(shape)
    parts = [((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)]
    return (sum(parts) <= 1).astype(np.uint8)


def surface_points_mm(mask, spacing_mm):
    """Centres of the foreground voxels with a face neighbour outside, by looking at each."""
    padded = np.pad(mask > 0, 1)
    points = []
    for index in np.argwhere(padded):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = index.copy()
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    points.append(tuple(index * np.asarray(spacing_mm)))
    return np.array(sorted(set(points)))


def distances_by_hand_mm(prediction, truth, spacing_mm):
    """HD95 and ASSD over all pairs of surface points."""
    p, t = (surface_points_mm(mask, spacing_mm) for mask in (prediction, truth))
    pairs = np.sqrt(((p[:, None] - t[None]) ** 2).sum(-1))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    return max(percentile_95(there), percentile_95(back)), np.concatenate([there, back]).mean()


def percentile_95(values):
    ordered = np.sort(values)
    place = 0.95 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def nothing(class_name="cup", unit="px"):
    return ClassScore(class_name, None, None, None, None, None, BOTH_EMPTY, unit)


# The empty-mask rule


def test_empty_masks_score_as_the_rule_says():
    shape, spacing_mm = (10, 20, 5), (1.0, 0.5, 4.0)
    diagonal_mm = math.sqrt(10**2 + 10**2 + 20**2)
    empty = np.zeros(shape, dtype=int)
    full = empty.copy()
    full[2:4, 5:10, 1:3] = 1  # 20 voxels of 2 mm3
    missed = ClassScore("prostate", 0.0, 0.0, diagonal_mm, diagonal_mm, -0.04, MISSED)
    false = ClassScore("prostate", 0.0, 0.0, diagonal_mm, diagonal_mm, 0.04, FALSE_POSITIVE)
    neither = ClassScore("prostate", None, None, None, None, None, BOTH_EMPTY)
    assert score(empty, full, spacing_mm) == missed
    assert score(full, empty, spacing_mm) == false
    assert score(empty, empty, spacing_mm) == neither


def test_a_miss_costs_more_than_the_worst_hit():
    first, last = np.zeros((2, 6, 7, 8), dtype=int)
    first[0, 0, 0] = 1
    last[-1, -1, -1] = 1
    worst, missed = score(first, last), score(0 * last, last)
    assert worst.note == ""
    assert worst.hd95 < missed.hd95
    assert worst.assd < missed.assd


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("unit", "place"), [(unit, place) for unit in SCORE_NAMES for place in range(5)]
)
def test_what_is_not_a_number_is_never_a_score(unit, place, value):
    numbers = [value if n == place else 0.5 for n in range(5)]
    with pytest.raises(NumericError, match=SCORE_NAMES[unit][place]):
        ClassScore("prostate", *numbers, unit=unit)


@pytest.mark.parametrize("name", ["vcdr", "vcdr_truth"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_never_a_ratio(name, value):
    with pytest.raises(NumericError, match=f"{name} of eye"):
        ScoreRow("eye", "clinic", "test", nothing(), **{name: value})


# Agreement with independent computations


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


def test_distances_agree_with_simpleitk_distance_maps():
    prediction, truth = blob(), blob(centre=(13, 12, 6), radii=(5, 6, 3))

    def directed_mm(origin, target):
        origin, target = (SimpleITK.GetImageFromArray(mask.T.copy()) for mask in (origin, target))
        for image in (origin, target):
            image.SetSpacing(SPACING_MM)
        to_target = SimpleITK.SignedMaurerDistanceMap(
            SimpleITK.LabelContour(target), squaredDistance=False, useImageSpacing=True
        )
        contour = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(origin)) > 0
        return np.abs(SimpleITK.GetArrayFromImage(to_target))[contour]

    there, back = directed_mm(prediction, truth), directed_mm(truth, prediction)
    ours = score(prediction, truth)
    # The distance map of SimpleITK is float32.
    assert ours.hd95 == pytest.approx(max(percentile_95(there), percentile_95(back)), rel=1e-5)
    assert ours.assd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


def test_distances_agree_with_monai_where_both_masks_are_present():
    metrics = pytest.importorskip("monai.metrics")
    prediction, truth = random_masks(3, shape=(16, 14, 9), density=0.1)
    batch = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    options = {"include_background": True, "spacing": list(SPACING_MM)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of its own deprecations
        hd95 = metrics.compute_hausdorff_distance(*batch, percentile=95, **options)
        assd = metrics.compute_average_surface_distance(*batch, symmetric=True, **options)
    ours = score(prediction, truth)
    assert ours.hd95 == pytest.approx(hd95.item(), rel=1e-5)
    assert ours.assd == pytest.approx(assd.item(), rel=1e-5)


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
    assert list(names) == ["dice", "jaccard", "hd95_px", "assd_px", "area_error_px"]
    assert not any("mm" in name for name in names)


def test_a_missed_disc_costs_the_diagonal_of_the_photograph():
    truth = np.zeros((30, 40), dtype=np.uint8)
    truth[3:6, 7:9] = 1
    missed = score_case(0 * truth, truth, None, PROSTATE)[0]
    assert missed == ClassScore("prostate", 0.0, 0.0, 50.0, 50.0, -6.0, MISSED, "px")
    false = score_case(truth, 0 * truth, None, PROSTATE)[0]
    assert false == ClassScore("prostate", 0.0, 0.0, 50.0, 50.0, 6.0, FALSE_POSITIVE, "px")
    assert score_case(0 * truth, 0 * truth, None, PROSTATE)[0] == nothing("prostate")


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
    assert score(blob(), blob()) == ClassScore("prostate", 1.0, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_swapping_prediction_and_truth_only_turns_the_volume_error(seed):
    one, other = random_masks(seed)
    there, back = score(one, other), score(other, one)
    for name in ("dice", "jaccard", "hd95", "assd"):
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


@settings(max_examples=30, deadline=None)
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


# Means


def row(case, domain, dice, *, class_name="prostate", split="test", hd95_mm=1.0, note=""):
    values = (None,) * 5 if dice is None else (dice, dice / 2, hd95_mm, 1.0, -1.0)
    return ScoreRow(case, domain, split, ClassScore(class_name, *values, note=note))


ROWS = [
    row("a", "one", 0.9),
    row("b", "one", 0.7),
    row("c", "one", 0.5),
    row("d", "two", 0.2, hd95_mm=9.0),
    row("e", "two", 0.0, hd95_mm=99.0, note=MISSED),
    row("f", "two", None, note=BOTH_EMPTY),
    row("g", "three", None, note=BOTH_EMPTY),
]


def test_domains_weigh_the_same_whatever_their_size():
    one, two, three, mean = summarise(ROWS)
    assert [s.domain for s in (one, two, three, mean)] == ["one", "two", "three", MEAN_OF_DOMAINS]
    assert one.mean["dice"] == pytest.approx(0.7)
    assert two.mean["dice"] == pytest.approx(0.1)
    assert two.mean["hd95_mm"] == pytest.approx(54.0)
    assert mean.mean["dice"] == pytest.approx(0.4)
    assert one.std["dice"] == pytest.approx(np.std([0.9, 0.7, 0.5], ddof=1))
    assert mean.std["dice"] == pytest.approx(np.std([0.7, 0.1], ddof=1))


def test_what_is_not_scored_is_counted_and_enters_no_mean():
    one, two, three, mean = summarise(ROWS)
    counts = [(s.n_scored, s.n_total, s.n_penalised) for s in (one, two, three, mean)]
    assert counts == [(3, 3, 0), (2, 3, 1), (0, 1, 0), (5, 7, 1)]
    assert set(three.mean.values()) == set(three.std.values()) == {None}


def test_a_single_value_has_no_spread():
    (only, mean) = summarise([row("a", "one", 0.5)])
    assert only.mean == mean.mean
    assert set(only.std.values()) == set(mean.std.values()) == {None}


def test_classes_are_kept_apart_and_pooled_only_on_request():
    rows = [row("a", "one", 1.0, class_name="x"), row("a", "one", 0.0, class_name="y")]
    assert [(s.class_name, s.mean["dice"]) for s in summarise(rows, by=("class",))] == [
        ("x", 1.0),
        ("y", 0.0),
    ]
    (pooled, _) = summarise(rows, by=("domain",))
    assert (pooled.class_name, pooled.domain, pooled.mean["dice"]) == (ALL, "one", 0.5)


def test_without_domains_every_case_weighs_the_same():
    (pooled,) = summarise(ROWS, by=("class",))
    assert pooled.domain == ALL
    assert pooled.mean["dice"] == pytest.approx((0.9 + 0.7 + 0.5 + 0.2 + 0.0) / 5)


def test_splits_are_never_averaged_together():
    with pytest.raises(DataError, match="split"):
        summarise([row("a", "one", 0.5), row("b", "one", 0.5, split="validation")])


def photograph_row(case, class_name, dice, vcdr=None, vcdr_truth=None, domain="one"):
    score = ClassScore(class_name, dice, dice / 2, 3.0, 1.0, -5.0, unit="px")
    return ScoreRow(case, domain, "test", score, vcdr, vcdr_truth)


EYES = [
    photograph_row("a", "disc", 0.9, 0.6, 0.5),
    photograph_row("a", "cup", 0.8, 0.6, 0.5),
    photograph_row("b", "disc", 0.7, 0.3, 0.5),
    photograph_row("b", "cup", 0.6, 0.3, 0.5),
    photograph_row("c", "disc", 0.5, None, 0.4),
]


def test_the_error_of_the_ratio_is_averaged_over_the_cases_that_have_one():
    summaries = {(s.class_name, s.domain): s for s in summarise(EYES)}
    cup = summaries["cup", "one"]
    assert list(cup.mean) == [*SCORE_NAMES["px"], VCDR_ERROR]
    assert cup.mean[VCDR_ERROR] == pytest.approx((0.1 - 0.2) / 2)
    assert cup.std[VCDR_ERROR] == pytest.approx(np.std([0.1, -0.2], ddof=1))
    assert summaries["disc", "one"].mean[VCDR_ERROR] == cup.mean[VCDR_ERROR]
    assert cup.mean["area_error_px"] == -5.0


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([], SCORE_NAMES["mm"]),
        (ROWS, SCORE_NAMES["mm"]),
        (EYES[:1], SCORE_NAMES["px"]),
        (EYES[:2], (*SCORE_NAMES["px"], "vcdr", "vcdr_truth")),
        ([row("a", "one", 0.5, class_name=name) for name in ("disc", "cup")], SCORE_NAMES["mm"]),
    ],
)
def test_ratios_belong_to_photographs_with_disc_and_cup(rows, names):
    assert score_names(rows) == names


def test_mm_and_pixels_are_never_averaged_together():
    with pytest.raises(DataError, match="several units"):
        summarise([ROWS[0], EYES[0]])


def test_no_rows_give_no_summary():
    assert summarise([]) == []
