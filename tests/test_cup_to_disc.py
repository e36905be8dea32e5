"""The vertical cup-to-disc ratio of shapes whose ratio is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.cup_to_disc import vertical_cup_to_disc_ratio

DISC, CUP = (1, 2), (2,)
SHAPE = (260, 240)


def ellipse(centre, radii):
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def eye(disc_radii, cup_radii, centre=(130, 120)):
    labels = ellipse(centre, disc_radii).astype(np.uint8)
    labels[ellipse(centre, cup_radii)] = 2
    return labels


@settings(max_examples=50)
@given(
    width=st.floats(30, 110),
    height=st.floats(30, 110),
    across=st.floats(0.2, 0.9),
    down=st.floats(0.2, 0.9),
)
def test_the_ratio_of_ellipses_is_that_of_their_vertical_axes(width, height, across, down):
    labels = eye((width, height), (across * width, down * height))
    # Either extent is off by less than a pixel.
    assert vertical_cup_to_disc_ratio(labels, DISC, CUP) == pytest.approx(down, abs=1.5 / height)


def test_extents_count_both_ends():
    labels = np.zeros((5, 9), dtype=int)
    labels[1:4, 1:8] = 1
    labels[2, 4] = 2
    assert vertical_cup_to_disc_ratio(labels, DISC, CUP) == 1 / 7


def test_vertical_is_the_second_axis():
    labels = eye((100, 50), (20, 40))
    assert vertical_cup_to_disc_ratio(labels, DISC, CUP) == pytest.approx(0.8, abs=0.02)
    assert vertical_cup_to_disc_ratio(labels.T, DISC, CUP) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("flip", [np.flipud, np.fliplr, lambda a: np.roll(a, (9, -7), (0, 1))])
def test_flips_and_shifts_change_nothing(flip):
    labels = eye((80, 70), (30, 45))
    ratio = vertical_cup_to_disc_ratio(labels, DISC, CUP)
    assert vertical_cup_to_disc_ratio(flip(labels), DISC, CUP) == ratio


def test_a_disc_without_a_cup_is_0_and_not_unknown():
    labels = ellipse((130, 120), (50, 60)).astype(int)
    assert vertical_cup_to_disc_ratio(labels, DISC, CUP) == 0.0


def test_where_there_is_no_disc_or_no_cup_class_there_is_no_ratio():
    labels = ellipse((130, 120), (50, 60)).astype(int)
    assert vertical_cup_to_disc_ratio(0 * labels, DISC, CUP) is None
    assert vertical_cup_to_disc_ratio(labels, (1,), ()) is None


def test_a_volume_has_none():
    with pytest.raises(ValueError, match=r"\(W, H\)"):
        vertical_cup_to_disc_ratio(np.zeros((3, 3, 3), dtype=int), DISC, CUP)
