"""How much each term pulls: its share of the gradient norm, measured now and then."""

from __future__ import annotations

import torch
from monai.engines.utils import IterationEvents

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError
from dim_monai.sharpness import global_norm


def gradient_norms(engine: SemiSupervisedTrainer) -> dict[str, float]:
    """Return the norm of each live term's gradient over the student's weights, unweighted.

    Call it at ``LOSS_COMPLETED``, while the graph of the step exists. Costs one backward pass a
    term.
    """
    weights = [weight for weight in engine.network.parameters() if weight.requires_grad]
    norms = {}
    for name, value in engine.live_terms.items():
        gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        present = [gradient for gradient in gradients if gradient is not None]
        norms[name] = float(global_norm(present)) if present else 0.0
    return norms


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
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: SemiSupervisedTrainer) -> None:
        """Measure the shares of this step, if it is one of those that are measured."""
        if engine.state.iteration % self.interval:
            return
        weighted = {
            name: engine.state.coefficients[name] * norm
            for name, norm in gradient_norms(engine).items()
        }
        total = sum(weighted.values())
        if total > 0:
            shares = {f"share_{name}": norm / total for name, norm in weighted.items()}
            engine.state.diagnostics.update(shares)
