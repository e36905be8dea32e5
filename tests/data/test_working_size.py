"""To the working grid and back: sizes, averages, and probabilities without steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resize

from dim_monai.data.working_size import WorkingSized
from dim_monai.errors import DataError


def working(image: torch.Tensor, longest: int = 64) -> MetaTensor:
    return WorkingSized("image", longest)({"image": MetaTensor(image)})["image"]


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 64), (20, 31), (64, 7), (301, 299)])
def test_the_longest_side_is_as_asked_and_the_aspect_is_kept(size: tuple[int, int]) -> None:
    result = working(torch.rand(3, *size))
    assert max(result.shape[1:]) == 64
    assert result.shape[1] / result.shape[2] == pytest.approx(size[0] / size[1], rel=0.1)
    assert result.dtype is torch.float32


def test_a_side_that_would_vanish_is_refused_by_name() -> None:
    """MONAI would round it to 0 and PyTorch fail without a word of the file."""
    strip = MetaTensor(torch.rand(3, 3000, 1), meta={"filename_or_obj": "/data/strip.png"})
    with pytest.raises(DataError, match=r"strip\.png; got 3000 x 1 pixels"):
        WorkingSized("image", 64)({"image": strip})
    assert working(torch.rand(3, 3000, 24)).shape[1:] == (64, 1)


def test_a_reduction_by_a_whole_factor_is_the_mean_of_the_blocks() -> None:
    image = torch.randint(0, 256, (3, 256, 128), dtype=torch.uint8)
    blocks = image.numpy().astype(np.float64).reshape(3, 64, 4, 32, 4).mean(axis=(2, 4))
    assert np.allclose(working(image).numpy(), blocks, atol=1e-3)


def test_an_enlargement_is_interpolated() -> None:
    ramp = torch.arange(16.0)[None, :, None].expand(1, -1, 16).contiguous()
    inner = working(ramp)[0, 4:-4, 0].diff()
    assert torch.allclose(inner, torch.full_like(inner, 0.25), atol=1e-5)


def test_labels_keep_their_values() -> None:
    label = torch.randint(0, 3, (1, 150, 90)) * 7
    item = {"image": MetaTensor(torch.rand(3, 150, 90)), "label": MetaTensor(label)}
    result = WorkingSized(["image", "label"], 64)(item)
    assert result["label"].shape[1:] == result["image"].shape[1:]
    assert set(result["label"].unique().tolist()) == {0, 7, 14}


@pytest.mark.parametrize("size", [(300, 201), (40, 33), (64, 64)])
def test_a_prediction_comes_back_at_the_size_of_its_image(size: tuple[int, int]) -> None:
    preprocessing = Compose([WorkingSized("image", 64)])
    item = preprocessing({"image": MetaTensor(torch.rand(3, *size))})
    item["pred"] = MetaTensor(torch.rand(2, *item["image"].shape[1:]))
    invert = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False)
    back = invert(item)["pred"]
    assert back.shape == (2, *size)
    expected = Resize(size, mode="bilinear")(item["pred"].as_tensor())
    assert torch.allclose(back.as_tensor(), torch.as_tensor(expected), atol=1e-6)


def test_the_way_back_has_no_steps() -> None:
    preprocessing = Compose([WorkingSized("image", 64)])
    item = preprocessing({"image": MetaTensor(torch.rand(1, 512, 512))})
    ramp = torch.arange(64.0)[None, :, None].expand(1, -1, 64).contiguous()
    item["pred"] = MetaTensor(ramp)
    back = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False)(item)["pred"]
    assert float(back[0, 8:-8, 0].diff().max()) == pytest.approx(1 / 8, abs=1e-4)
