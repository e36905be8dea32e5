"""f-divergences between two class distributions, in closed form and through a critic.

For a convex generator f with f(1) = 0 (Csiszar, 1967; Ali & Silvey, 1966)

    D_f(p || q) = sum_k q_k f(p_k / q_k)                                          closed form
                = sup_v  E_p[T(v)] - E_q[f*(T(v))]                                variational form

where f*(u) = sup_t (u t - f(t)) is the convex conjugate and the activation T maps a critic's raw
output v into its domain (Nguyen, Wainwright & Jordan, IEEE Trans. Inf. Theory 2010, eq. 7;
Nowozin, Cseke & Tomioka, NeurIPS 2016, eq. 7). The pairs (T, f*) are those of f-DAL (Acuna et al.,
ICML 2021), re-derived here. p is the labelled side, q the unlabelled side.

Three conventions hold for every row of `DIVERGENCES`:

* Generators carry the linear term that makes f'(1) = 0, so f >= 0 everywhere. No normalised pair
  sees that term, but it keeps each summand non-negative when clipping disturbs the sums by 1e-7.
* Both forms have the scale of the usual closed form. The pairs of Jensen-Shannon and squared
  Hellinger in the literature reach twice that value; their `scale` of 1/2 corrects it.
* f is evaluated at r = log p - log q, where `expm1` stays accurate near the minimum r = 0.

Deviation: f-DAL's KL pair is (v, exp(v - 1)), of f = t log t; ours is (v, exp(v) - 1), of
f = t log t - t + 1: the same family of bounds with v shifted by 1, and a critic that answers 0
gives the bound 0 as in all other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dim_monai.errors import ConfigError

EPSILON = 1e-7
"""Smallest probability that a divergence sees; about float32's resolution next to 1."""

_LOG_EPSILON = math.log(EPSILON)
_LN2 = math.log(2.0)

# Clipped ratios lie in [1e-7, 1e7], so no optimal critic needs an exponent above
# 2 * 16.1 = 32.2 (Neyman). exp(40) = 2e17 leaves room for a mean over any batch in float32.
_EXPONENT_LIMIT = 40.0
# Pearson's critic is quadratic, not exponential: its optimum reaches 2e7, and its conjugate
# v^2 / 4 meets the same ceiling of 2e17 here.
_QUADRATIC_LIMIT = 1e9

_Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence: its generator, closed form, and variational bound.

    Take instances from `get_divergence`. The callables work element by element.

    Attributes:
        name: key in `DIVERGENCES`; `alpha_<value>` for a member of the alpha family.
        generator_of_log: r -> f(exp(r)), before `scale`.
        activation: v -> T(v), into the domain of the conjugate.
        conjugate: v -> f*(T(v)).
        critic_of_log: r -> the raw v at which the bound is tight.
        scale: factor on f and on the bound; 1/2 where the pair (T, f*) belongs to 2 f.
        upper_bound: largest value over all pairs of distributions; infinite if there is none.
        symmetric: whether D(p, q) = D(q, p).
        critic_limit: raw critic values are clamped to +-`critic_limit` before they are used.
    """

    name: str
    generator_of_log: _Elementwise
    activation: _Elementwise
    conjugate: _Elementwise
    critic_of_log: _Elementwise
    scale: float = 1.0
    upper_bound: float = math.inf
    symmetric: bool = False
    critic_limit: float = _EXPONENT_LIMIT

    def generator(self, t: Tensor) -> Tensor:
        """Evaluate f(t), with f(1) = 0 and f >= 0, at the scale of the closed form.

        Args:
            t: ratios p / q > 0, any shape, floating point.

        Returns:
            f(t), same shape, float32 or wider.
        """
        return self.scale * self.generator_of_log(_widen(t).log())

    def closed_form(self, log_p: Tensor, log_q: Tensor, dim: int = 1) -> Tensor:
        """Sum q f(p / q) over classes; finite for every input, one-hot ones included.

        Probabilities are clipped from below to 1e-7 and not renormalised, so unbounded
        divergences end at 16.1 (KL) to 1e7 (Pearson, Neyman), and a clipped class passes no
        gradient. Computed in float32, or float64 if an input is, also under autocast.

        At nearly one-hot pairs the gradient of Pearson and Neyman reaches 1e7, more than float16
        holds (65504): a float16 network then gets infinite gradients and its scaler skips the
        step. Use these two in float32 or bfloat16; all others stay finite in float16.

        Args:
            log_p: log-probabilities of the labelled side, (B, K, *S) or any shape with classes
                along `dim`, each distribution summing to 1; -inf stands for probability 0.
            log_q: log-probabilities of the unlabelled side, same shape.
            dim: class dimension; 1, where MONAI keeps the channels.

        Returns:
            D_f(p || q) without the dimension `dim`, not averaged, float32 or wider.

        Raises:
            ValueError: if the shapes differ; broadcasting would hide a pooling mistake.

        Example:
            >>> log_p, log_q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()[:, None]
            >>> round(get_divergence("tv").closed_form(log_p, log_q).item(), 4)
            0.4
        """
        if log_p.shape != log_q.shape:
            raise ValueError(f"log_p {tuple(log_p.shape)} and log_q {tuple(log_q.shape)} differ")
        log_p = _widen(log_p).clamp(min=_LOG_EPSILON)
        log_q = _widen(log_q).clamp(min=_LOG_EPSILON)
        return self.scale * (log_q.exp() * self.generator_of_log(log_p - log_q)).sum(dim)

    def variational(self, critic_p: Tensor, critic_q: Tensor) -> Tensor:
        """Bound the divergence from below by E_p[T(v)] - E_q[f*(T(v))], at closed-form scale.

        The critic ascends on this value and the network descends on it, in turn.

        Raw values are clamped to +-`critic_limit` (40; 1e9 for Pearson; 40 / max(|a|, |a - 1|)
        for alpha) so that no exponential overflows. A clamped critic is still a critic: the
        bound stays valid, but values beyond the limit receive no gradient.

        Args:
            critic_p: raw critic values v on labelled samples, any non-empty shape.
            critic_q: raw critic values v on unlabelled samples, any non-empty shape.

        Returns:
            Scalar, float32 or wider.

        Raises:
            ValueError: if either side holds no sample.
        """
        if critic_p.numel() == 0 or critic_q.numel() == 0:
            raise ValueError("the bound needs at least one critic value on each side")
        v_p = _widen(critic_p).clamp(-self.critic_limit, self.critic_limit)
        v_q = _widen(critic_q).clamp(-self.critic_limit, self.critic_limit)
        return self.scale * (self.activation(v_p).mean() - self.conjugate(v_q).mean())

    def optimal_critic(self, p: Tensor, q: Tensor) -> Tensor:
        """Give the raw v, with T(v) = f'(p / q), at which the bound equals the divergence.

        Args:
            p: probabilities (not logarithms), any shape; clipped from below to 1e-7.
            q: probabilities, same shape.

        Returns:
            v per element, float32 or wider. For total variation the bound is tight only as
            |v| -> inf; +-40 stands for it, where tanh is 1 in float64.
        """
        p, q = _widen(p).clamp(min=EPSILON), _widen(q).clamp(min=EPSILON)
        return self.critic_of_log(p.log() - q.log())


def get_divergence(name: str, alpha: float | None = None) -> Divergence:
    """Look up an f-divergence by name.

    Args:
        name: a key of `DIVERGENCES`.
        alpha: order in [-1, 2]; required for "alpha" and refused for any other name.

    Returns:
        The divergence.

    Raises:
        ConfigError: if the name is unknown, or `alpha` is missing, unwanted or out of range.
    """
    if name not in DIVERGENCES:
        closest = get_close_matches(name, DIVERGENCES, n=1, cutoff=0.0)[0]
        raise ConfigError(
            "unknown f-divergence",
            got=repr(name),
            expected=f"one of {', '.join(DIVERGENCES)}",
            do=f"the closest name is {closest!r}",
        )
    entry = DIVERGENCES[name]
    if isinstance(entry, Divergence):
        if alpha is not None:
            raise ConfigError(
                f"f-divergence {name!r} has no order", got=f"alpha={alpha}", do="remove alpha"
            )
        return entry
    if alpha is None:
        raise ConfigError(f"f-divergence {name!r} needs an order", do="set alpha, for example 0.5")
    return entry(alpha)


def alpha_divergence(alpha: float) -> Divergence:
    """Build the Cressie-Read divergence of order alpha.

    f(t) = (t^a - a t + a - 1) / (a (a - 1)), so D = (sum p^a q^(1-a) - 1) / (a (a - 1)).
    With v = log t: T(v) = (exp((a-1) v) - 1) / (a - 1) and f*(T(v)) = (exp(a v) - 1) / a.

    Limits and special cases, exact here: a = 1 KL, a = 0 reverse KL, a = 2 Pearson / 2,
    a = -1 Neyman / 2, a = 1/2 four times the squared Hellinger. Exchanging p and q turns a into
    1 - a. Source: Cressie & Read, J. R. Stat. Soc. B 46, 1984, whose lambda is a - 1; Amari's
    alpha is 1 - 2 a or 2 a - 1, depending on the text.

    Args:
        alpha: order, in [-1, 2], from Neyman to Pearson; beyond it the rarest class decides the
            value and float32 overflows.

    Returns:
        The divergence, named `alpha_<value>`.

    Raises:
        ConfigError: if `alpha` lies outside [-1, 2].
    """
    if not -1.0 <= alpha <= 2.0:
        raise ConfigError("order of the alpha divergence", got=alpha, expected="alpha in [-1, 2]")

    def generator_of_log(r: Tensor) -> Tensor:
        # Two arrangements of one formula, each divided by the factor that is far from zero.
        if alpha > 0.5:
            return (r.exp() * _expm1_over(r, alpha - 1.0) - r.expm1()) / alpha
        return (_expm1_over(r, alpha) - r.expm1()) / (alpha - 1.0)

    return Divergence(
        name=f"alpha_{alpha:g}",
        generator_of_log=generator_of_log,
        activation=lambda v: _expm1_over(v, alpha - 1.0),
        conjugate=lambda v: _expm1_over(v, alpha),
        critic_of_log=lambda r: r,
        upper_bound=1.0 / (alpha * (1.0 - alpha)) if 0.0 < alpha < 1.0 else math.inf,
        symmetric=alpha == 0.5,
        critic_limit=_EXPONENT_LIMIT / max(abs(alpha), abs(alpha - 1.0)),
    )


DIVERGENCES: dict[str, Divergence | Callable[[float], Divergence]] = {
    # f = t log t - t + 1
    "kl": Divergence(
        name="kl",
        generator_of_log=lambda r: r * r.exp() - r.expm1(),
        activation=lambda v: v,
        conjugate=torch.expm1,
        critic_of_log=lambda r: r,
    ),
    # f = -log t + t - 1
    "reverse_kl": Divergence(
        name="reverse_kl",
        generator_of_log=lambda r: r.expm1() - r,
        activation=lambda v: -v.expm1(),
        conjugate=torch.neg,
        critic_of_log=torch.neg,
    ),
    # f = t log t - (t + 1) log((t + 1) / 2), twice Jensen-Shannon
    "js": Divergence(
        name="js",
        generator_of_log=lambda r: r.exp() * (_LN2 + logsigmoid(r)) + (_LN2 + logsigmoid(-r)),
        activation=lambda v: _LN2 + logsigmoid(v),
        conjugate=lambda v: -_LN2 - logsigmoid(-v),
        critic_of_log=lambda r: r,
        scale=0.5,
        upper_bound=_LN2,
        symmetric=True,
    ),
    # f = |t - 1| / 2
    "tv": Divergence(
        name="tv",
        generator_of_log=lambda r: 0.5 * r.expm1().abs(),
        activation=lambda v: 0.5 * v.tanh(),
        conjugate=lambda v: 0.5 * v.tanh(),
        critic_of_log=lambda r: _EXPONENT_LIMIT * r.sign(),
        upper_bound=1.0,
        symmetric=True,
    ),
    # f = (t - 1)^2, D = sum (p - q)^2 / q
    "pearson": Divergence(
        name="pearson",
        generator_of_log=lambda r: r.expm1().square(),
        activation=lambda v: v,
        conjugate=lambda v: 0.25 * v.square() + v,
        critic_of_log=lambda r: 2.0 * r.expm1(),
        critic_limit=_QUADRATIC_LIMIT,
    ),
    # f = (t - 1)^2 / t, D = sum (p - q)^2 / p
    "neyman": Divergence(
        name="neyman",
        generator_of_log=lambda r: -r.expm1() * (-r).expm1(),
        activation=lambda v: -v.expm1(),
        conjugate=lambda v: -2.0 * (0.5 * v).expm1(),
        critic_of_log=lambda r: -2.0 * r,
    ),
    # f = (sqrt(t) - 1)^2, twice the squared Hellinger distance
    "squared_hellinger": Divergence(
        name="squared_hellinger",
        generator_of_log=lambda r: (0.5 * r).expm1().square(),
        activation=lambda v: -v.expm1(),
        conjugate=lambda v: (-v).expm1(),
        critic_of_log=lambda r: -0.5 * r,
        scale=0.5,
        upper_bound=1.0,
        symmetric=True,
    ),
    "alpha": alpha_divergence,
}
"""Every f-divergence by name: an instance, or for "alpha" the function that takes the order."""


class Critic(nn.Module):
    """Two-layer network that scores feature vectors for the variational bound.

    Args:
        in_features: channels C of a feature vector.
        hidden: width of the hidden layer; 64, an ordinary width.
    """

    def __init__(self, in_features: int, hidden: int = 64) -> None:
        super().__init__()
        # LeakyReLU: the network learns through the critic, so no unit may stop passing gradient.
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Score features (N, C) by raw values v (N,), unbounded, in the dtype of the layers."""
        values: Tensor = self.layers(features)
        return values.squeeze(-1)


def _widen(x: Tensor) -> Tensor:
    """Promote half precision to float32; leave float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _expm1_over(x: Tensor, k: float) -> Tensor:
    """(exp(k x) - 1) / k, with its limit x where k vanishes."""
    # Below 1e-12 the next Taylor term k x^2 / 2 is lost in rounding, and k x could underflow.
    return x if abs(k) < 1e-12 else (k * x).expm1() / k
