"""Laws of the f-divergences, against textbook formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dim_monai.divergence import (
    DIVERGENCES,
    EPSILON,
    Critic,
    Divergence,
    get_divergence,
)
from dim_monai.errors import ConfigError

ALPHAS = (-1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.0)
CASES = [(name, None) for name in DIVERGENCES if name != "alpha"]
CASES += [("alpha", alpha) for alpha in ALPHAS]
EVERY = [
    pytest.param(get_divergence(name, alpha), id=name if alpha is None else f"{name}={alpha}")
    for name, alpha in CASES
]
# Their true derivative at one-hot pairs, up to 1e7, exceeds the largest float16.
STEEP = {"pearson", "neyman", "alpha_2", "alpha_-1"}
every_divergence = pytest.mark.parametrize("divergence", EVERY)


def textbook_generator(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """f(t) as printed in the literature, at the scale of the closed form."""
    name = {"alpha_1": "kl", "alpha_0": "reverse_kl"}.get(name, name)
    if name.startswith("alpha_"):
        a = float(name.removeprefix("alpha_"))
        return lambda t: (t**a - 1.0) / (a * (a - 1.0))
    return {
        "kl": lambda t: t * np.log(t),
        "reverse_kl": lambda t: -np.log(t),
        "js": lambda t: 0.5 * (t * np.log(t) - (1.0 + t) * np.log((1.0 + t) / 2.0)),
        "tv": lambda t: 0.5 * np.abs(t - 1.0),
        "pearson": lambda t: (t - 1.0) ** 2,
        "neyman": lambda t: (1.0 - t) ** 2 / t,
        "squared_hellinger": lambda t: 0.5 * (np.sqrt(t) - 1.0) ** 2,
    }[name]


def simplices(batch: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two (batch, classes) tables of random distributions in float64."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(classes), size=(2, batch)) * (1 - 1e-3 * classes) + 1e-3
    return torch.from_numpy(p), torch.from_numpy(q)


def closed(divergence: Divergence, p: Tensor, q: Tensor) -> Tensor:
    return divergence.closed_form(p.log(), q.log())


def assert_representable(gradient: Tensor, divergence: Divergence) -> None:
    """Finite, except where the true gradient exceeds float16: there infinite, never NaN."""
    assert not gradient.isnan().any()
    if gradient.dtype != torch.float16 or divergence.name not in STEEP:
        assert gradient.isfinite().all()


def samples(values: Tensor, counts: list[int]) -> Tensor:
    """Critic values of a sample that holds class k counts[k] times."""
    return values.repeat_interleave(torch.tensor(counts))


probabilities = st.lists(st.floats(1e-6, 1.0), min_size=6, max_size=6).map(
    lambda weights: torch.tensor([weights], dtype=torch.float64) / sum(weights)
)


@every_divergence
@settings(max_examples=25)
@given(p=probabilities, q=probabilities)
def test_zero_on_equal_pairs_and_within_its_bounds(
    divergence: Divergence, p: Tensor, q: Tensor
) -> None:
    value = closed(divergence, p, q).item()
    assert -1e-12 <= value <= divergence.upper_bound + 1e-12
    assert closed(divergence, p, p).item() == pytest.approx(0.0, abs=1e-15)


@every_divergence
def test_disjoint_distributions_reach_the_upper_bound_or_the_ceiling_of_the_clip(
    divergence: Divergence,
) -> None:
    one_hot = torch.eye(2, dtype=torch.float64)
    value = closed(divergence, one_hot, one_hot.flip(0))
    if math.isfinite(divergence.upper_bound):
        # sum p^a q^(1-a) of a clipped pair: eps^0.3 for alpha 0.3, eps^0.5 for Hellinger.
        slack = 20 * EPSILON ** (0.3 if divergence.name == "alpha_0.3" else 0.5)
        assert (value <= divergence.upper_bound).all()
        assert (value >= divergence.upper_bound - slack).all()
    else:
        assert (value > 0.9 * math.log(1.0 / EPSILON)).all()
        assert value.isfinite().all()


@every_divergence
def test_symmetric_exactly_where_declared(divergence: Divergence) -> None:
    p, q = simplices(32, 4)
    same = torch.allclose(closed(divergence, p, q), closed(divergence, q, p), rtol=1e-10)
    assert same == divergence.symmetric


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("reverse_kl", None), ("kl", None)),
        (("neyman", None), ("pearson", None)),
        *[(("alpha", a), ("alpha", 1.0 - a)) for a in ALPHAS],
    ],
)
def test_exchanging_p_and_q_leads_to_the_dual(
    left: tuple[str, float | None], right: tuple[str, float | None]
) -> None:
    p, q = simplices(32, 4)
    torch.testing.assert_close(
        closed(get_divergence(*left), p, q), closed(get_divergence(*right), q, p)
    )


@every_divergence
def test_closed_form_is_the_textbook_sum(divergence: Divergence) -> None:
    p, q = simplices(64, 5)
    f = textbook_generator(divergence.name)
    expected = (q.numpy() * f(p.numpy() / q.numpy())).sum(axis=1)
    np.testing.assert_allclose(closed(divergence, p, q).numpy(), expected, rtol=1e-9, atol=1e-12)


@every_divergence
def test_closed_form_reduces_only_the_class_dimension(divergence: Divergence) -> None:
    p, q = simplices(2 * 3 * 4, 5)
    expected = closed(divergence, p, q).reshape(2, 3, 4)
    log_p, log_q = (x.log().reshape(2, 3, 4, 5) for x in (p, q))
    torch.testing.assert_close(divergence.closed_form(log_p, log_q, dim=-1), expected)
    channels_first = divergence.closed_form(log_p.movedim(-1, 1), log_q.movedim(-1, 1))
    torch.testing.assert_close(channels_first, expected)


@every_divergence
def test_generator_is_the_textbook_one_up_to_a_linear_term(divergence: Divergence) -> None:
    t = torch.logspace(-2, 2, 41, dtype=torch.float64)
    ours = divergence.generator(t).numpy()
    gap = ours - textbook_generator(divergence.name)(t.numpy())
    slope = gap[-1] / (t[-1].item() - 1.0)
    np.testing.assert_allclose(gap, slope * (t.numpy() - 1.0), rtol=1e-7, atol=1e-9)
    assert divergence.generator(torch.ones(())).item() == pytest.approx(0.0, abs=1e-15)
    assert (ours >= 0.0).all()


@every_divergence
def test_pair_of_activation_and_conjugate_gives_the_generator_back(divergence: Divergence) -> None:
    # f(t) = sup_u (t u - f*(u)), the biconjugate, over a fine grid of raw critic values.
    t = torch.tensor([0.2, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    v = torch.linspace(-20.0, 20.0, 400_001, dtype=torch.float64)
    supremum = (t[:, None] * divergence.activation(v) - divergence.conjugate(v)).amax(
        dim=1
    ) * divergence.scale
    torch.testing.assert_close(supremum, divergence.generator(t), rtol=0, atol=1e-7)


@every_divergence
def test_no_critic_beats_the_closed_form(divergence: Divergence) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p_counts, q_counts = (rng.integers(1, 40, size=5).tolist() for _ in range(2))
        p, q = (torch.tensor([c], dtype=torch.float64) / sum(c) for c in (p_counts, q_counts))
        v = torch.from_numpy(rng.normal(scale=rng.choice([0.1, 1.0, 5.0]), size=5))
        bound = divergence.variational(samples(v, p_counts), samples(v, q_counts))
        assert bound.item() <= closed(divergence, p, q).item() + 1e-12


@every_divergence
def test_optimal_critic_closes_the_gap(divergence: Divergence) -> None:
    p_counts, q_counts = [3, 11, 20, 6, 10], [9, 11, 2, 20, 8]
    p, q = (torch.tensor([c], dtype=torch.float64) / 50 for c in (p_counts, q_counts))
    v = divergence.optimal_critic(p, q)[0]
    bound = divergence.variational(samples(v, p_counts), samples(v, q_counts))
    assert bound.item() == pytest.approx(closed(divergence, p, q).item(), abs=1e-6)


@every_divergence
def test_a_critic_that_answers_zero_bounds_by_zero(divergence: Divergence) -> None:
    assert divergence.variational(torch.zeros(3), torch.zeros(2, 2)).item() == 0.0


@every_divergence
@pytest.mark.parametrize("magnitude", [60.0, 6e4, 1e30])
def test_wild_critics_stay_finite(divergence: Divergence, magnitude: float) -> None:
    v_p = torch.tensor([magnitude, -magnitude, 0.0], requires_grad=True)
    v_q = torch.tensor([-magnitude, magnitude, 0.0], requires_grad=True)
    bound = divergence.variational(v_p, v_q)
    assert bound.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(bound, (v_p, v_q)))


@every_divergence
def test_clamp_leaves_the_optimal_critic_of_one_hot_pairs_alone(divergence: Divergence) -> None:
    p = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert (divergence.optimal_critic(p, p.flip(0)).abs() <= divergence.critic_limit).all()


def test_an_empty_side_has_no_expectation() -> None:
    with pytest.raises(ValueError, match="at least one"):
        get_divergence("kl").variational(torch.zeros(0), torch.zeros(3))


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="differ"):
        get_divergence("kl").closed_form(torch.zeros(4, 3), torch.zeros(1, 3))


@every_divergence
def test_gradients_agree_with_finite_differences(divergence: Divergence) -> None:
    p, q = simplices(3, 4)
    logits = (p.log().requires_grad_(), q.log().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda a, b: divergence.closed_form(a.log_softmax(1), b.log_softmax(1)), logits
    )
    assert torch.autograd.gradcheck(divergence.closed_form, logits)
    assert torch.autograd.gradcheck(divergence.variational, logits)


@every_divergence
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_hot_logits_in_half_precision_stay_finite(
    divergence: Divergence, dtype: torch.dtype
) -> None:
    a = torch.tensor([[6e4, -6e4, 0.0], [0.0, 6e4, 0.0]], dtype=dtype, requires_grad=True)
    b = torch.tensor([[-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = divergence.closed_form(
        a.log_softmax(1, dtype=torch.float32), b.log_softmax(1, dtype=torch.float32)
    )
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert_representable(torch.cat(torch.autograd.grad(value.sum(), (a, b))), divergence)


@every_divergence
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_probabilities_stay_finite(divergence: Divergence, dtype: torch.dtype) -> None:
    log_p = torch.tensor([[0.0, -math.inf]], dtype=dtype, requires_grad=True)
    log_q = torch.tensor([[-math.inf, 0.0]], dtype=dtype, requires_grad=True)
    value = divergence.closed_form(log_p, log_q)
    assert value.isfinite().all()
    assert_representable(torch.cat(torch.autograd.grad(value.sum(), (log_p, log_q))), divergence)


@every_divergence
def test_autocast_does_not_lower_the_precision(divergence: Divergence) -> None:
    p, q = (x.float() for x in simplices(8, 4))
    v_p, v_q = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    expected = closed(divergence, p, q), divergence.variational(v_p, v_q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = closed(divergence, p, q), divergence.variational(v_p, v_q)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@every_divergence
def test_float32_follows_float64(divergence: Divergence) -> None:
    p, q = simplices(64, 4)
    single = closed(divergence, p.float(), q.float())
    torch.testing.assert_close(single.double(), closed(divergence, p, q), rtol=1e-4, atol=1e-6)


@every_divergence
def test_jointly_convex(divergence: Divergence) -> None:
    (p1, q1), (p2, q2) = simplices(64, 4, seed=2), simplices(64, 4, seed=3)
    for w in (0.1, 0.5, 0.8):
        mixed = closed(divergence, w * p1 + (1 - w) * p2, w * q1 + (1 - w) * q2)
        chord = w * closed(divergence, p1, q1) + (1 - w) * closed(divergence, p2, q2)
        assert (mixed <= chord + 1e-12).all()


@every_divergence
def test_merging_two_classes_never_increases_it(divergence: Divergence) -> None:
    p, q = simplices(64, 5)

    def merge(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + x[:, 1:2], x[:, 2:]], dim=1)

    assert (closed(divergence, merge(p), merge(q)) <= closed(divergence, p, q) + 1e-12).all()


@pytest.mark.parametrize(
    ("alpha", "name", "factor"),
    [
        (1.0, "kl", 1.0),
        (0.0, "reverse_kl", 1.0),
        (2.0, "pearson", 0.5),
        (-1.0, "neyman", 0.5),
        (0.5, "squared_hellinger", 4.0),
    ],
)
def test_alpha_family_contains_the_named_ones(alpha: float, name: str, factor: float) -> None:
    p, q = simplices(32, 4)
    torch.testing.assert_close(
        closed(get_divergence("alpha", alpha), p, q), factor * closed(get_divergence(name), p, q)
    )


@pytest.mark.parametrize(("limit", "name"), [(1.0, "kl"), (0.0, "reverse_kl")])
@pytest.mark.parametrize("step", [1e-4, -1e-4, 1e-7, -1e-7, 1e-11, 1e-13, 1e-60])
def test_alpha_approaches_its_limits_without_cancellation(
    limit: float, name: str, step: float
) -> None:
    p, q = simplices(32, 4)
    expected = closed(get_divergence(name), p, q)
    near = closed(get_divergence("alpha", limit + step), p, q)
    # |d D_alpha / d alpha| < 10 D at ratios up to 1e3.
    torch.testing.assert_close(near, expected, rtol=10 * abs(step) + 1e-11, atol=0)


def test_an_order_that_underflows_in_float32_is_the_limit() -> None:
    p, q = (x.float() for x in simplices(32, 4))
    expected = closed(get_divergence("reverse_kl"), p, q)
    torch.testing.assert_close(closed(get_divergence("alpha", 1e-60), p, q), expected)


@given(alpha=st.floats(-1.0, 2.0))
@settings(max_examples=50)
def test_alpha_bound_is_tight_at_every_order(alpha: float) -> None:
    divergence = get_divergence("alpha", alpha)
    p_counts, q_counts = [7, 1, 2], [2, 3, 5]
    p, q = (torch.tensor([c], dtype=torch.float64) / 10 for c in (p_counts, q_counts))
    v = divergence.optimal_critic(p, q)[0]
    bound = divergence.variational(samples(v, p_counts), samples(v, q_counts))
    assert bound.item() == pytest.approx(closed(divergence, p, q).item(), abs=1e-9)


def test_unknown_name_is_answered_with_the_closest_and_all_names() -> None:
    with pytest.raises(ConfigError, match="closest name is 'pearson'") as caught:
        get_divergence("person")
    for name in DIVERGENCES:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [("kl", 0.5), ("alpha", None), ("alpha", -1.1), ("alpha", 2.1), ("alpha", math.nan)],
)
def test_wrong_orders_are_refused(name: str, alpha: float | None) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        get_divergence(name, alpha)


def test_registry_key_is_the_name() -> None:
    for name, alpha in CASES:
        expected = name if alpha is None else f"alpha_{alpha:g}"
        assert get_divergence(name, alpha).name == expected


def test_the_critic_climbs_the_bound_and_the_features_descend_it() -> None:
    torch.manual_seed(0)
    divergence, critic = get_divergence("js"), Critic(2, hidden=8)
    features = [torch.randn(64, 2, requires_grad=True) for _ in range(2)]

    def bound(z: list[Tensor]) -> Tensor:
        return divergence.variational(critic(z[0]), critic(z[1]))

    start = bound(features)
    weights = list(critic.parameters())
    steps = torch.autograd.grad(start, [*weights, *features])
    weight_steps, feature_steps = steps[: len(weights)], steps[len(weights) :]
    with torch.no_grad():
        assert bound([z - 0.1 * s for z, s in zip(features, feature_steps, strict=True)]) < start
        for weight, step in zip(weights, weight_steps, strict=True):
            weight += 0.1 * step
        assert bound(features) > start


def test_critic_maps_feature_vectors_to_one_value_each() -> None:
    assert Critic(5)(torch.randn(1, 5)).shape == (1,)
    assert Critic(5, hidden=3)(torch.randn(7, 5)).shape == (7,)
