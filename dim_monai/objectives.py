"""The named loss terms of one step, as functions of tensors.

A *view* is one batch of images that the student must explain, with its target and the trust in
it. A method turns a batch into views; every view is one term of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Log-odds beyond this are one bin: at 8 the probability is 0.9997.
LOG_ODDS_LIMIT = 8.0
LOG_ODDS_BINS = 17


@dataclass(frozen=True)
class View:
    """One batch of images that the student must explain.

    Attributes:
        term: name of the loss term that it makes, as it stands in logs.
        image: (B, C, *S) float.
        target: (B, 1, *S) int64 class indices.
        weight: (B, 1, *S) float trust in each target, None for full trust.
        coefficient: factor of the term in the total loss.
        origin: "labelled", "unlabelled" or "mixed": whose pixels it shows.
    """

    term: str
    image: Tensor
    target: Tensor
    weight: Tensor | None = None
    coefficient: float | Tensor = 1.0
    origin: str = "labelled"


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return cross-entropy plus soft Dice loss of each sample.

    Cross-entropy is weighted by pixel and averaged over *all* pixels, those of weight 0 included,
    as in MiDSS: an image in which little is trusted counts little. Dice is averaged over the
    foreground classes with squared probabilities in the denominator and a smoothing of 1 pixel,
    which keeps the gradient of a slice without any foreground finite and useful.

    Deviation from MiDSS: Dice is taken per sample (theirs: over the whole batch) and without the
    background, so that the loss of a batch is the mean of its samples' losses, on one rank or many.

    Args:
        logits: (B, K, *S), K >= 2.
        target: (B, 1, *S) int64 in [0, K).
        weight: (B, 1, *S) in [0, 1], None for ones.

    Returns:
        (B,) float32, wider if the logits are.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    log_probability = F.log_softmax(logits, dim=1)
    cross_entropy = -log_probability.gather(1, target)
    trust = torch.ones_like(cross_entropy) if weight is None else weight.to(logits.dtype)
    pixels = tuple(range(1, logits.ndim))
    per_sample = (trust * cross_entropy).mean(dim=pixels)

    probability = log_probability[:, 1:].exp()
    classes = torch.arange(1, logits.shape[1], device=logits.device)
    truth = (target == classes.view(1, -1, *[1] * (logits.ndim - 2))).to(logits.dtype)
    space = tuple(range(2, logits.ndim))
    overlap = (probability * truth * trust).sum(dim=space)
    size = ((probability.square() + truth) * trust).sum(dim=space)
    dice_loss = 1 - (2 * overlap + 1) / (size + 1)
    return per_sample + dice_loss.mean(dim=1)


def pseudo_label(probability: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the teacher's most probable class and a mask of where it is sure of it.

    One threshold for all classes trusts nearly every background pixel and few of a small organ: the
    student is told where the organ is not, hardly ever where it is, and the organ shrinks until
    the teacher misses it on every unlabelled image. A pixel is therefore trusted if it is as sure
    as the average pixel of its class in the batch, and never asked for more than ``threshold``
    (class-wise thresholds after FlexMatch, NeurIPS 2021, and FreeMatch, ICLR 2023, which learn them
    over the training; MiDSS has one threshold).

    Args:
        probability: (B, K, *S) summing to 1 over K.
        threshold: a largest probability above this is always trusted (MiDSS: 0.95).

    Returns:
        label (B, 1, *S) int64 and confidence (B, 1, *S) float of 0 and 1.
    """
    largest, label = probability.max(dim=1, keepdim=True)
    classes = torch.arange(probability.shape[1], device=label.device)
    of_class = label.flatten()[:, None] == classes
    total = (of_class * largest.flatten()[:, None]).sum(dim=0)
    mean = total / of_class.sum(dim=0).clamp_min(1)
    return label, (largest > mean.clamp_max(threshold)[label]).to(probability.dtype)


def sigmoid_ramp(progress: float, *, length: float = 1.0, steepness: float = 5.0) -> float:
    """Return exp(-steepness * (1 - p)^2) with p = progress / length, at most 1.

    The consistency ramp of Tarvainen & Valpola (Mean Teacher, NeurIPS 2017, section 3.1) as the
    code of MiDSS applies it over the whole training (its paper prints it without the square).

    Args:
        progress: share of the training that is done, in [0, 1].
        length: share of the training after which the ramp is 1.
        steepness: 5 gives 0.0067 at the start.
    """
    remaining = 1.0 - min(progress / length, 1.0) if length > 0 else 0.0
    return math.exp(-steepness * remaining * remaining)


def log_odds(logits: Tensor, first: int = 1) -> Tensor:
    """Return log(p / (1 - p)) of the classes from ``first`` on: without the background, by default.

    Args:
        logits: (B, K, *S).
        first: class, in [0, K).

    Returns:
        (B, K - first, *S).
    """
    others = [
        torch.logsumexp(torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1), dim=1)
        for k in range(first, logits.shape[1])
    ]
    return logits[:, first:] - torch.stack(others, dim=1)


def log_odds_histograms(logits: Tensor) -> Tensor:
    """Return, for each foreground class, the histogram of the pixels' log-odds.

    A value between two bin centres counts for both in proportion, so the histogram has a gradient.

    Args:
        logits: (B, K, *S).

    Returns:
        (K - 1, 17), each row summing to 1.
    """
    return _histograms(log_odds(logits))


def class_log_odds_histograms(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return, for each class, the histogram of its log-odds in the pixels that belong to it.

    Args:
        logits: (B, K, *S).
        target: (B, 1, *S) int64 in [0, K), which pixel belongs to which class.
        weight: (B, 1, *S) in [0, 1], how much of a pixel counts.

    Returns:
        (K, 17), the background included; each row sums to the share of the pixels that belong to
        its class and count, so that rows of several batches can be averaged.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    belongs = (target.flatten() == classes[:, None]) * weight.flatten().to(logits.dtype)
    return _histograms(log_odds(logits, first=0), belongs)


def _histograms(odds: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return (C, 17) of odds (B, C, *S), in which a pixel counts by its weight (C, B * pixels)."""
    values = odds.transpose(0, 1).flatten(1).clamp(-LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)
    places = (values + LOG_ODDS_LIMIT) * ((LOG_ODDS_BINS - 1) / (2 * LOG_ODDS_LIMIT))
    histograms: Tensor = _MeanOfBins.apply(places, weight)  # type: ignore[no-untyped-call]
    return histograms


class _MeanOfBins(torch.autograd.Function):
    """The share of each bin, where a place between two bins counts for both in proportion.

    Its gradient is a difference of two neighbouring bins, which can be looked up. Autograd would
    keep 17 numbers a pixel instead, twice.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, weight: Tensor | None) -> Tensor:
        """Return (C, 17) of places (C, P) in [0, 16] and their weights of the same shape."""
        ctx.save_for_backward(places, weight)
        bins = torch.arange(LOG_ODDS_BINS, dtype=places.dtype, device=places.device)
        # Pixels last: what lies together in memory is treated and summed together.
        shares = (places[:, None] - bins[:, None]).abs_().neg_().add_(1).clamp_min_(0)
        if weight is not None:
            shares *= weight[:, None]
        return shares.mean(dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the places, (C, P)."""
        places, weight = ctx.saved_tensors
        slopes = gradients[0].diff(dim=1) / places.shape[1]
        lower = places.long().clamp_(0, LOG_ODDS_BINS - 2)  # of what is not a number, too
        gradient = slopes.gather(1, lower)
        return gradient if weight is None else gradient * weight, None
