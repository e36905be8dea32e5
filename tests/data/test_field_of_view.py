"""A patch shows what its draw says, image and label alike, and is a function of the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dim_monai.data.field_of_view import NEAR, RandFieldOfViewd
from dim_monai.errors import ConfigError

SIZE = 48


def patches(item: dict[str, Tensor], seed: int = 0, **options: object) -> dict[str, Tensor]:
    transform = RandFieldOfViewd(["image", "label"], SIZE, allow_missing_keys=True, **options)
    return transform.set_random_state(seed)(item)


def coordinates(width: int, height: int) -> Tensor:
    """Return (3, W, H): at each pixel its position in pixels, and 1."""
    x = (torch.arange(width) + 0.5)[:, None].expand(-1, height)
    y = (torch.arange(height) + 0.5)[None, :].expand(width, -1)
    return torch.stack([x, y, torch.ones(width, height)])


def middle_of(patch: Tensor) -> Tensor:
    return patch[:2, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean(dim=(1, 2))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(60, 140), st.integers(60, 140)),
    rotate=st.floats(0, 3),
    field=st.floats(0.1, 0.3),
)
def test_a_patch_is_as_wide_as_its_field_and_turned_without_shear(
    seed: int, size: tuple[int, int], rotate: float, field: float
) -> None:
    item = {"image": coordinates(*size)}
    patch = patches(item, seed, field_of_view=(field, field), rotate=rotate)["image"]
    scale = field * max(size) / SIZE
    # One patch pixel further along an axis is `scale` image pixels further, in one direction each.
    across = torch.diff(patch[:2], dim=1)[:, :, :-1]
    along = torch.diff(patch[:2], dim=2)[:, :-1]
    assert float(across.norm(dim=0).median()) == pytest.approx(scale, rel=0.01)
    assert float(along.norm(dim=0).median()) == pytest.approx(scale, rel=0.01)
    assert float((across * along).sum(dim=0).median().abs()) < 0.01 * scale**2


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), field=st.floats(0.1, 0.95))
def test_a_patch_smaller_than_the_image_lies_within_it(seed: int, field: float) -> None:
    label = torch.ones(1, 100, 100)
    patch = patches({"image": label, "label": label}, seed, field_of_view=(field, field))
    assert patch["label"].all()


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), field=st.floats(1.05, 4.0))
def test_an_image_smaller_than_the_patch_lies_within_it(seed: int, field: float) -> None:
    label = torch.ones(1, 96, 96)
    item = {"image": label, "label": label}
    patch = patches(item, seed, field_of_view=(field, field))["label"]
    assert float(patch.sum()) ** 0.5 == pytest.approx(SIZE / field, abs=1)  # whole pixels


def test_fields_are_drawn_log_uniformly() -> None:
    transform = RandFieldOfViewd("image", SIZE, (0.5, 4.0)).set_random_state(0)
    fields = [transform.draw((100, 100), None)[1] * SIZE / 100 for _ in range(2000)]
    counts, _ = np.histogram(fields, bins=[0.5, 1.0, 2.0, 4.0])
    # A third each: the standard deviation of a count is 21.
    assert counts.sum() == 2000
    assert np.abs(counts - 2000 / 3).max() < 90


def test_image_and_label_show_the_same() -> None:
    label = torch.zeros(1, 120, 90, dtype=torch.uint8)
    label[:, 30:70, 20:60] = 2
    for seed in range(20):
        item = {"image": label.float() * 50, "label": label}
        patch = patches(item, seed, field_of_view=(0.4, 3.0), rotate=0.5, stretch=0.3)
        assert patch["label"].dtype is torch.uint8
        assert patch["image"].dtype is torch.float32
        assert set(patch["label"].unique().tolist()) <= {0, 2}
        agree = (patch["image"] > 50) == (patch["label"] == 2)
        assert float(agree.float().mean()) > 0.97


def test_a_reduction_averages_instead_of_picking() -> None:
    checkers = (torch.arange(200)[:, None] + torch.arange(200)[None, :]) % 2
    image = checkers[None].float()
    patch = patches({"image": image}, 3, field_of_view=(0.96, 0.96))["image"]
    assert float((patch - 0.5).abs().max()) < 0.2  # picked pixels would be 0 or 1


def test_beyond_the_image_it_is_dark_or_goes_on() -> None:
    image = torch.rand(3, 80, 80) + torch.tensor([1.0, -2.0, 30.0])[:, None, None]
    image[:, :8] = image[:, -8:] = image[:, :, :8] = image[:, :, -8:] = 40.0  # the edge
    darkest = image.amin(dim=(1, 2))[:, None, None]
    dark = 0
    for seed in range(40):
        patch = patches({"image": image}, seed, field_of_view=(4.0, 4.0))["image"]
        corners = patch[:, [0, 0, -1, -1], [0, -1, 0, -1]][:, :, None]
        if torch.allclose(corners, darkest, atol=1e-4):
            dark += 1
        else:
            assert float((corners == 40.0).float().mean()) > 0.5
    assert 10 <= dark <= 30  # a half, within three standard deviations


def test_near_the_label_it_is_in_every_patch() -> None:
    label = torch.zeros(1, 200, 150, dtype=torch.uint8)
    label[0, 150:160, 20:30] = 1
    item = {"image": coordinates(200, 150), "label": label}
    for seed in range(20):
        patch = patches(item, seed, field_of_view=(0.2, 0.2), near_label=1.0)
        assert patch["label"].any()
        offset = middle_of(patch["image"]) - torch.tensor([155.0, 25.0])
        if (patch["image"][2] > 0.99).all():
            assert float(offset.abs().max()) <= NEAR * 0.2 * 200 + 0.5


@pytest.mark.parametrize("label", [None, torch.zeros(1, 60, 60, dtype=torch.uint8)])
def test_without_a_foreground_the_centre_is_anywhere(label: Tensor | None) -> None:
    item = {"image": coordinates(60, 60)} | ({} if label is None else {"label": label})
    options = {"field_of_view": (0.3, 0.3)}
    near = [patches(item, seed, near_label=1.0, **options)["image"] for seed in range(5)]
    anywhere = [patches(item, seed, near_label=0.0, **options)["image"] for seed in range(5)]
    assert all(map(torch.equal, near, anywhere))


def test_the_seed_decides_and_the_item_stays() -> None:
    item = {"image": torch.rand(3, 70, 60), "label": torch.ones(1, 70, 60, dtype=torch.uint8)}
    before = {key: value.clone() for key, value in item.items()}
    first, again, other = (
        patches(item, seed, field_of_view=(0.5, 2.0), rotate=1.0) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in item)
    assert not torch.equal(first["image"], other["image"])
    assert all(torch.equal(before[key], item[key]) for key in item)


def test_stretch_keeps_the_area() -> None:
    transform = RandFieldOfViewd("image", SIZE, (1.0, 1.0), stretch=0.5).set_random_state(0)
    for _ in range(20):
        matrix, _ = transform.draw((100, 100), None)
        x, y = matrix[0, 0], matrix[1, 1]
        assert math.isclose(float(x * y), 1.0, rel_tol=1e-5)
        assert 1 / 1.5 - 1e-6 <= float(x / y) <= 1.5 + 1e-6


@pytest.mark.parametrize("field", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_an_impossible_field_of_view_is_refused(field: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="field_of_view"):
        RandFieldOfViewd("image", SIZE, field)
