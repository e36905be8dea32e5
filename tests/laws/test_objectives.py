"""Laws of the loss, the pseudo-labels and the ramp, against NumPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dim_monai.objectives import (
    class_log_odds_histograms,
    log_odds,
    log_odds_histograms,
    pseudo_label,
    segmentation_loss,
    sigmoid_ramp,
)

SHAPES = [(2, 2, 5, 7), (3, 4, 6, 5), (2, 3, 4, 3, 5)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def problem(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits (float64), target and weight, the weight with zeros and ones among it."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, *space = shape
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (batch, 1, *space), generator=generator)
    weight = (2 * torch.rand((batch, 1, *space), generator=generator) - 0.5).clamp(0, 1).double()
    return logits, target, weight


def textbook_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """One sample, written with loops: logits (K, N), target (N,), weight (N,)."""
    probability = np.exp(logits) / np.exp(logits).sum(axis=0)
    pixels = range(len(target))
    cross_entropy = sum(-weight[n] * np.log(probability[target[n], n]) for n in pixels) / len(
        target
    )
    dice = []
    for k in range(1, len(logits)):
        shared = sum(weight[n] * probability[k, n] for n in pixels if target[n] == k)
        predicted = sum(weight[n] * probability[k, n] ** 2 for n in pixels)
        true = sum(weight[n] for n in pixels if target[n] == k)
        dice.append(1 - (2 * shared + 1) / (predicted + true + 1))
    return cross_entropy + sum(dice) / len(dice)


def certain(target: Tensor, classes: int, margin: float = 50.0) -> Tensor:
    """Logits that say the target."""
    return margin * one_hot(target[:, 0], classes).movedim(-1, 1).double()


@every_shape
def test_the_loss_is_the_textbook_one(shape) -> None:
    logits, target, weight = problem(shape)
    losses = segmentation_loss(logits, target, weight)
    assert losses.shape == (shape[0],)
    for b in range(shape[0]):
        expected = textbook_loss(
            logits[b].flatten(1).numpy(), target[b].flatten().numpy(), weight[b].flatten().numpy()
        )
        assert float(losses[b]) == pytest.approx(expected, rel=1e-12)


@every_shape
def test_the_loss_of_a_batch_is_the_mean_of_its_samples(shape) -> None:
    logits, target, weight = problem(shape)
    alone = [
        segmentation_loss(logits[b : b + 1], target[b : b + 1], weight[b : b + 1])
        for b in range(shape[0])
    ]
    torch.testing.assert_close(segmentation_loss(logits, target, weight), torch.cat(alone))


def test_indifferent_logits_give_the_closed_form() -> None:
    # Two classes at 1/2 each, n pixels of class 1: overlap n/2, sizes n/4 and n.
    n = 4 * 6
    loss = segmentation_loss(torch.zeros(1, 2, 4, 6), torch.ones(1, 1, 4, 6, dtype=torch.long))
    assert loss.item() == pytest.approx(math.log(2) + 1 - (n + 1) / (1.25 * n + 1))


@every_shape
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much(shape) -> None:
    _, target, weight = problem(shape)
    classes = shape[1]
    assert segmentation_loss(certain(target, classes), target).max() < 1e-9
    assert segmentation_loss(certain(target, classes), target, weight).max() < 1e-9
    wrong = (target + 1) % classes
    assert segmentation_loss(certain(wrong, classes), target).min() > 50  # the margin, and Dice


@every_shape
def test_pixels_of_weight_zero_are_not_seen(shape) -> None:
    logits, target, weight = problem(shape)
    other_logits, other_target, _ = problem(shape, seed=1)
    ignored = weight == 0
    assert 0 < ignored.float().mean() < 1
    changed = segmentation_loss(
        torch.where(ignored, other_logits, logits),
        torch.where(ignored, other_target, target),
        weight,
    )
    torch.testing.assert_close(changed, segmentation_loss(logits, target, weight))

    logits.requires_grad_()
    segmentation_loss(logits, target, weight).sum().backward()
    assert not (logits.grad * ignored).any()
    assert (logits.grad * ~ignored).any()


@every_shape
def test_no_weight_is_full_weight_and_no_trust_no_loss(shape) -> None:
    logits, target, weight = problem(shape)
    full = segmentation_loss(logits, target, torch.ones_like(weight))
    assert torch.equal(segmentation_loss(logits, target), full)
    assert not segmentation_loss(logits, target, torch.zeros_like(weight)).any()


@every_shape
def test_the_loss_sees_differences_of_logits_and_no_order_of_pixels(shape) -> None:
    logits, target, weight = problem(shape)
    expected = segmentation_loss(logits, target, weight)
    torch.testing.assert_close(segmentation_loss(logits + 7, target, weight), expected)
    mirrored = [tensor.flip(2).transpose(2, 3) for tensor in (logits, target, weight)]
    torch.testing.assert_close(segmentation_loss(*mirrored), expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, target, weight = problem((2, 3, 3, 2))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: segmentation_loss(x, target, weight), [logits])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_of_a_slice_without_foreground_stay_finite(dtype) -> None:
    logits = torch.zeros(1, 2, 4, 4, dtype=dtype)
    logits[:, 0], logits[:, 1] = -6e4, 6e4
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.zeros(1, 1, 4, 4, dtype=torch.long))
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    loss.sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1] > 0).all()  # the false foreground is pulled down


def test_half_precision_gives_the_loss_of_single_precision() -> None:
    logits, target, weight = problem((2, 3, 5, 6))
    half = logits.half()
    single = segmentation_loss(half.float(), target, weight.float())
    torch.testing.assert_close(
        segmentation_loss(half, target, weight.half()), single, atol=1e-3, rtol=0
    )


def test_pseudo_labels_are_trusted_above_the_threshold_or_the_mean_of_their_class() -> None:
    probability = torch.softmax(problem((3, 4, 6, 5))[0], dim=1)
    label, confidence = pseudo_label(probability, 0.75)
    assert label.shape == confidence.shape == (3, 1, 6, 5)
    assert label.dtype == torch.int64
    assert confidence.dtype == probability.dtype
    largest, classes = probability.numpy().max(axis=1), probability.numpy().argmax(axis=1)
    np.testing.assert_array_equal(label[:, 0].numpy(), classes)
    means = np.array([largest[classes == k].mean() for k in range(4)])
    assert means.min() < 0.75
    expected = largest > np.minimum(means, 0.75)[classes]
    np.testing.assert_array_equal(confidence[:, 0].numpy(), expected)
    assert (expected >= (largest > 0.75)).all()
    assert 0 < expected.mean() < 1


def test_a_small_unsure_organ_is_not_silenced_by_a_sure_background() -> None:
    foreground = torch.full((1, 100), 0.01)
    foreground[0, :10] = torch.linspace(0.55, 0.85, 10)
    probability = torch.stack([1 - foreground, foreground], dim=1)
    label, confidence = pseudo_label(probability, 0.9)
    assert confidence[label == 0].all()
    assert confidence[label == 1].sum() == 5


def test_a_higher_threshold_never_trusts_more() -> None:
    probability = torch.softmax(problem((3, 4, 6, 5))[0], dim=1)
    masks = torch.stack([pseudo_label(probability, t)[1] for t in (0.0, 0.4, 0.6, 1.0)])
    assert masks[0].all()
    assert (masks[1:] <= masks[:-1]).all()
    assert len({float(mask.mean()) for mask in masks}) == 4


@every_shape
def test_a_histogram_of_log_odds_sums_to_one_and_has_their_mean(shape) -> None:
    logits = problem(shape)[0] / 2
    histograms = log_odds_histograms(logits)
    odds = log_odds(logits).transpose(0, 1).flatten(1)
    assert odds.abs().max() < 8  # the bins are the integers from -8 to 8
    torch.testing.assert_close(histograms.sum(dim=1), torch.ones_like(histograms[:, 0]))
    torch.testing.assert_close(histograms @ torch.arange(-8.0, 9.0).double(), odds.mean(dim=1))


@every_shape
def test_the_histograms_of_classes_have_the_mean_of_what_counts(shape) -> None:
    logits, target, weight = problem(shape)
    histograms = class_log_odds_histograms(logits / 2, target, weight)
    odds = log_odds(logits / 2, first=0)
    counts = one_hot(target[:, 0], shape[1]).movedim(-1, 1) * weight
    pixels = (0, *range(2, logits.ndim))
    torch.testing.assert_close(histograms.sum(dim=1), counts.mean(dim=pixels))
    means = (counts * odds).mean(dim=pixels)
    torch.testing.assert_close(histograms @ torch.arange(-8.0, 9.0).double(), means)


@every_shape
def test_the_gradient_of_the_histograms_is_that_of_finite_differences(shape) -> None:
    logits, target, weight = problem(shape)
    logits[0] *= 5  # some beyond the last bin
    assert log_odds(logits).abs().max() > 8
    logits.requires_grad_()
    assert torch.autograd.gradcheck(log_odds_histograms, [logits])
    assert torch.autograd.gradcheck(
        lambda values: class_log_odds_histograms(values, target, weight), [logits]
    )


def test_a_histogram_of_what_is_no_number_is_none_and_nor_is_its_gradient() -> None:
    logits = torch.full((1, 2, 3, 3), float("nan"), requires_grad=True)
    value = log_odds_histograms(logits).square().sum()
    (gradient,) = torch.autograd.grad(value, [logits])
    assert value.isnan()
    assert gradient.isnan().any()


@pytest.mark.parametrize("length", [0.3, 1.0])
def test_the_ramp_goes_up_from_its_start_to_one(length) -> None:
    progress = np.linspace(0, 1, 101)
    ramp = np.array([sigmoid_ramp(p, length=length) for p in progress])
    assert ramp[0] == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(length, length=length) == 1
    assert sigmoid_ramp(length / 2, length=length) == pytest.approx(math.exp(-1.25))
    rising = progress <= length
    assert (np.diff(ramp[rising]) > 0).all()
    assert (ramp[~rising] == 1).all()


def test_the_ramp_may_have_no_length_or_no_steepness() -> None:
    assert sigmoid_ramp(0.0, length=0.0) == 1
    assert sigmoid_ramp(0.0, steepness=0.0) == 1
    assert sigmoid_ramp(0.0, steepness=2.0) == pytest.approx(math.exp(-2))
