"""The f-divergence term: against NumPy, its weight, and its critic."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dim_monai.errors import ConfigError
from dim_monai.handlers import FDivergence, GradientShares, SharpnessAware, TeacherEMA
from dim_monai.methods import MeanTeacher, MiDSS
from dim_monai.objectives import View
from tests.handlers.tiny import (
    BothKinds,
    Record,
    equal,
    logits_of,
    make_batch,
    make_network,
    make_trainer,
    state_of,
    views_of,
)

NAMES = ["kl", "reverse_kl", "js", "tv", "pearson", "neyman", "squared_hellinger"]


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Over the last axis, 0 log 0 = 0, averaged over the others."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(a > 0, a * np.log(a / middle), 0.0) for a in (p, q)]
    return float((0.5 * (parts[0] + parts[1])).sum(axis=-1).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


# --- the value


def histogram_of(probability: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """The histogram of log-odds, pixel by pixel, of which each counts as far as it is trusted."""
    histogram = np.zeros(17)
    for value, weight in zip(probability.ravel(), trust.ravel(), strict=True):
        place = np.clip(np.log(value / (1 - value)), -8, 8) + 8  # centres: the integers -8..8
        lower = min(math.floor(place), 15)
        histogram[lower] += weight * (lower + 1 - place)
        histogram[lower + 1] += weight * (place - lower)
    return histogram / trust.sum()


def odds_histogram(logits: np.ndarray) -> np.ndarray:
    """One histogram a foreground class, of all pixels."""
    probability = softmax(logits.astype(np.float64))
    everywhere = np.ones_like(probability[:, 0])
    foreground = range(1, probability.shape[1])
    return np.stack([histogram_of(probability[:, k], everywhere) for k in foreground])


def test_prediction_compares_histograms_of_log_odds() -> None:
    a, b, c = (logits_of(seed) for seed in range(3))
    got = FDivergence("js").term(views_of("labelled", "unlabelled", "unlabelled"), [a, b, c])
    both = np.concatenate([b.numpy(), c.numpy()])
    expected = jensen_shannon(odds_histogram(a.numpy()), odds_histogram(both))
    assert expected > 0.01
    assert got is not None
    np.testing.assert_allclose(float(got), expected, rtol=1e-4)


def test_proportion_compares_the_mean_class_probabilities() -> None:
    a, b = logits_of(0), logits_of(1)
    got = FDivergence("js", compare="proportion").term(views_of("labelled", "unlabelled"), [a, b])
    p, q = (softmax(x.numpy()).mean(axis=(0, 2, 3)) for x in (a, b))
    assert got is not None
    np.testing.assert_allclose(float(got), jensen_shannon(p, q), rtol=1e-4)


def class_views(*sides: tuple[torch.Tensor, torch.Tensor | None]) -> list[View]:
    """A labelled and an unlabelled view by target (B, *S) and weight."""
    origins = ("labelled", "unlabelled")
    return [
        View(origin, torch.zeros(len(target), 1, 4, 4), target[:, None], weight, origin=origin)
        for origin, (target, weight) in zip(origins, sides, strict=True)
    ]


def test_class_prediction_compares_histograms_within_each_class() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = [logits_of(0), logits_of(1)]
    targets = [torch.randint(0, 3, (2, 4, 4), generator=draw) for _ in logits]
    weight = torch.rand(2, 1, 4, 4, generator=draw)
    handler = FDivergence("js", compare="class_prediction")
    got = handler.term(class_views((targets[0], None), (targets[1], weight)), logits)
    sides = []
    for values, target, trust in zip(
        logits, targets, (np.ones((2, 4, 4)), weight[:, 0].numpy()), strict=True
    ):
        probability = softmax(values.numpy().astype(np.float64))
        rows = [histogram_of(probability[:, k], trust * (target == k).numpy()) for k in range(3)]
        sides.append(np.stack(rows))
    expected = jensen_shannon(*sides)
    assert expected > 0.01
    assert got is not None
    np.testing.assert_allclose(float(got), expected, rtol=1e-4)


def test_class_prediction_does_not_see_how_much_a_class_takes() -> None:
    """A student as sure on both sides, of an organ of 2 pixels and of one of 12."""
    views, logits = [], []
    for size in (2, 12):
        target = (torch.arange(16) < size).long().view(1, 4, 4)
        views.append((target, None))
        organ = torch.where(target == 1, 2.0, -3.0)
        logits.append(torch.stack([torch.zeros_like(organ), organ], dim=1))
    values = {
        compare: FDivergence(compare=compare).term(class_views(*views), logits)
        for compare in ("class_prediction", "prediction", "proportion")
    }
    assert all(value is not None for value in values.values())
    assert abs(float(values["class_prediction"] or 0)) < 1e-6
    assert float(values["prediction"] or 0) > 0.1
    assert float(values["proportion"] or 0) > 0.01


def test_class_prediction_counts_what_is_trusted_and_classes_that_both_sides_show() -> None:
    labelled, unlabelled = logits_of(0, classes=2), logits_of(1, classes=2).requires_grad_()
    organ = torch.zeros(2, 4, 4, dtype=torch.int64)
    organ[:, :2] = 1
    background_alone = (organ == 0).float()[:, None]

    def term(*sides: tuple[torch.Tensor, torch.Tensor | None]) -> torch.Tensor:
        handler = FDivergence(compare="class_prediction")
        value = handler.term(class_views(*sides), [labelled, unlabelled])
        assert value is not None
        return value

    half = term((organ, None), (organ, background_alone))
    (gradient,) = torch.autograd.grad(half, [unlabelled])
    assert float(gradient[:, :, :2].abs().max()) == 0
    assert float(gradient[:, :, 2:].abs().max()) > 0
    assert torch.equal(half, term((organ, background_alone), (organ, background_alone)))
    nothing = term((organ, None), (organ, torch.zeros(2, 1, 4, 4)))
    (gradient,) = torch.autograd.grad(nothing, [unlabelled])
    assert nothing.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_mixed_views_are_not_compared() -> None:
    a, b, mixed = (logits_of(seed) for seed in range(3))
    term = FDivergence().term
    with_mixed = term(views_of("labelled", "mixed", "unlabelled"), [a, mixed, b])
    without = term(views_of("labelled", "unlabelled"), [a, b])
    assert with_mixed is not None
    assert without is not None
    assert torch.equal(with_mixed, without)


@pytest.mark.parametrize("origins", [("labelled",), ("labelled", "mixed"), ("unlabelled",)])
def test_one_side_alone_is_no_term(origins: tuple[str, ...]) -> None:
    logits = [logits_of(seed) for seed, _ in enumerate(origins)]
    assert FDivergence().term(views_of(*origins), logits) is None


@pytest.mark.parametrize("compare", ["prediction", "class_prediction", "proportion"])
@pytest.mark.parametrize("name", NAMES)
def test_equal_sides_have_neither_value_nor_gradient(name: str, compare: str) -> None:
    sides = [logits_of(0, spread=1.0).requires_grad_() for _ in range(2)]
    value = FDivergence(name, compare=compare).term(views_of("labelled", "unlabelled"), sides)
    assert value is not None
    (gradient,) = torch.autograd.grad(value, sides[1:])
    assert abs(value.item()) < 1e-6
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("compare", ["prediction", "class_prediction", "proportion"])
@pytest.mark.parametrize("name", NAMES)
def test_descent_draws_the_unlabelled_side_to_the_labelled_one(name: str, compare: str) -> None:
    labelled, unlabelled = (
        logits_of(0, spread=1.0) + torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1) * shift
        for shift in (1.0, -1.0)
    )
    unlabelled = unlabelled.requires_grad_()
    handler = FDivergence(name, compare=compare)
    views = views_of("labelled", "unlabelled")
    value = handler.term(views, [labelled, unlabelled])
    assert value is not None
    (gradient,) = torch.autograd.grad(value, [unlabelled])
    moved = unlabelled - 1e-2 / float(gradient.norm()) * gradient
    nearer = handler.term(views, [labelled, moved])
    assert nearer is not None
    assert 0 < nearer.item() < value.item()


@pytest.mark.parametrize("estimator", ["closed_form", "variational"])
def test_the_labelled_side_is_the_reference_and_stays(estimator: str) -> None:
    sides = [logits_of(seed).requires_grad_() for seed in range(2)]
    value = FDivergence(estimator=estimator).term(views_of("labelled", "unlabelled"), sides)
    assert value is not None
    labelled, unlabelled = torch.autograd.grad(value, sides, allow_unused=True)
    assert labelled is None
    assert unlabelled is not None
    assert float(unlabelled.abs().max()) > 0


# --- the memory


def divergences(memory: float, seeds: list[int], *handlers: Any) -> list[float]:
    """The term in a training that does not move, on the batches of these seeds."""
    seen = Record(lambda engine: float(engine.state.output[0]["terms"]["f_divergence"]))
    handler = FDivergence(memory=memory, interval=0)
    batches = [make_batch(seed) for seed in seeds]
    all_handlers = [handler, *handlers, seen]
    make_trainer(make_network(), batches, *all_handlers, method=BothKinds(), lr=0.0).run()
    return seen.seen


def test_both_sides_are_running_means_over_steps() -> None:
    network, means = make_network(), {}
    seeds, expected = [0, 1, 2], []
    for seed in seeds:
        batch = make_batch(seed)
        for side in ("labelled", "unlabelled"):
            with torch.no_grad():
                present = odds_histogram(network(batch[side]["strong"]).numpy())
            means[side] = 0.75 * means[side] + 0.25 * present if side in means else present
        expected.append(jensen_shannon(means["labelled"], means["unlabelled"]))
    np.testing.assert_allclose(divergences(0.75, seeds), expected, rtol=5e-3)  # float32


def test_memory_takes_the_chance_of_a_batch_out() -> None:
    """Both sides are drawn alike, so what a divergence finds between them is chance."""
    seeds = list(range(20))
    assert np.mean(divergences(0.9, seeds)[-5:]) < 0.3 * np.mean(divergences(0.0, seeds)[-5:])


def test_a_second_pass_is_not_remembered() -> None:
    seeds = [0, 1, 2]
    twice = divergences(0.5, seeds, SharpnessAware(rho=0.5, not_perturbed=[]))
    np.testing.assert_allclose(twice, divergences(0.5, seeds), rtol=1e-6)


# --- features

MIXED_AND_DIVERGENCE = ("labelled_in_box", "unlabelled_in_box", "symmetric", "f_divergence")


def feature_trainer(network: nn.Module, handler: FDivergence, joint: bool = True) -> Any:
    return make_trainer(
        network, [make_batch(0)], handler, method=BothKinds(), lr=0.0, joint_forward=joint
    )


@pytest.mark.parametrize("joint", [True, False])
def test_features_are_those_of_the_layer_view_by_view(joint: bool) -> None:
    network = make_network()
    trainer = feature_trainer(
        network, FDivergence("js", compare="features", layer="2", interval=0), joint
    )
    trainer.run()
    batch = make_batch(0)
    with torch.no_grad():
        features = [network[:3](batch[side]["strong"]) for side in ("labelled", "unlabelled")]
    p, q = (softmax(x.numpy()).mean(axis=(0, 2, 3)) for x in features)
    got = float(trainer.state.output[0]["terms"]["f_divergence"])
    np.testing.assert_allclose(got, jensen_shannon(p, q), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("rule", ["sam", "esam"])
@pytest.mark.parametrize("stay", [(), *combinations(MIXED_AND_DIVERGENCE, 1), MIXED_AND_DIVERGENCE])
def test_features_are_those_of_their_views_whatever_has_a_second_pass(
    stay: tuple[str, ...], rule: str
) -> None:
    network = make_network()
    divergence = FDivergence("js", compare="features", layer="2", interval=0, memory=0.0)
    sharpness = SharpnessAware(rule=rule, not_perturbed=stay)
    seen = Record(lambda engine: (engine.views, engine.state.output[0]["terms"]["f_divergence"]))
    batches = [make_batch(seed) for seed in range(3)]
    handlers = [TeacherEMA(network), divergence, sharpness, seen]
    make_trainer(network, batches, *handlers, method=MiDSS(0.5, 0.5), lr=0.0).run()
    assert len(seen.seen) == 3
    for views, got in seen.seen:
        with torch.no_grad():
            p, q = (
                softmax(
                    torch.cat([network[:3](v.image) for v in views if v.origin == side]).numpy()
                ).mean(axis=(0, 2, 3))
                for side in ("labelled", "unlabelled")
            )
        np.testing.assert_allclose(float(got), jensen_shannon(p, q), rtol=1e-3, atol=1e-7)


def test_features_of_other_forward_passes_are_not_kept() -> None:
    network = make_network()
    handler = FDivergence(compare="features", layer="2", interval=0)
    trainer = feature_trainer(network, handler)
    image = torch.zeros(5, 1, 8, 8)
    network.eval()(image)
    with torch.no_grad():
        network.train()(image)
    assert handler._captured == []  # a validation between two steps would be held in memory
    trainer.run()
    assert handler._captured == []


def test_features_of_a_second_pass_are_not_kept() -> None:
    network = make_network()
    handler = FDivergence(compare="features", layer="2", interval=0)
    make_trainer(network, [make_batch(0)], handler, SharpnessAware(), method=BothKinds()).run()
    assert handler._captured == []


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.1"):
        feature_trainer(make_network(), FDivergence(compare="features", layer="model.1"))


# --- the weight


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_the_weight_is_the_share_of_the_supervised_gradient(weight: float) -> None:
    batches = [make_batch(0)] * 3
    shares = Record(lambda engine: dict(engine.state.diagnostics))
    handlers = [GradientShares(interval=1), FDivergence(weight=weight, interval=1, memory=0.0)]
    make_trainer(make_network(), batches, *handlers, shares, method=BothKinds(), lr=0.0).run()
    last = shares.seen[-1]
    np.testing.assert_allclose(
        last["share_f_divergence"] / last["share_supervised"], weight, rtol=1e-4
    )
    # There was something to scale.
    assert not math.isclose(last["scale_f_divergence"], 1.0, rel_tol=0.1)


def test_the_scale_follows_the_training_and_not_a_single_step() -> None:
    seen = Record(
        lambda engine: (
            engine.state.diagnostics["scale_f_divergence"],
            engine.state.coefficients["f_divergence"],
        )
    )
    ratios = Record(lambda engine: list(handler._ratios))
    handler = FDivergence(weight=0.5, interval=1)
    batches = [make_batch(seed) for seed in range(8)]
    make_trainer(make_network(), batches, handler, seen, ratios, method=BothKinds()).run()
    every = [step[-1] for step in ratios.seen]
    expected = [float(np.median(every[max(0, n - 5) : n])) for n in range(1, 9)]
    scales, coefficients = zip(*seen.seen, strict=True)
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    # Silent until measured; a step is weighted by what the steps before it measured.
    np.testing.assert_allclose(coefficients, [0.0, *(0.5 * scale for scale in expected[:-1])])


class Trusted:
    """A labelled and an unlabelled view, of which the rows of the organ that are told are trusted.

    Half of both images is organ; a step trusts the next number of its four rows.
    """

    def __init__(self, rows: list[int]) -> None:
        self.rows = iter(rows)

    def views(self, batch: Any, *_: Any) -> tuple[list[View], dict[str, Any]]:
        target = torch.zeros(2, 1, 8, 8, dtype=torch.int64)
        target[:, :, :4] = 1
        weight = (target == 0).float()
        weight[:, :, : next(self.rows)] = 1
        return [
            View("supervised", batch.labelled.strong, target),
            View("consistency", batch.unlabelled.strong, target, weight, 1.0, "unlabelled"),
        ], {}


@pytest.mark.parametrize(
    ("compare", "measured"),
    [("class_prediction", [1, 2, 2, 2, 3]), ("prediction", [1, 2, 3, 4, 5])],
)
def test_a_step_that_trusts_unusually_little_of_a_class_is_not_measured(
    compare: str, measured: list[int]
) -> None:
    handler = FDivergence(compare=compare, interval=1, memory=0.5)
    counts = Record(lambda engine: len(handler._ratios))
    batches = [make_batch(seed) for seed in range(5)]
    # Of the running share of four rows, then three, then ...
    rows = Trusted([4, 4, 1, 0, 2])
    make_trainer(make_network(), batches, handler, counts, method=rows, lr=0.0).run()
    assert counts.seen == measured


def test_without_measurements_the_weight_is_the_factor() -> None:
    handler = FDivergence(weight=0.3, interval=0)
    trainer = make_trainer(make_network(), [make_batch(0)] * 2, handler, method=BothKinds())
    trainer.run()
    assert trainer.state.coefficients["f_divergence"] == 0.3


@pytest.mark.parametrize("estimator", ["closed_form", "variational"])
def test_a_step_that_is_not_finite_spoils_neither_scale_nor_critic(estimator: str) -> None:
    poisoned = make_batch(1)
    poisoned["labelled"]["strong"].fill_(float("nan"))
    handler = FDivergence(estimator=estimator, interval=1)
    network = make_network()
    batches = [make_batch(0), poisoned, make_batch(2)]
    trainer = make_trainer(network, batches, SharpnessAware(), handler, method=BothKinds())
    trainer.run()
    assert trainer.state.skipped_steps == 1
    assert math.isfinite(trainer.state.coefficients["f_divergence"])
    assert math.isfinite(float(trainer.state.output[0]["loss"]))
    if handler.critic is not None:
        assert all(torch.isfinite(weight).all() for weight in handler.critic.parameters())


# --- settings


def test_unknown_settings_are_refused() -> None:
    for settings in (
        {"divergence": "jss"},
        {"compare": "pixels"},
        {"estimator": "closed"},
        {"compare": "proportion", "estimator": "variational"},
        {"compare": "class_prediction", "estimator": "variational"},
        {"memory": 1.0},
    ):
        with pytest.raises(ConfigError):
            FDivergence(**settings)


def test_without_unlabelled_images_training_is_supervised() -> None:
    states = []
    for handlers in ([], [FDivergence(interval=1)]):
        network = make_network()
        batches = [make_batch(seed, unlabelled=0) for seed in range(2)]
        make_trainer(network, batches, *handlers, method=MeanTeacher()).run()
        states.append(state_of(network))
    assert equal(*states)
