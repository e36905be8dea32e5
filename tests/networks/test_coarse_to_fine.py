"""CoarseToFine finds a drawn disc wherever and however large it is, and is a plain network else.

Its network here is an oracle: in these photographs the first channel is 1 in the disc and the
second is 1 in the cup, so the right classes of any view of them are known.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import UNet
from scipy import ndimage
from torch import Tensor, nn

from dim_monai.errors import ConfigError
from dim_monai.networks import CoarseToFine
from dim_monai.networks.windows import largest_component, look, roundness
from tests.other_device import DEVICE, Elsewhere, OtherDevice

ROI = 64


class Oracle(nn.Module):
    """Says rim where the disc channel is above the middle, cup where the cup channel is, too."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.views.append(image)
        disc, cup = image[:, :1] - 0.5, image[:, 1:2] - 0.5
        return 100 * torch.cat([-disc, torch.minimum(disc, -cup), torch.minimum(disc, cup)], dim=1)


class PickyOracle(Oracle):
    """Knows a disc that is close only if so many of its diameters are the side of the view."""

    def __init__(self, diameters: float) -> None:
        super().__init__()
        self.diameters = diameters

    def forward(self, image: Tensor) -> Tensor:
        share = 2 * math.sqrt(float((image[:, 0] > 0.5).sum()) / math.pi) / image.shape[2]
        known = share < 0.2 or abs(share * self.diameters - 1) < 0.1
        return super().forward(image if known else torch.zeros_like(image))


def photograph(
    width: int, height: int, centre: tuple[float, float], diameter: float, darkest: float = 0.0
) -> Tensor:
    """Return (1, 3, W, H): a disc, in it a cup of half its diameter, and coordinates."""
    x = torch.arange(width)[:, None] + 0.5
    y = torch.arange(height)[None, :] + 0.5
    distance = torch.hypot(x - centre[0], y - centre[1])
    channels = [distance < diameter / 2, distance < diameter / 4, (x / width).expand(-1, height)]
    return torch.stack([c.float() for c in channels])[None] + darkest


def classes(image: Tensor) -> Tensor:
    return (image[0, 0] > 0.5).long() + (image[0, 1] > 0.5).long()


def segment(image: Tensor, **options: Any) -> Tensor:
    return CoarseToFine(Oracle(), (ROI, ROI), **options)(image)[0].argmax(dim=0)


def surface_distance(found: Tensor, truth: Tensor) -> float:
    """Return the greatest distance of a pixel on which two masks differ from their common edge."""
    edge = ndimage.binary_dilation(truth.numpy()) ^ ndimage.binary_erosion(truth.numpy())
    distance = ndimage.distance_transform_edt(~edge)
    differs = (found != truth).numpy()
    return float(distance[differs].max()) if differs.any() else 0.0


def unet(classes: int = 3) -> UNet:
    return UNet(2, 3, classes, channels=[4, 8], strides=[2], norm=("INSTANCE", {"affine": True}))


def test_an_image_of_the_roi_size_goes_through_the_plain_network() -> None:
    network = unet()
    image = torch.rand(2, 3, ROI, ROI)
    assert torch.equal(CoarseToFine(network, (ROI, ROI))(image), network(image))


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(200, 420), st.integers(200, 420)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    share=st.floats(0.1, 0.3),
)
def test_a_drawn_disc_is_found_wherever_it_lies(
    size: tuple[int, int], place: tuple[float, float], share: float
) -> None:
    diameter = share * max(size)
    centre = tuple(diameter / 2 + p * (s - diameter) for p, s in zip(place, size, strict=True))
    image = photograph(*size, centre, diameter)
    found, truth = segment(image), classes(image)
    # The last look shows 3.5 diameters at most on 64 pixels: so many of the image are one of its.
    pixel = max(1.0, 3.5 * diameter / ROI)
    assert surface_distance(found > 0, truth > 0) <= 1.5 * pixel
    assert surface_distance(found == 2, truth == 2) <= 1.5 * pixel


def test_the_second_look_is_sharper_than_the_first() -> None:
    image = photograph(640, 480, (200, 300), 64)
    once = segment(image, fields=[1000.0])  # about the whole image: no second look
    errors = [int((found != classes(image)).sum()) for found in (once, segment(image))]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize(("dx", "dy"), [(100, 0), (0, -80), (-40, 60)])
