"""Climb to a worse point of the weights nearby, look, and come back bit for bit.

A *rule* turns weights and gradients into a perturbation; :func:`perturbed` applies it and
guarantees the return. A further rule is one function in :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from dim_monai.errors import ConfigError

# Below this norm a gradient is zero for float32: the perturbation is then zero, not noise.
TINY = 1e-12

Weight = TypeVar("Weight", bound=Tensor)

Rule = Callable[[Sequence[Tensor], Sequence[Tensor], float], list[Tensor]]


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm over all tensors, in float32 or wider; NaN or Inf if any is."""
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    norms = torch._foreach_norm(list(tensors), 2, dtype=wide)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def sam(weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """Return ``rho * g / ||g||`` (SAM: Foret et al., ICLR 2021, eq. 2).

    It does not change when all gradients are multiplied by one factor: a gradient scaler's scale
    need not be removed first.
    """
    scale = rho / (global_norm(gradients) + TINY)
    return list(torch._foreach_mul(list(gradients), scale))


def asam(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, eta: float = 0.01
) -> list[Tensor]:
    """Return ``rho * T^2 g / ||T g||`` with ``T = |w| + eta``.

    Source: ASAM, Kwon et al., ICML 2021, eq. 8.

    The ascent is relative to the size of each weight, hence the same for two networks that differ
    only by a rescaling of their layers. Useful rho is about ten times that of SAM.
    """
    sizes = list(torch._foreach_add(torch._foreach_abs([w.detach() for w in weights]), eta))
    step = list(torch._foreach_mul(sizes, list(gradients)))
    scale = rho / (global_norm(step) + TINY)
    torch._foreach_mul_(step, sizes)
    torch._foreach_mul_(step, scale)
    return step


# The last three climb as SAM does: "looksam" not in every step, "msam" along the optimizer's
# momentum in place of the gradient, "esam" in some of the weights. When, along what and in which is
# the caller's part.
RULES: dict[str, Rule] = {"sam": sam, "asam": asam, "looksam": sam, "msam": sam, "esam": sam}


def get_rule(name: str) -> Rule:
    """Return the rule of that name.

    Raises:
        ConfigError: the name is not in :data:`RULES`.
    """
    if name not in RULES:
        raise ConfigError(
            "unknown sharpness rule", got=repr(name), expected=f"one of {sorted(RULES)}"
        )
    return RULES[name]


def orthogonal_direction(climbed: Sequence[Tensor], plain: Sequence[Tensor]) -> list[Tensor]:
    """Return the unit vector of the part of ``climbed`` that is orthogonal to ``plain``.

    The part of SAM's gradient that a plain gradient lacks; it changes slowly over the steps
    (LookSAM: Liu et al., CVPR 2022, arXiv 2203.02714). Zero where the two are parallel.

    Args:
        climbed: the gradient at the worse point.
        plain: the gradient at the weights, of the same shapes. A common factor of both, as a
            gradient scaler's, changes nothing.
    """
    # Of unit vectors: a product of small gradients would be below what float32 can hold.
    along, start = _unit(climbed), _unit(plain)
    cosine = torch.stack([(a * p).sum() for a, p in zip(along, start, strict=True)]).sum()
    part = torch._foreach_sub(along, torch._foreach_mul(start, cosine))
    # What is left of parallel gradients is rounding, and has no direction worth following.
    return [tensor * (global_norm(part) > 1e-6) for tensor in _unit(part)]


def _unit(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list(torch._foreach_div(list(tensors), global_norm(tensors) + TINY))


def random_share(
    weights: Sequence[Weight], share: float, generator: torch.Generator
) -> list[Weight]:
    """Return ``share`` of the weight tensors, in their order: which, the generator draws.

    Stochastic weight perturbation (ESAM: Du et al., ICLR 2022, arXiv 2110.03141), whose share is
    beta. The paper draws for each weight by itself; whole tensors, as in its authors' code, are
    what a backward pass can leave out. Deviation from both: the number of tensors is fixed, the
    nearest to the share and at least one, so that no step is without a climb.

    Args:
        weights: of which each is as probable as any other.
        share: in (0, 1].
        generator: of the CPU.
    """
    order = torch.randperm(len(weights), generator=generator).tolist()
    return [weights[place] for place in sorted(order[: _count(share, len(weights))])]


def most_sensitive(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Return the places, in ascending order, of the ``share`` of samples that the climb hurts most.

    Sharpness-sensitive data selection (ESAM), whose share is gamma. It is exactly that share, to
    the nearest sample and at least one; the authors' code takes one less.

    Args:
        before: (B,) loss of each sample at the weights.
        after: (B,) at the worse point.
        share: in (0, 1].
    """
    rise = (after - before).topk(_count(share, len(before)))
    return rise.indices.sort().values


def _count(share: float, total: int) -> int:
    return max(1, round(share * total))


@contextmanager
def perturbed(weights: Sequence[Tensor], perturbation: Sequence[Tensor]) -> Iterator[None]:
    """Add the perturbation inside the block; afterwards the weights are as before, bit for bit.

    The values are copied back into the same storage, also when the block raises: subtracting the
    perturbation again would leave rounding behind, and new storage would break whoever holds a
    reference (an averaged teacher, a captured graph).
    """
    saved = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            torch._foreach_add_(list(weights), list(perturbation))
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), saved)


@contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """Leave every buffer (running statistics, counters) as it was before the block."""
    buffers = list(network.buffers())
    saved = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, saved, strict=True):
                buffer.copy_(value)


def sharpness(
    loss: Callable[[], Tensor], weights: Sequence[Tensor], *, rule: str = "sam", rho: float = 0.05
) -> float:
    """Return L(w + eps) - L(w), the one-step estimate of how sharp the loss is at the weights.

    Args:
        loss: evaluates the loss at the current weights with a graph; called twice.
        weights: tensors that require gradients.
        rule: name of the ascent rule; the definition of sharpness follows it.
        rho: radius of the ascent.
    """
    here = loss()
    gradients = torch.autograd.grad(here, list(weights))
    with perturbed(weights, get_rule(rule)(weights, gradients, rho)), torch.no_grad():
        there = loss()
    return float(there) - float(here.detach())
