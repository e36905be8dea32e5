"""The mean over mirror images is the mean of probabilities, and commutes with mirroring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from dim_monai.inference import FlipMeanInferer


def one_sided(image: Tensor) -> Tensor:
    """Three logits that tell left from right and up from down: what flips change."""
    ramps = [torch.linspace(-1, 1, size) for size in image.shape[2:]]
    tilt = sum(
        ramp.reshape([-1 if i == j else 1 for j in range(len(ramps))])
        for i, ramp in enumerate(ramps)
    )
    return torch.cat([image, image * tilt, image.roll(1, dims=2) - tilt], dim=1)


def softmax(logits: Tensor) -> np.ndarray:
    powers = np.exp(logits.numpy().astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def image(seed: int, *size: int) -> Tensor:
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(seed))


def test_without_axes_everything_is_passed_on_untouched() -> None:
    seen = []

    def network(inputs: Tensor, more: int, *, keyword: int) -> str:
        seen.append((inputs, more, keyword))
        return "not even a tensor"

    inputs = image(0, 4, 4)
    assert FlipMeanInferer(SimpleInferer())(inputs, network, 1, keyword=2) == "not even a tensor"
    assert seen == [(inputs, 1, 2)]


@pytest.mark.parametrize(
    ("axes", "flips"),
    [
        ([0], [(), (2,)]),
        ([1], [(), (3,)]),
        ([0, 1], [(), (2,), (3,), (2, 3)]),
        ([0, 1, 2], [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]),
    ],
)
def test_it_is_the_mean_of_the_probabilities_of_all_mirror_images(
    axes: list[int], flips: list[tuple[int, ...]]
) -> None:
    inputs = image(1, 5, 6, 4) if 2 in axes else image(1, 5, 6)
    expected = np.mean(
        [
            np.flip(
                softmax(one_sided(torch.from_numpy(np.flip(inputs.numpy(), dims).copy()))), dims
            )
            for dims in flips
        ],
        axis=0,
    )
    logits = FlipMeanInferer(SimpleInferer(), axes)(inputs, one_sided)
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-5)
    # They are log-probabilities themselves.
    np.testing.assert_allclose(np.exp(logits.numpy()).sum(axis=1), 1, rtol=1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), axes=st.sets(st.sampled_from([0, 1]), min_size=1))
def test_it_commutes_with_every_flip_that_it_averages_over(seed: int, axes: set[int]) -> None:
    inferer = FlipMeanInferer(SimpleInferer(), sorted(axes))
    inputs = image(seed, 4, 6)
    logits = inferer(inputs, one_sided)
    for axis in axes:
        mirrored = inferer(inputs.flip(axis + 2), one_sided)
        torch.testing.assert_close(mirrored.flip(axis + 2), logits)


def test_a_network_that_mirrors_with_its_image_gains_nothing() -> None:
    torch.manual_seed(0)
    pointwise = nn.Conv2d(1, 3, 1)
    inputs = image(2, 4, 5)
    with torch.no_grad():
        logits = FlipMeanInferer(SimpleInferer(), [0, 1])(inputs, pointwise)
        torch.testing.assert_close(logits, pointwise(inputs).log_softmax(dim=1))


def test_a_sure_network_stays_finite() -> None:
    """Probabilities of 1e-400 underflow; their logarithms do not."""
    logits = FlipMeanInferer(SimpleInferer(), [0])(image(3, 4, 4), lambda x: 1e3 * one_sided(x))
    assert torch.isfinite(logits).all()


def test_what_the_network_needs_besides_the_image_reaches_it_at_every_flip() -> None:
    seen = []

    def network(inputs: Tensor, *, keyword: int) -> Tensor:
        seen.append(keyword)
        return one_sided(inputs)

    FlipMeanInferer(SimpleInferer(), [0, 1])(image(4, 4, 4), network, keyword=7)
    assert seen == [7] * 4
