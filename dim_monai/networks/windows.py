"""Parts of an image as a network looks at them, and the disc that it sees there.

Written for TorchScript too, in which ``round`` gives a float: hence ``int(round(...))``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

Window = tuple[int, int, int, int]
"""Left, top, width and height of a part of an image in pixels; the longer one is the side of the
square that is looked at."""


def look(image: Tensor, window: Window, size: int) -> Tensor:
    """Return a part of an image as a square of ``size`` pixels, its longer side filling it.

    Args:
        image: (B, C, W, H) float.
        window: the part; it lies in the middle of the square.
        size: side of the square, pixels.

    Returns:
        (B, C, size, size), beside the part the darkest value of each channel of the image.
    """
    left, top, width, height = window
    columns, rows = seen_size(window, size)
    part = image[:, :, left : left + width, top : top + height]
    part = interpolate(part, [columns, rows], mode="bilinear", antialias=True)
    if columns == size and rows == size:
        return part
    square = image.amin(dim=(2, 3), keepdim=True).repeat(1, 1, size, size)
    x, y = (size - columns) // 2, (size - rows) // 2
    square[:, :, x : x + columns, y : y + rows] = part
    return square


def put_back(seen: Tensor, window: Window, result: Tensor) -> None:
    """Write the logits of a square that :func:`look` gave into their part of the image.

    Args:
        seen: (1, K, size, size).
        window: as it was given to :func:`look`.
        result: (K, W, H), changed in place.
    """
    left, top, width, height = window
    size = seen.shape[2]
    columns, rows = seen_size(window, size)
    x, y = (size - columns) // 2, (size - rows) // 2
    part = seen[:, :, x : x + columns, y : y + rows]
    for k in range(result.shape[0]):  # one class at a time: a third of the memory
        one = part[:, k : k + 1]
        one = interpolate(one, [width, height], mode="bilinear", antialias=True)
        result[k, left : left + width, top : top + height] = one[0, 0]


def seen_size(window: Window, size: int) -> tuple[int, int]:
    """Return how many columns and rows of a square of ``size`` pixels a part of an image fills."""
    longest = max(window[2], window[3])
    columns, rows = window[2] * size / longest, window[3] * size / longest
    return max(1, int(round(columns))), max(1, int(round(rows)))  # noqa: RUF046


def largest_component(probability: Tensor) -> Tensor:
    """Return the 8-connected component of ``probability > 0.5`` that holds the most of it.

    Args:
        probability: (W, H).

    Returns:
        (W, H) bool; nothing where no probability exceeds 0.5.
    """
    inside = (probability > 0.5).float()
    count = probability.numel()
    # Each pixel begins with a number of its own; the highest spreads through its component.
    numbers = torch.arange(1, count + 1, device=probability.device).float()
    numbers = numbers.reshape(probability.shape) * inside
    while True:
        spread = max_pool2d(numbers[None], kernel_size=3, stride=1, padding=1)[0] * inside
        if torch.equal(spread, numbers):
            break
        numbers = spread
    weights = (probability * inside).float().flatten()
    mass = torch.zeros(count + 1, device=probability.device)
    mass.scatter_add_(0, numbers.long().flatten(), weights)
    return (numbers == mass.argmax()) & (inside > 0)


def roundness(probability: Tensor) -> float:
    """Return how much the largest component is a disc, and how surely: 1 for both, 0 without one.

    It is the mass over 2 pi times the mean squared distance of its pixels from their middle. For a
    disc of area A that distance is A / (2 pi), for anything else it is greater.

    Args:
        probability: (W, H).
    """
    disc = largest_component(probability)
    if not bool(disc.any()):
        return 0.0
    places = torch.nonzero(disc).float()
    # A pixel is a square and no point: 1/12 an axis.
    spread = (places - places.mean(dim=0)).square().sum(dim=1).mean() + 1 / 6
    return float(probability[disc].sum() / (2 * math.pi * spread))


def window_around(disc: Tensor, shown: Window, field: float, width: int, height: int) -> Window:
    """Return the square of ``field`` disc diameters around a disc, within the image.

    The diameter is that of a disc of the same area.

    Args:
        disc: (size, size) bool, seen in the square that :func:`look` gave of ``shown``.
        shown: a part of the image.
        field: side of the square in disc diameters.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        The square, cut off where the image is narrower; all of the image if there is no disc.
    """
    area = float(disc.sum())
    if area == 0:
        return 0, 0, width, height
    size = disc.shape[0]
    longest = max(shown[2], shown[3])
    diameter = 2 * math.sqrt(area / math.pi) * longest / size
    side = min(max(1, int(round(field * diameter))), max(width, height))  # noqa: RUF046
    columns, rows = seen_size(shown, size)
    x = shown[0] + _centre(disc.sum(dim=1), size - columns) * shown[2] / columns
    y = shown[1] + _centre(disc.sum(dim=0), size - rows) * shown[3] / rows
    return _start(x, side, width), _start(y, side, height), min(side, width), min(side, height)


def _centre(counts: Tensor, margin: int) -> float:
    """Return the mean position, in pixels from the end of the margin, of counted pixels."""
    positions = torch.arange(counts.shape[0], device=counts.device) + 0.5
    return float((counts * positions).sum() / counts.sum()) - margin // 2


def _start(centre: float, side: int, length: int) -> int:
    """Return where an interval around ``centre`` begins that lies in 0 .. ``length``."""
    return max(0, min(int(round(centre - side / 2)), length - side))  # noqa: RUF046
