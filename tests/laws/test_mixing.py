"""Laws of the boxes and of the amplitude transfer, against NumPy's FFT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dim_monai.mixing import mix, mix_amplitude, random_amplitude_shares, random_boxes

SHAPES = [(40, 40), (31, 58), (3, 5), (1, 1), (16, 20, 9), (12, 12, 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=seeded(seed))


def extents(box: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of the ones along every axis."""
    return [(int(where.min()), int(where.max())) for where in np.nonzero(box)]


@every_shape
def test_every_image_has_one_solid_box(shape) -> None:
    boxes = random_boxes(25, shape, seeded())
    assert boxes.dtype == torch.float32
    assert boxes.shape == (25, 1, *shape)
    for box in boxes[:, 0].numpy():
        solid = np.zeros(shape, dtype=np.float32)
        solid[tuple(slice(first, last + 1) for first, last in extents(box))] = 1.0
        np.testing.assert_array_equal(box, solid)


def test_areas_keep_to_their_range_and_fill_it() -> None:
    areas = random_boxes(300, (400, 400), seeded()).mean(dim=(1, 2, 3)).numpy()
    # The thinnest box is sqrt(0.02 * 0.3) * 400 = 31 pixels wide: rounding moves it by 1.6 %.
    assert areas.min() >= 0.02 * 0.97
    assert areas.max() <= 0.4 * 1.03
    assert areas.min() < 0.04
    assert areas.max() > 0.36


def test_sides_keep_to_the_aspect_where_nothing_is_clipped() -> None:
    boxes = random_boxes(200, (400, 400), seeded(), area=(0.1, 0.2), aspect=(0.5, 3.0))
    ratios = []
    for box in boxes[:, 0].numpy():
        height, width = (last - first + 1 for first, last in extents(box))
        ratios.append(height / width)
    assert min(ratios) == pytest.approx(0.5, rel=0.05)
    assert max(ratios) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "area", "aspect", "sides"),
    [
        ((64, 64), 0.125, 2.0, [32, 16]),  # sqrt(512 * 2), sqrt(512 / 2)
        ((64, 64), 0.125, 0.5, [16, 32]),
        ((16, 16, 8), 0.25, 1.0, [8, 8, 4]),  # half of each axis
        ((32, 32), 0.4, 10.0, [32, 6]),  # sqrt(4096) is clipped to 32; sqrt(40.96) = 6.4
    ],
)
def test_a_fixed_share_and_aspect_give_the_sides_by_hand(shape, area, aspect, sides) -> None:
    boxes = random_boxes(10, shape, seeded(), area=(area, area), aspect=(aspect, aspect))
    for box in boxes[:, 0].numpy():
        assert [last - first + 1 for first, last in extents(box)] == sides


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)], ids=str)
def test_boxes_reach_every_edge_and_lie_all_over_the_image(shape) -> None:
    boxes = random_boxes(400, shape, seeded(), area=(0.1, 0.2))
    for axis in range(len(shape)):
        starts_and_ends = np.array([extents(box)[axis] for box in boxes[:, 0].numpy()])
        assert starts_and_ends.min() == 0
        assert starts_and_ends.max() == 7
        assert starts_and_ends[:, 0].max() > 4  # the last place for a box of three
    assert boxes.amin(dim=0).max() == 0  # no voxel is always inside


def test_boxes_follow_their_generator_alone() -> None:
    torch.manual_seed(1)
    one = random_boxes(6, (30, 30), seeded(7))
    torch.manual_seed(2)
    assert torch.equal(one, random_boxes(6, (30, 30), seeded(7)))
    assert not torch.equal(one, random_boxes(6, (30, 30), seeded(8)))
    assert len({tuple(box.flatten().tolist()) for box in one}) == 6


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_mixing_chooses_pixel_by_pixel(shape, dtype) -> None:
    inside = (100 * uniform(4, 2, *shape)).to(dtype)
    outside = (100 * uniform(4, 2, *shape, seed=1)).to(dtype)
    boxes = random_boxes(4, shape, seeded())
    mixed = mix(inside, outside, boxes)
    assert mixed.dtype == dtype
    expected = np.where(boxes.numpy() == 1, inside.numpy(), outside.numpy())
    np.testing.assert_array_equal(mixed.numpy(), expected)
    assert torch.equal(mix(inside, inside, boxes), inside)
    assert torch.equal(mix(outside, inside, 1 - boxes), mixed)
    # The two mixtures hold both images, every pixel once.
    both = torch.stack([mixed, mix(outside, inside, boxes)]).sort(dim=0).values
    assert torch.equal(both, torch.stack([inside, outside]).sort(dim=0).values)


