"""What the pictures show, read back from their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from dim_monai.errors import DataError
from dim_monai.report.figures import _moving_mean, curves_png, overlay_png
from tests.report.pictures import near, pixels

BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


def one_dark_block(shape=(40, 40, 1)):
    """A bright image that is dark at the patient's right, in front."""
    image = np.ones(shape)
    image[26:36, 26:36] = 0.0
    return image


def largest_dark_patch(png):
    """Its slices of rows and of columns, and the size of the picture."""
    dark = near(pixels(png), (0, 0, 0))
    patches, _ = ndimage.label(dark)
    largest = np.argmax(np.bincount(patches.ravel())[1:])
    return *ndimage.find_objects(patches)[largest], dark.shape


def test_patient_right_is_on_the_left_and_anterior_is_up():
    nothing = np.zeros((40, 40, 1), dtype=int)
    png = overlay_png(one_dark_block(), nothing, nothing, (1.0, 1.0, 3.0), "case")
    rows, columns, (height, width) = largest_dark_patch(png)
    assert rows.stop < height / 2
    assert columns.stop < width / 2


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 3.0), (1.0, 2.0, 3.0), (1.5, 1.0, 3.0)])
def test_a_square_of_voxels_is_as_high_as_its_spacing(spacing_mm):
    nothing = np.zeros((40, 40, 1), dtype=int)
    png = overlay_png(one_dark_block(), nothing, nothing, spacing_mm, "case")
    rows, columns, _ = largest_dark_patch(png)
    ratio = (rows.stop - rows.start) / (columns.stop - columns.start)
    assert ratio == pytest.approx(spacing_mm[1] / spacing_mm[0], rel=0.05)


@pytest.mark.parametrize(("depth", "panels"), [(1, 1), (3, 3), (5, 5), (40, 5)])
def test_no_slice_is_shown_twice(depth, panels):
    nothing = np.zeros((40, 40, depth), dtype=int)
    png = overlay_png(one_dark_block((40, 40, depth)), nothing, nothing, (1, 1, 3), "case")
    patches, count = ndimage.label(near(pixels(png), (0, 0, 0)))
    sizes = np.bincount(patches.ravel(), minlength=count + 1)[1:]
    assert (sizes > sizes.max() / 2).sum() == panels


def test_each_outline_is_drawn_where_there_is_one():
    image = np.random.default_rng(0).random((40, 40, 12))
    mask = np.zeros(image.shape, dtype=int)
    mask[10:30, 12:28, 3:9] = 1
    both = pixels(overlay_png(image, np.roll(mask, 4, axis=0), mask, (1, 1, 3), "case"))
    alone = pixels(overlay_png(image, mask, None, (1, 1, 3), "case"))
    missed = pixels(overlay_png(image, 0 * mask, mask, (1, 1, 3), "case"))
    assert near(both, BLUE).sum() > 500
    assert near(both, ORANGE).sum() > 500
    assert near(alone, BLUE).sum() == 0
    assert near(missed, ORANGE).sum() < near(both, ORANGE).sum() / 3  # the legend only


def test_the_border_of_two_labels_is_drawn_once():
    """Twice drawn dashes are out of step and look like the line of the truth, which is solid."""
    image = np.zeros((60, 60, 1))
    labels = np.zeros(image.shape, dtype=int)
    labels[15:45, 15:30], labels[15:45, 30:45] = 1, 2
    whole, zones, other = (
        near(pixels(overlay_png(image, mask, None, (1, 1, 3), "case")), ORANGE)
        for mask in (labels > 0, labels, np.where(labels > 0, 3 - labels, 0))
    )
    added = zones & ~whole
    assert (whole & ~zones).sum() == 0  # the outline around both stays as it is
    assert 0 < added.sum() < 0.4 * whole.sum()  # one of four sides more, of one side's length
    rows, columns = (np.flatnonzero(added.any(axis=axis)) for axis in (1, 0))
    assert np.ptp(rows) < 6 < np.ptp(columns)  # the border lies across the patient
    assert 0.3 < len(columns) / np.ptp(columns) < 0.9  # in dashes
    assert abs(int((other & ~whole).sum()) - int(added.sum())) < 0.2 * added.sum()


def test_a_long_title_is_wrapped_and_takes_nothing_from_the_picture():
    image = np.random.default_rng(0).random((40, 40, 1))
    mask = np.ones(image.shape, dtype=int)
    one, four = (
        pixels(overlay_png(image, mask, None, (1, 1, 3), title))
        for title in ("case", " ".join(["site / case: zone Dice 0.123, gland Dice 0.456"] * 2))
    )
    assert four.shape[0] > one.shape[0]
    assert four.shape[1] == one.shape[1]
    for picture in (one, four):  # the ink ends before the right edge
        assert (picture[: picture.shape[0] // 8, -3:] > 250).all()


def test_the_same_picture_has_the_same_bytes():
    image = np.random.default_rng(0).random((20, 20, 3))
    mask = (image > 0.5).astype(int)
    assert overlay_png(image, mask, mask, (1, 1, 1), "a") == overlay_png(
        image, mask, mask, (1, 1, 1), "a"
    )


@pytest.mark.parametrize("title", ["cost $5", "$\\frac{", "<b>", ""])
def test_any_case_name_can_be_a_title(title):
    image = np.random.default_rng(0).random((20, 20, 3))
    mask = np.ones(image.shape, dtype=int)
    assert pixels(overlay_png(image, mask, mask, (1, 1, 1), title)).ndim == 3
    assert pixels(curves_png({title: [(0, 1.0), (1, 2.0)]})).ndim == 3


def test_what_does_not_fit_is_refused():
    image = np.zeros((4, 4, 4))
    mask = np.zeros((4, 4, 4), dtype=int)
    with pytest.raises(DataError, match="prediction"):
        overlay_png(image, mask[:3], mask, (1, 1, 1), "case")
    with pytest.raises(DataError, match="truth"):
        overlay_png(image, mask, mask[:3], (1, 1, 1), "case")
    with pytest.raises(DataError, match="NaN"):
        overlay_png(np.full((4, 4, 4), math.nan), mask, mask, (1, 1, 1), "case")


def test_curves_with_gaps_or_one_value_are_drawn_without_warnings(recwarn):
    gap = [(step, math.nan if 20 < step < 40 else 1.0 / (1 + step)) for step in range(100)]
    lost = [(step, math.inf) for step in range(100)]
    png = curves_png({"gap": gap, "one": [(7, 0.5)], "lost": lost, "none": [], "zero": [(0, 0.0)]})
    assert pixels(png).ndim == 3
    assert not recwarn.list


def test_no_curve_is_no_picture():
    with pytest.raises(ValueError, match="no curve"):
        curves_png({})


def test_the_moving_mean_is_the_mean_of_the_known_neighbours():
    values = np.array([1.0, 5.0, math.nan, 2.0, 4.0, 9.0])
    # By hand, over the value and its two neighbours.
    expected = [3.0, 3.0, math.nan, 3.0, 5.0, 6.5]
    np.testing.assert_allclose(_moving_mean(values, 3), expected)
