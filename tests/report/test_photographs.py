"""What the pictures of photographs show, read back from their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dim_monai.errors import DataError
from dim_monai.report.photographs import LONGEST_SIDE, photograph_png
from tests.report.pictures import near, pixels

BLUE, WHITE, GREEN = (0x56, 0xB4, 0xE9), (255, 255, 255), (0, 200, 0)
REGIONS = {"disc": [1, 2], "cup": [2]}


def eye(shape=(900, 600), centre=(250, 200), radius=60):
    """A dark photograph (W, H, 3) with a green disc, and its labels with a cup of half the size."""
    x, y = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(x - centre[0], y - centre[1])
    labels = (distance < radius).astype(np.uint8) + (distance < radius / 2)
    image = np.full((*shape, 3), 40, dtype=np.uint8)
    image[labels > 0] = GREEN
    return image, labels


def panels(picture):
    """Boxes of the two photographs in the picture: not white and large."""
    patches, _ = ndimage.label(ndimage.binary_closing(~near(picture, WHITE), iterations=3))
    boxes = ndimage.find_objects(patches)
    large = [box for box in boxes if all(side.stop - side.start > 150 for side in box)]
    return sorted(large, key=lambda box: box[1].start)


@pytest.mark.parametrize("centre", [(250, 200), (700, 450), (30, 580)])
def test_the_whole_lies_beside_a_close_up_and_the_disc_is_where_it_is(centre):
    image, labels = eye(centre=centre)
    picture = pixels(photograph_png(image, 0 * labels, labels, {"disc": [1, 2]}, "case"))
    assert max(picture.shape) == pytest.approx(LONGEST_SIDE, abs=2)
    whole, close = panels(picture)
    rows, columns = np.nonzero(near(picture[whole], GREEN))
    height, width = (side.stop - side.start for side in whole)
    assert width / height == pytest.approx(900 / 600, rel=0.02)
    x, y = np.nonzero(labels)
    assert columns.mean() / width == pytest.approx(x.mean() / 900, abs=0.015)
    assert rows.mean() / height == pytest.approx(y.mean() / 600, abs=0.015)
    # The structure fills a good part of the close-up, and its outline is seen with it.
    assert near(picture[close], GREEN).mean() > 5 * near(picture[whole], GREEN).mean()


@pytest.mark.parametrize("size", [(300, 300), (2100, 1400)])
def test_each_outline_is_drawn_around_its_region(size):
    image, labels = eye(size, (size[0] // 2, size[1] // 2), size[1] // 4)
    both = pixels(photograph_png(image, labels, np.roll(labels, 9, axis=0), REGIONS, "case"))
    assert near(both, BLUE).sum() > 300
    missed = pixels(photograph_png(image, 0 * labels, labels, REGIONS, "case"))
    disc_only = pixels(photograph_png(image, 0 * labels, labels, {"disc": [1, 2]}, "case"))
    assert near(missed, BLUE).sum() > 1.2 * near(disc_only, BLUE).sum()  # the cup has its own
    alone = pixels(photograph_png(image, labels, None, REGIONS, "case"))
    assert near(alone, BLUE).sum() == 0


def test_a_photograph_that_is_cut_out_around_the_disc_is_shown_once():
    image, labels = eye((400, 400), (200, 200), 90)
    assert len(panels(pixels(photograph_png(image, labels, labels, REGIONS, "case")))) == 1
    image, labels = eye((400, 400), (200, 200), 20)
    assert len(panels(pixels(photograph_png(image, labels, labels, REGIONS, "case")))) == 2


@pytest.mark.parametrize("shape", [(40, 30), (30, 400), (400, 30), (1, 50), (2001, 1333)])
def test_photographs_of_any_shape_are_drawn(shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    labels = np.zeros(shape, dtype=int)
    for truth in (labels, None, labels + 1):
        picture = pixels(photograph_png(image, labels, truth, REGIONS, "case"))
        assert max(picture.shape) <= LONGEST_SIDE + 2


def test_the_same_picture_has_the_same_bytes():
    image, labels = eye()
    first, second = (photograph_png(image, labels, labels, REGIONS, "a") for _ in range(2))
    assert first == second


@pytest.mark.parametrize("title", ["cost $5", "$\\frac{", "<b>", ""])
def test_any_case_name_can_be_a_title(title):
    image, labels = eye((90, 60), (40, 30), 9)
    assert pixels(photograph_png(image, labels, labels, REGIONS, title)).ndim == 3


def test_what_does_not_fit_is_refused():
    image, labels = eye((90, 60))
    for bad, name in ((labels.T, "prediction"), (labels[..., None], "prediction")):
        with pytest.raises(DataError, match=name):
            photograph_png(image, bad, labels, REGIONS, "case")
    with pytest.raises(DataError, match="truth"):
        photograph_png(image, labels, labels[:5], REGIONS, "case")
    with pytest.raises(DataError, match="photograph"):
        photograph_png(image[..., 0], labels, None, REGIONS, "case")
