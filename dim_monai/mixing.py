"""Mixing of labelled and unlabelled images: CutMix boxes and Fourier amplitude transfer.

Each operation is a pair: ``random_*`` draws, the other function applies. Draws come from a CPU
generator, so both passes of a sharpness-aware step, and every device, see the same mixture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def random_boxes(
    batch: int,
    spatial_shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tensor:
    """Draw one box per image.

    The defaults are those of MiDSS (Ma et al., CVPR 2024): area fraction U(0.02, 0.4), aspect
    U(0.3, 1/0.3). In three dimensions (our extension) the box spans the last axis by the same
    fraction of its length as the two others do on geometric average.

    Args:
        batch: number of boxes.
        spatial_shape: two or three axis lengths in voxels.
        generator: CPU generator.
        area: range of the box's share of the first two axes' area.
        aspect: range of the ratio of its sides.

    Returns:
        (batch, 1, *spatial_shape) float32, 1 inside the box and 0 outside.
    """
    boxes = torch.zeros(batch, 1, *spatial_shape)
    for box in boxes:
        share = _uniform(area, generator)
        ratio = _uniform(aspect, generator)
        height, width, *depth = spatial_shape
        # The box is clipped to the image: an extreme aspect then has a smaller area, never another.
        sides = [
            min(height, round(math.sqrt(share * height * width * ratio))),
            min(width, round(math.sqrt(share * height * width / ratio))),
            *(round(length * math.sqrt(share)) for length in depth),
        ]
        window: list[slice] = [slice(None)]
        for side, length in zip(sides, spatial_shape, strict=True):
            side = max(side, 1)
            start = int(_uniform((0, length - side + 1), generator))
            window.append(slice(start, start + side))
        box[tuple(window)] = 1.0
    return boxes


def mix(inside: Tensor, outside: Tensor, boxes: Tensor) -> Tensor:
    """Return ``inside`` where ``boxes`` is 1 and ``outside`` where it is 0.

    Works alike for images (float), labels (int) and weights. ``mix(a, a, boxes) == a``, and
    swapping the two images swaps the two parts.

    Args:
        inside: (B, C, *S).
        outside: (B, C, *S), same dtype.
        boxes: (B, 1, *S), 1 inside.
    """
    return torch.where(boxes.bool(), inside, outside)


def random_amplitude_shares(batch: int, limit: float, generator: torch.Generator) -> Tensor:
    """Draw r ~ U(0, limit) for each image; MiDSS lets ``limit`` grow as t/T over the training.

    Returns:
        (batch,) float32.
    """
    return torch.rand(batch, generator=generator) * limit


def mix_amplitude(image: Tensor, style: Tensor, share: Tensor, *, width: float = 0.01) -> Tensor:
    """Give ``image`` a share of the low-frequency amplitude of ``style``; the phase stays.

    Inside a centred window of (2b + 1) frequencies an axis, b = floor(length * width) of that axis:
    ``A = (1 - r) * A_image + r * A_style`` (MiDSS: Ma et al., CVPR 2024, TP-RAM; amplitude
    transfer after Yang & Soatto, FDA, CVPR 2020). b = 0 everywhere moves the mean alone.

    Deviations: b of MiDSS, whose images are square, is that of the shortest side; in a volume of
    few slices that would be 0 in the plane, too. MiDSS works in the 0-255 range and clips there. We
    work above the smaller minimum of the two images, which makes a shift of both a shift of the
    result (the sign of a negative mean would count as phase and stay), and clip to the range that
    the two span together.

    Args:
        image: (B, C, *S) float.
        style: (B, C, *S) float, the image whose amplitude is taken.
        share: (B,) in [0, 1]; 0 returns ``image`` to rounding.
        width: half width of the window, as a share of the length of each axis.
    """
    axes = tuple(range(2, image.ndim))
    lowest = torch.minimum(image, style).amin(dim=axes, keepdim=True)
    highest = torch.maximum(image, style).amax(dim=axes, keepdim=True)
    # Half precision has no FFT for lengths other than powers of two. The spectrum of a real image
    # repeats itself in its other half.
    spectrum = torch.fft.rfftn((image - lowest).float(), dim=axes)
    wanted = torch.fft.rfftn((style - lowest).float(), dim=axes)
    positive = [
        torch.arange(int(length * width) + 1, device=image.device) for length in image.shape[2:]
    ]
    both = [torch.cat([half, -half[1:]]) for half in positive[:-1]]
    low = (..., *torch.meshgrid(*both, positive[-1], indexing="ij"))
    amplitude, phase = spectrum[low].abs(), spectrum[low].angle()
    r = share.to(image.device).view(-1, *[1] * (image.ndim - 1))
    spectrum[low] = torch.polar((1 - r) * amplitude + r * wanted[low].abs(), phase)
    mixed: Tensor = torch.fft.irfftn(spectrum, s=image.shape[2:], dim=axes) + lowest
    return mixed.clamp(lowest, highest).to(image.dtype)


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * float(torch.rand((), generator=generator))
