"""The sharpness-aware step as an Ignite handler."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.engine import Events
from monai.engines.utils import IterationEvents

from dim_monai.distributed import all_finite
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError
from dim_monai.sharpness import get_rule, global_norm, kept_buffers, perturbed


class SharpnessAware:
    """Replace the gradient at the weights by the gradient at a worse point nearby.

    After the first backward pass: climb by ``rho`` along the gradient, evaluate the same terms on
    the same views and targets, differentiate, and come back bit for bit, whatever happens in
    between. Running statistics do not see the second pass. A gradient that is not finite is left
    as it is: the trainer then skips the step and counts it.

    Terms named in ``not_perturbed`` are differentiated at the weights themselves and neither steer
    the climb nor take part in the second pass. By default that is the f-divergence: SDAT (Rangwani
    et al., ICML 2022) reports that smoothing the task loss helps under domain shift while
    smoothing the divergence hurts. DiM does not publish where it takes its own; the default is
    our choice.

    The second pass may begin late: SAM in the last part of a training finds minima as flat as SAM
    from the first step (Zhou et al., ICLR 2025, arXiv 2410.10373), and costs nothing before.

    Under DDP each rank climbs along its own gradient (m-sharpness: Foret et al., ICLR 2021).

    Args:
        rho: radius of the climb. 0.05 is the default of SAM; ASAM wants about ten times that.
        rule: "sam" or "asam", see :mod:`dim_monai.sharpness`.
        not_perturbed: names of terms that stay at the weights; a name that the step does not have
            is of no effect. The trainer refuses a step of which no term is left.
        start: share of the training after which the second pass begins; 0 is SAM throughout.

    Raises:
        ConfigError: negative rho, unknown rule, or start outside [0, 1].
    """

    def __init__(
        self,
        rho: float = 0.05,
        rule: str = "sam",
        not_perturbed: Sequence[str] = ("f_divergence",),
        start: float = 0.0,
    ) -> None:
        if rho < 0:
            raise ConfigError("rho is negative", got=rho, expected="rho >= 0")
        if not 0 <= start <= 1:
            raise ConfigError("start of the second pass", got=start, expected="0 <= start <= 1")
        self.start = start
        self.rho = rho
        self.rule = get_rule(rule)
        self.not_perturbed = frozenset(not_perturbed)

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Let the trainer make a second pass in every step from ``start`` on."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._announce)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SemiSupervisedTrainer) -> None:
        """Make the second pass (called after the first backward)."""
        if engine.first_pass_terms is None:
            return
        weights = engine.parameters()
        gradients = [weight.grad.detach().clone() for weight in weights if weight.grad is not None]
        if not all_finite(global_norm(gradients)):
            return
        perturbation = self.rule(weights, gradients, self.rho)
        with perturbed(weights, perturbation), kept_buffers(engine.network):
            terms = engine.evaluate(without=self.not_perturbed)
            engine.optimizer.zero_grad(set_to_none=True)
            engine.backward(terms)
        engine.gradient_is_local = False

    def _announce(self, engine: SemiSupervisedTrainer) -> None:
        """Tell the trainer whether this step has a second pass."""
        steps = engine.state.max_epochs * engine.state.epoch_length
        begun = engine.state.iteration - 1 >= self.start * steps
        engine.first_pass_terms = self.not_perturbed if begun else None
