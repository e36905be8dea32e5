"""The mean prediction of an image and its mirror images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn


class FlipMeanInferer(Inferer):
    """Average the probabilities of an image and of its mirror images along some axes.

    Every subset of ``axes`` is flipped, predicted and flipped back, so n axes cost 2^n times as
    much. What is returned are logarithms of the mean probabilities: logits like those of the
    network, to which a softmax may be applied as to them.

    Args:
        inferer: predicts one image.
        axes: spatial axes to mirror along, 0 for the first; none passes everything on unchanged.
            Sensible are those along which training mirrors, too.
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int] = ()) -> None:
        super().__init__()
        self.inferer = inferer
        self.axes = tuple(axes)

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any] | nn.Module, *args: Any, **kwargs: Any
    ) -> Any:
        """Return logits (B, K, *S) of ``inputs`` (B, C, *S)."""
        if not self.axes:
            return self.inferer(inputs, network, *args, **kwargs)
        dims = [axis + 2 for axis in self.axes]
        flips = [chosen for n in range(len(dims) + 1) for chosen in combinations(dims, n)]
        total: Tensor | None = None
        for chosen in flips:
            logits = self.inferer(torch.flip(inputs, chosen), network, *args, **kwargs)
            log_p = torch.flip(torch.log_softmax(logits, dim=1), chosen)
            total = log_p if total is None else torch.logaddexp(total, log_p)
        return total - math.log(len(flips))  # type: ignore[operator]  # there is always one
