"""A slice with its neighbours: which slice stands in which channel, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Spacingd

from dim_monai.data.neighbours import NeighbouringSlicesd
from dim_monai.errors import ConfigError


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("offsets", [(0, -1, 1), (-2, 0, 5)])
def test_every_channel_shows_the_slice_at_its_offset_and_the_ends_are_repeated(
    axis: int, channels: int, offsets: tuple[int, ...]
) -> None:
    volume = torch.rand(channels, 4, 5, 6)
    seen = NeighbouringSlicesd("image", offsets, axis)({"image": volume})["image"].numpy()
    padded = [(0, 0)] * 4
    padded[axis + 1] = (9, 9)
    wide = np.pad(volume.numpy(), padded, mode="edge")
    size = volume.shape[axis + 1]
    expected = [wide.take(range(9 + k, 9 + k + size), axis=axis + 1) for k in offsets]
    np.testing.assert_array_equal(seen, np.concatenate(expected))


def test_offset_zero_alone_changes_nothing() -> None:
    volume = torch.rand(1, 3, 4, 5)
    assert torch.equal(NeighbouringSlicesd("image", [0])({"image": volume})["image"], volume)


def test_grid_and_history_stay_so_that_a_mask_of_the_slices_goes_back() -> None:
    affine = torch.diag(torch.tensor([0.5, 0.5, 3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 20, 16, 7), affine=affine)
    transform = Compose(
        [Spacingd("image", (1.0, 1.0, -1)), NeighbouringSlicesd("image", (0, -1, 1))]
    )
    item = transform({"image": image})
    assert item["image"].shape == (3, 10, 8, 7)
    item["pred"] = MetaTensor(torch.ones(1, 10, 8, 7), affine=item["image"].affine)
    back = Invertd("pred", transform, orig_keys="image", nearest_interp=True)(item)["pred"]
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, affine)


def test_missing_keys_are_refused_unless_they_may_be_missing() -> None:
    with pytest.raises(KeyError):
        NeighbouringSlicesd("image")({})
    assert NeighbouringSlicesd("image", allow_missing_keys=True)({}) == {}


def test_no_offset_is_refused() -> None:
    with pytest.raises(ConfigError, match="no slice is seen"):
        NeighbouringSlicesd("image", [])