def test_shifting_the_photograph_shifts_the_mask(dx: int, dy: int) -> None:
    # By a multiple of what a pixel of the first look covers, 640 / 64: it sees the same, shifted.
    image = photograph(640, 640, (320, 320), 90)
    image[:, 2] = 0
    here = segment(image)
    there = segment(torch.roll(image, (dx, dy), dims=(2, 3)))
    assert torch.equal(torch.roll(here, (dx, dy), dims=(0, 1)), there)


def test_a_disc_centred_region_is_looked_at_once() -> None:
    image = photograph(300, 300, (150, 150), 120)  # 2.5 diameters wide
    network = CoarseToFine(Oracle(), (ROI, ROI))
    found = network(image)[0].argmax(dim=0)
    assert len(network.network.views) == 1
    assert surface_distance(found > 0, classes(image) > 0) <= 1.5 * 300 / ROI


def test_without_a_disc_the_first_look_is_the_answer() -> None:
    network = CoarseToFine(Oracle(), (ROI, ROI))
    result = network(photograph(300, 200, (-500, -500), 50))
    assert len(network.network.views) == 1
    assert (result.argmax(dim=1) == 0).all()


def test_outside_of_the_square_is_background_for_certain() -> None:
    result = CoarseToFine(Oracle(), (ROI, ROI))(photograph(400, 400, (100, 300), 40))
    background = torch.softmax(result, dim=1)[0, 0]
    assert (background[160:] > 0.9999).all()
    assert (background[:, :240] > 0.9999).all()


def test_the_second_look_shows_so_many_diameters_around_the_disc() -> None:
    image = photograph(500, 500, (180, 330), 60)
    network = CoarseToFine(Oracle(), (ROI, ROI), fields=[3.0])
    network(image)
    second = network.network.views[1]
    disc = second[0, 0] > 0.5
    assert float(disc.sum()) == pytest.approx(math.pi / 4 * (ROI / 3.0) ** 2, rel=0.06)
    middle = torch.nonzero(disc).float().mean(dim=0) + 0.5
    assert torch.allclose(middle, torch.tensor([ROI / 2, ROI / 2]), atol=1.5)


@pytest.mark.parametrize(("known", "unknown"), [(2.5, 3.5), (3.5, 2.5)])
def test_a_disc_that_is_known_at_one_of_the_sizes_is_found(known: float, unknown: float) -> None:
    image = photograph(500, 400, (180, 230), 60)
    both = CoarseToFine(PickyOracle(known), (ROI, ROI), fields=[2.5, 3.5])(image)
    one = CoarseToFine(PickyOracle(known), (ROI, ROI), fields=[unknown])(image)
    found = both[0].argmax(dim=0) > 0
    assert surface_distance(found, classes(image) > 0) <= 1.5 * known * 60 / ROI
    assert (one.argmax(dim=1) == 0).all()


def test_the_images_of_a_batch_do_not_know_each_other() -> None:
    images = [photograph(300, 260, (70, 80), 50), photograph(300, 260, (220, 190), 30)]
    network = CoarseToFine(unet(), (ROI, ROI)).eval()
    # A network that was never trained finds anything; logits agree to rounding all the same.
    together = network(torch.cat(images))
    for image, result in zip(images, together, strict=True):
        assert torch.allclose(network(image)[0], result, atol=1e-4)


def test_the_search_goes_the_same_way_on_another_device() -> None:
    network = CoarseToFine(Oracle(), (ROI, ROI))
    image = photograph(400, 300, (260, 120), 40)
    with OtherDevice():
        found = network(image.to(DEVICE))
    assert isinstance(found, Elsewhere)
    assert torch.equal(found.values, network(image))


