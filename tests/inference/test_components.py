"""Small pieces of a mask go, the others stay exactly as they were; SimpleITK counts the pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch import Tensor

from dim_monai.errors import ConfigError
from dim_monai.inference import RemoveSmallComponentsd


def remove(mask: Tensor, smallest: float, unit: Any = "px", largest: bool = False) -> Tensor:
    transform = RemoveSmallComponentsd("pred", smallest, unit, largest)
    cleaned: Tensor = transform({"pred": mask})["pred"]
    return cleaned


def with_spacing(mask: Tensor, affine: np.ndarray) -> MetaTensor:
    return MetaTensor(mask, affine=torch.from_numpy(affine))


def independently(mask: np.ndarray, smallest: int) -> np.ndarray:
    """The same of one mask (*S), by SimpleITK; its pieces are connected by faces, too."""
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray((mask > 0).astype(np.uint8)))
    kept = sitk.RelabelComponent(pieces, minimumObjectSize=smallest)
    return np.where(sitk.GetArrayFromImage(kept) > 0, mask, 0)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([(9, 11), (5, 6, 7)]),
    density=st.floats(0.05, 0.6),
    smallest=st.integers(1, 12),
)
def test_what_stays_is_what_simpleitk_keeps(
    seed: int, size: tuple[int, ...], density: float, smallest: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(1, 3, size) * (rng.random(size) < density)
    cleaned = remove(torch.from_numpy(mask[None]), smallest)
    np.testing.assert_array_equal(cleaned[0].numpy(), independently(mask, smallest))
    # What is clean is not touched again.
    assert torch.equal(remove(cleaned, smallest), cleaned)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([(9, 11), (5, 6, 7)]),
    density=st.floats(0.05, 0.6),
    smallest=st.integers(0, 12),
)
def test_the_largest_piece_is_simpleitk_s_and_only_if_it_is_large_enough(
    seed: int, size: tuple[int, ...], density: float, smallest: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(1, 3, size) * (rng.random(size) < density)
    cleaned = remove(torch.from_numpy(mask[None]), smallest, largest=True)[0].numpy()
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray((mask > 0).astype(np.uint8)))
    by_size = sitk.GetArrayFromImage(sitk.RelabelComponent(pieces))  # 1 is the largest
    largest = np.sum(by_size == 1)
    assert np.sum(cleaned > 0) == (largest if largest >= smallest else 0)
    # Of equal ones any may stay, whole and alone.
    number = by_size[cleaned > 0]
    assert len(np.unique(number)) <= 1
    np.testing.assert_array_equal(cleaned[cleaned > 0], mask[cleaned > 0])


def test_of_equal_pieces_the_first_stays() -> None:
    mask = torch.tensor([[[1, 1, 0, 2, 2]]])
    assert remove(mask, 0, largest=True).tolist() == [[[1, 1, 0, 0, 0]]]


@pytest.mark.parametrize("value", [0, 1])
def test_the_largest_piece_of_one_or_none_changes_nothing(value: int) -> None:
    mask = torch.full((1, 3, 4), value)
    assert torch.equal(remove(mask, 0, largest=True), mask)


def test_a_piece_of_just_that_size_stays() -> None:
    mask = torch.zeros(1, 6, 6, dtype=torch.uint8)
    mask[0, 0, :3] = 1
    assert torch.equal(remove(mask, 3), mask)
    assert not remove(mask, 4).any()


def test_a_cup_in_its_rim_is_one_piece_with_it() -> None:
    mask = torch.zeros(1, 7, 7, dtype=torch.uint8)
    mask[0, 2:5, 2:5] = 1
    mask[0, 3, 3] = 2
    assert torch.equal(remove(mask, 9), mask)


def test_pieces_that_touch_at_a_corner_are_two() -> None:
    mask = torch.eye(4, dtype=torch.uint8)[None]
    assert torch.equal(remove(mask, 1), mask)
    assert not remove(mask, 2).any()


def test_millilitres_come_from_the_affine_however_it_is_turned() -> None:
    """20 voxels of 2 x 5 x 5 mm are 1 ml; a rotation and a flip keep the volume."""
    turn = np.diag([-2.0, 5.0, 5.0, 1.0])
    angle = np.deg2rad(30)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    mask = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    mask[0, :4, :5, 0] = 1
    mask[0, 6, 6, 6] = 1
    placed = with_spacing(mask, rotation @ turn)
    kept = mask.clone()
    kept[0, 6, 6, 6] = 0
    assert torch.equal(remove(placed, 0.99, "ml").as_tensor(), kept)
    assert not remove(placed, 1.01, "ml").any()
    assert torch.equal(remove(placed, 0.05 - 1e-9, "ml").as_tensor(), mask)


@pytest.mark.parametrize("smallest", [0, 0.0])
def test_zero_keeps_everything_untouched(smallest: float) -> None:
    mask = torch.eye(4)[None]
    assert remove(mask, smallest) is mask


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_type_place_and_dtype_stay(dtype: torch.dtype) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    mask = with_spacing(torch.ones(1, 3, 3, 3, dtype=dtype), affine)
    before = mask.clone()
    cleaned = remove(mask, 1)
    assert isinstance(cleaned, MetaTensor)
    assert cleaned.dtype is dtype
    np.testing.assert_array_equal(cleaned.affine.numpy(), affine)
    assert torch.equal(cleaned, before)
    remove(mask, 1000)
    assert torch.equal(mask, before)  # the caller's own mask is not written into


def test_an_empty_mask_stays_empty() -> None:
    assert not remove(torch.zeros(1, 4, 4), 5).any()


@pytest.mark.parametrize(
    ("smallest", "unit"), [(-1, "px"), (float("nan"), "px"), ("5", "px"), (1, "mm")]
)
def test_a_setting_that_means_nothing_is_refused(smallest: Any, unit: Any) -> None:
    with pytest.raises(ConfigError, match="smallest component"):
        RemoveSmallComponentsd("pred", smallest, unit)


def test_millilitres_of_a_mask_without_a_place_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="affine"):
        remove(torch.ones(1, 3, 3, 3), 1, "ml")
