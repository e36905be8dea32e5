"""How much each term pulls: its share of the gradient norm, measured now and then."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError
from dim_monai.sharpness import global_norm

LESS = 16.0
"""Which part of a scale is tried next where float16 overflowed."""


def gradient_norms(engine: SemiSupervisedTrainer) -> dict[str, float]:
    """Return the norm of each live term's gradient over the student's weights, unweighted.

    Call it at ``LOSS_COMPLETED``, while the graph of the step exists. The first call of a step
    costs one backward pass a term, which is cheapest where ``engine.terms_apart`` was set before
    the step; further calls cost nothing. In half precision a gradient of float16 is scaled as
    that of the step is, or less where that overflows, which costs a further pass.
    """
    if engine.live_norms:
        return engine.live_norms
    weights = [weight for weight in engine.network.parameters() if weight.requires_grad]
    scale = engine.scaler.get_scale()
    for name, value in engine.live_terms.items():
        engine.live_norms[name] = _gradient_norm(value, weights, scale)
    return engine.live_norms


def _gradient_norm(value: Tensor, weights: Sequence[nn.Parameter], scale: float) -> float:
    """Return the norm of a gradient, differentiated ``scale`` times as large at most."""
    gradients = torch.autograd.grad(value * scale, weights, retain_graph=True, allow_unused=True)
    present = [gradient for gradient in gradients if gradient is not None]
    norm = float(global_norm(present)) / scale if present else 0.0
    if math.isfinite(norm) or scale <= 1:
        return norm
    return _gradient_norm(value, weights, max(1.0, scale / LESS))


class GradientShares:
    """Put ``share_<term>`` into ``state.diagnostics`` every ``interval`` steps.

    The share of a term is its weighted gradient norm over the sum of all terms' weighted norms. A
    term whose share stays near zero does nothing, whatever its value.

    Args:
        interval: steps between measurements, each of which costs one backward pass a term.

    Raises:
        ConfigError: interval below 1.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ConfigError("interval of GradientShares", got=interval, expected=">= 1")
        self.interval = interval

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Measure when the loss of a step is known."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._announce)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: SemiSupervisedTrainer) -> None:
        """Measure the shares of this step, if it is one of those that are measured."""
        if not self._measures(engine):
            return
        weighted = {
            name: engine.state.coefficients[name] * norm
            for name, norm in gradient_norms(engine).items()
        }
        total = sum(weighted.values())
        if total > 0:
            shares = {f"share_{name}": norm / total for name, norm in weighted.items()}
            engine.state.diagnostics.update(shares)

    def _announce(self, engine: SemiSupervisedTrainer) -> None:
        """Let the trainer arrange a step that is measured so that measuring is cheap."""
        engine.terms_apart = self._measures(engine)

    def _measures(self, engine: SemiSupervisedTrainer) -> bool:
        return bool(engine.state.iteration % self.interval == 0)