def test_shares_lie_below_their_limit_and_follow_their_generator() -> None:
    shares = random_amplitude_shares(500, 0.3, seeded(1))
    assert shares.shape == (500,)
    assert 0 <= shares.min() < 0.01
    assert 0.29 < shares.max() < 0.3
    assert torch.equal(shares, random_amplitude_shares(500, 0.3, seeded(1)))
    assert not random_amplitude_shares(9, 0.0, seeded()).any()


def with_wide_range(image: Tensor) -> Tensor:
    """Let one pixel be 0 and one be 1, so that images well between are never clipped."""
    flat = image.flatten(2).clone()
    flat[..., 0], flat[..., 1] = 0.0, 1.0
    return flat.view_as(image)


def textbook_mixture(
    image: np.ndarray, style: np.ndarray, share: float, half_widths: Sequence[int]
) -> np.ndarray:
    """One channel: above the common minimum, blend the centred window of the amplitudes, undo."""
    floor, ceiling = min(image.min(), style.min()), max(image.max(), style.max())
    spectrum = np.fft.fftshift(np.fft.fftn(image - floor))
    amplitude = np.abs(spectrum)
    other = np.abs(np.fft.fftshift(np.fft.fftn(style - floor)))
    centre = [length // 2 for length in image.shape]
    window = tuple(
        slice(max(c - half, 0), c + half + 1) for c, half in zip(centre, half_widths, strict=True)
    )
    amplitude[window] = (1 - share) * amplitude[window] + share * other[window]
    blended = amplitude * np.exp(1j * np.angle(spectrum))
    result = np.fft.ifftn(np.fft.ifftshift(blended)).real + floor
    return result.clip(floor, ceiling)


@pytest.mark.parametrize(
    ("shape", "width", "half_widths"),
    [
        ((24, 24), 0.01, (0, 0)),
        ((24, 30), 0.1, (2, 3)),
        ((21, 17), 0.2, (4, 3)),
        ((49, 51), 0.02, (0, 1)),  # 0.98 is rounded down
        ((10, 12, 9), 0.25, (2, 3, 2)),
        ((24, 20, 6), 0.1, (2, 2, 0)),  # few slices: the plane still has its window
    ],
    ids=str,
)
def test_the_transfer_is_the_textbook_one(shape, width, half_widths) -> None:
    image, style = uniform(3, 2, *shape), uniform(3, 2, *shape, low=-2, high=2, seed=1)
    share = torch.tensor([0.0, 0.4, 1.0])
    mixed = mix_amplitude(image, style, share, width=width)
    for b in range(3):
        for c in range(2):
            expected = textbook_mixture(
                image[b, c].double().numpy(),
                style[b, c].double().numpy(),
                float(share[b]),
                half_widths,
            )
            np.testing.assert_allclose(mixed[b, c].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(20, 27), (9, 8, 11)], ids=str)
def test_share_zero_and_the_own_style_change_nothing(shape) -> None:
    image, style = uniform(2, 1, *shape, low=-1), uniform(2, 1, *shape, low=-1, seed=1)
    same = mix_amplitude(image, style, torch.zeros(2), width=0.2)
    torch.testing.assert_close(same, image, rtol=0, atol=1e-6)
    same = mix_amplitude(image, image, torch.tensor([0.3, 1.0]), width=0.2)
    torch.testing.assert_close(same, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 27), (12, 10, 11)], ids=str)