def test_a_view_keeps_the_aspect_and_is_darkest_beyond_the_image() -> None:
    image = photograph(200, 100, (100, 50), 80, darkest=-1.0)
    view = look(image, (0, 0, 200, 100), ROI)
    assert view.shape == (1, 3, ROI, ROI)
    darkest = image.amin(dim=(2, 3))[0]
    for margin in (view[0, :, :, : ROI // 4], view[0, :, :, -ROI // 4 :]):
        assert torch.equal(margin, darkest[:, None, None].expand_as(margin))
    disc = view[0, 0, :, ROI // 4 : -ROI // 4] > -0.5
    assert disc.any(dim=1).sum() == disc.any(dim=0).sum()  # still a circle


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.7))
def test_the_largest_component_is_that_of_scipy(seed: int, share: float) -> None:
    probability = torch.rand(17, 23, generator=torch.Generator().manual_seed(seed))
    probability = torch.where(probability < share, 0.5 + probability / 2.1, probability / 2.1)
    labels, count = ndimage.label(probability.numpy() > 0.5, structure=torch.ones(3, 3).numpy())
    found = largest_component(probability)
    if count == 0:
        assert not found.any()
        return
    mass = ndimage.sum_labels(probability.double().numpy(), labels, range(1, count + 1))
    assert (found.numpy() == (labels == mass.argmax() + 1)).all()


@pytest.mark.parametrize("diameter", [8.0, 21.0, 50.0])
def test_a_certain_disc_is_round(diameter: float) -> None:
    disc = photograph(64, 64, (30.3, 33.8), diameter)[0, 0]
    assert roundness(disc) == pytest.approx(1.0, abs=0.04)
    assert roundness(disc * 0.6) == pytest.approx(0.6, abs=0.03)


def test_what_is_no_disc_is_less_round() -> None:
    ring = photograph(64, 64, (32, 32), 40)[0, 0] - photograph(64, 64, (32, 32), 20)[0, 0]
    bar = torch.zeros(64, 64)
    bar[10:50, 30:36] = 1
    # By hand: A / (2 pi m). Ring of radii 20 and 10: m = (20^2 + 10^2) / 2. Bar of a x b: m =
    # (a^2 + b^2) / 12.
    assert roundness(ring) == pytest.approx(300 / 500, rel=0.03)
    assert roundness(bar) == pytest.approx(240 / (2 * math.pi * (1600 + 36) / 12), rel=0.01)
    assert roundness(torch.zeros(64, 64)) == 0.0


def test_a_brighter_streak_is_not_taken_for_the_disc() -> None:
    image = photograph(600, 400, (150, 250), 60)
    image[0, 0, 500:512, 20:380] = 1.0  # more of it than of the disc
    found, truth = segment(image), classes(photograph(600, 400, (150, 250), 60))
    assert surface_distance(found > 0, truth > 0) <= 1.5 * 2.5 * 60 / ROI
    alone = segment(image, candidates=1)
    assert not (alone[100:200, 200:300] > 0).any()


def test_weights_go_from_a_plain_network_and_back() -> None:
    plain, other = unet(), unet()
    network = CoarseToFine(copy.deepcopy(plain), (ROI, ROI))
    assert list(network.state_dict()) == list(plain.state_dict())
    network.load_state_dict(other.state_dict())
    image = torch.rand(1, 3, ROI, ROI)
    assert torch.equal(network(image), other(image))
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain(image), other(image))


def test_a_copy_and_an_enclosing_module_keep_their_names_apart() -> None:
    network = CoarseToFine(unet(), (ROI, ROI))
    outer = nn.ModuleDict({"first": network, "second": copy.deepcopy(network)})
    names = [f"{part}.{name}" for part in outer for name in network.state_dict()]
    assert list(outer.state_dict()) == names
    outer.load_state_dict({k: torch.zeros_like(v) for k, v in outer.state_dict().items()})
    assert all(not weight.any() for weight in outer.parameters())


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        CoarseToFine(unet(classes=3), (ROI, ROI)).load_state_dict(unet(classes=2).state_dict())


def test_it_can_be_exported_whole() -> None:
    network = CoarseToFine(unet(), (ROI, ROI)).eval()
    exported = torch.jit.script(network)
    for shape in ((ROI, ROI), (150, 110)):
        image = torch.rand(1, 3, *shape)
        assert torch.allclose(exported(image), network(image), atol=1e-5)


def test_a_roi_that_is_no_square_is_refused() -> None:
    with pytest.raises(ConfigError, match="square"):
        CoarseToFine(unet(), (64, 96))