def test_the_phase_stays_and_only_low_amplitudes_change(shape) -> None:
    image = uniform(1, 1, *shape, low=0.45, high=0.55)
    style = with_wide_range(uniform(1, 1, *shape, low=0.5, high=0.9, seed=1))
    mixed = mix_amplitude(image, style, torch.tensor([0.5]), width=0.1)
    assert 0 < mixed.min() < mixed.max() < 1  # nothing was clipped
    before = np.fft.fftn(image[0, 0].double().numpy())
    after = np.fft.fftn(mixed[0, 0].double().numpy())
    grid = np.meshgrid(*(np.fft.fftfreq(n) * n for n in shape), indexing="ij")
    low = np.all([np.abs(f) <= n // 10 for f, n in zip(grid, shape, strict=True)], axis=0)
    ratio = after / before
    np.testing.assert_allclose(ratio.imag, 0, atol=2e-3)
    assert ratio.real.min() > 0
    np.testing.assert_allclose(np.abs(ratio[~low]), 1, atol=2e-3)
    assert np.all(np.abs(np.abs(ratio[low]) - 1) > 2e-3)


def test_a_window_of_one_frequency_moves_the_mean_alone() -> None:
    image = uniform(2, 1, 32, 32, low=0.4, high=0.6)
    style = with_wide_range(uniform(2, 1, 32, 32, low=0.6, high=0.9, seed=1))
    share = torch.tensor([0.25, 1.0])
    moved = mix_amplitude(image, style, share, width=0.01) - image
    shift = share.numpy() * (style.numpy().mean((1, 2, 3)) - image.numpy().mean((1, 2, 3)))
    expected = np.broadcast_to(shift[:, None, None, None], moved.shape)
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-5)


def test_every_image_has_its_own_share() -> None:
    image, style = uniform(3, 1, 16, 16), uniform(3, 1, 16, 16, seed=1)
    share = torch.tensor([0.1, 0.6, 0.9])
    together = mix_amplitude(image, style, share, width=0.2)
    for b in range(3):
        alone = mix_amplitude(image[b : b + 1], style[b : b + 1], share[b : b + 1], width=0.2)
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-6)


def test_each_channel_keeps_to_the_range_of_its_two_images() -> None:
    low, high = torch.tensor([-1.0, 0.0, 5.0]), torch.tensor([1.0, 0.2, 9.0])
    scale = (high - low).view(1, 3, 1, 1)
    image = low.view(1, 3, 1, 1) + scale * uniform(4, 3, 24, 24).round()
    style = low.view(1, 3, 1, 1) + scale * uniform(4, 3, 24, 24, seed=1).round()
    mixed = mix_amplitude(image, style, torch.ones(4), width=0.3)
    for c in range(3):
        assert low[c] <= mixed[:, c].min()
        assert mixed[:, c].max() <= high[c]
        assert (mixed[:, c] == low[c]).any()  # the limit was needed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_image_stays(dtype) -> None:
    image, style = uniform(2, 1, 15, 21), uniform(2, 1, 15, 21, seed=1)
    share = torch.tensor([0.3, 0.8])
    mixed = mix_amplitude(image.to(dtype), style.to(dtype), share, width=0.1)
    assert mixed.dtype == dtype
    expected = mix_amplitude(image, style, share, width=0.1)
    torch.testing.assert_close(mixed.float(), expected, rtol=0, atol=1e-2)


def test_a_shift_of_both_images_shifts_the_result() -> None:
    image, style = torch.rand(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    share = torch.tensor([0.4, 1.0])
    moved = mix_amplitude(image - 2, style - 2, share, width=0.2)
    assert torch.allclose(moved, mix_amplitude(image, style, share, width=0.2) - 2, atol=1e-5)


def test_a_mean_is_taken_over_across_zero() -> None:
    dark, bright = torch.full((1, 1, 8, 8), -0.5), torch.full((1, 1, 8, 8), 0.3)
    assert torch.allclose(mix_amplitude(dark, bright, torch.ones(1)), bright, atol=1e-6)
