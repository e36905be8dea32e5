"""The sharpness-aware step as an Ignite handler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.distributed import all_finite, average_tensors
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError
from dim_monai.objectives import View
from dim_monai.sharpness import (
    get_rule,
    global_norm,
    kept_buffers,
    most_sensitive,
    orthogonal_direction,
    perturbed,
    random_share,
)
from dim_monai.streams import stream_generator


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

    Three rules make fewer operations than a second pass of everything in every step:

    * ``looksam`` (Liu et al., CVPR 2022): the second pass comes every ``every`` steps. Between, the
      gradient ``g`` becomes ``g + reuse * ||g|| v`` with v the direction that the last second
      pass had and its first pass had not.
    * ``msam`` (Momentum-SAM: Becker et al., arXiv 2401.12033, 2024): the one pass of the step is
      made at ``w + rho m / ||m||`` with m the optimizer's momentum. All terms are seen from there.
      Deviation: the authors' code goes to ``w - rho m / ||m||``.
    * ``esam`` (Du et al., ICLR 2022): the climb is ``(rho / beta) g / ||g||`` in a random share
      beta of the weight tensors, and of these alone the first pass computes g. The second pass
      sees the share gamma of the images whose loss rose most. A forward pass of all images tells
      which; with a backward pass counted as two, the second pass costs 1 + 3 gamma instead of 3.

    What ``esam`` draws depends on the trainer's seed and the step alone: it is the same on all
    ranks. Deviations: images are chosen within each term and on each rank, so that no term gives
    way to another; the numbers of tensors and of images are fixed (:func:`random_share` and
    :func:`most_sensitive` in :mod:`dim_monai.sharpness`). Dropout repeats its masks in the forward
    pass of all images, and cannot in that of a part.

    Under DDP each rank climbs along its own gradient (m-sharpness: Foret et al., ICLR 2021); what
    ``looksam`` remembers is of the gradients' means over all ranks, and the same on each.

    Args:
        rho: radius of the climb. 0.05 is the default of SAM; ASAM wants about ten times that.
        rule: "sam", "asam", "looksam", "msam" or "esam", see :mod:`dim_monai.sharpness`.
        not_perturbed: names of terms that stay at the weights; a name that the step does not have
            is of no effect. The trainer refuses a step of which no term is left.
        start: share of the training after which the climbing begins; 0 is SAM throughout.
        every: steps from one second pass of ``looksam`` to the next; 1 is SAM.
        reuse: weight of the remembered direction (LookSAM: 0.7).
        beta: share of the weight tensors in which ``esam`` climbs; 1 is all of them.
        gamma: share of the images that the second pass of ``esam`` sees. With beta and gamma 1 it
            is SAM. Both are 1/2 as in the paper.

    Raises:
        ConfigError: negative rho, unknown rule, start outside [0, 1], every below 1, beta or gamma
            outside (0, 1], or terms that are not perturbed with ``msam``; in a step, ``msam``
            without momentum.
    """

    def __init__(
        self,
        rho: float = 0.05,
        rule: str = "sam",
        not_perturbed: Sequence[str] = ("f_divergence",),
        start: float = 0.0,
        every: int = 5,
        reuse: float = 0.7,
        beta: float = 0.5,
        gamma: float = 0.5,
    ) -> None:
        if rho < 0:
            raise ConfigError("rho is negative", got=rho, expected="rho >= 0")
        if not 0 <= start <= 1:
            raise ConfigError("start of the second pass", got=start, expected="0 <= start <= 1")
        if every < 1:
            raise ConfigError("steps between second passes", got=every, expected=">= 1")
        for name, share in {"beta": beta, "gamma": gamma}.items():
            if not 0 < share <= 1:
                raise ConfigError(f"{name} of esam", got=share, expected=f"0 < {name} <= 1")
        self.along_momentum = rule == "msam"
        if self.along_momentum and not_perturbed:
            raise ConfigError(
                "msam has one pass, in which every term is perturbed",
                got=f"not_perturbed: {list(not_perturbed)}",
                do="set not_perturbed to []",
            )
        self.start = start
        self.rho = rho
        self.rule = get_rule(rule)
        self.not_perturbed = frozenset(not_perturbed)
        self.every = every if rule == "looksam" else 1
        self.reuse = reuse
        self.beta, self.gamma = (beta, gamma) if rule == "esam" else (1.0, 1.0)
        self._remembered: dict[str, Tensor] = {}

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Let the trainer look from a worse point in every step from ``start`` on."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._announce)
        if not self.along_momentum:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)
        if self.every > 1:
            engine.parts["sharpness"] = self

    def state_dict(self) -> dict[str, Any]:
        """Return what ``looksam`` remembers, for a checkpoint."""
        return {"remembered": dict(self._remembered)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._remembered = dict(state["remembered"])

    def __call__(self, engine: SemiSupervisedTrainer) -> None:
        """Make the second pass (called after the first backward)."""
        if engine.first_pass_terms is None:
            return
        weights = engine.parameters()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if not all_finite(global_norm(gradients)):
            return
        if self._remembered and (engine.state.iteration - 1) % self.every:
            # Relative to the mean over ranks, which is shorter than the gradient of each.
            engine.average_gradient()
            self._add_remembered(engine, global_norm(gradients))
            return
        with (
            perturbed(weights, self.rule(weights, gradients, self.rho / self.beta)),
            kept_buffers(engine.network),
        ):
            terms = engine.evaluate(self.not_perturbed, self._most_sensitive(engine))
            engine.optimizer.zero_grad(set_to_none=True)
            engine.backward(terms)
        engine.gradient_is_local = False
        if self.every > 1:
            self._remember(engine, dict(zip(weights, gradients, strict=True)))

    def _most_sensitive(self, engine: SemiSupervisedTrainer) -> list[View] | None:
        """Return the part of each view that the second pass sees, None for all of it."""
        if self.gamma == 1:
            return None
        before = engine.sample_losses
        with torch.no_grad():  # of the images alone: handlers count how often their terms are asked
            engine.evaluate(self.not_perturbed | engine.extra_terms.keys())
        after = engine.sample_losses
        return [
            _part(view, most_sensitive(before[view.term], after[view.term], self.gamma))
            for view in engine.views
            if view.term in after
        ]

    def _remember(self, engine: SemiSupervisedTrainer, first: dict[Tensor, Tensor]) -> None:
        both = {
            name: weight
            for name, weight in engine.network.named_parameters()
            if weight in first and weight.grad is not None
        }
        second = [weight.grad for weight in both.values() if weight.grad is not None]
        # A direction that is not finite would spoil all steps until the next second pass.
        if second and all_finite(global_norm(second)):
            plain = [first[weight] for weight in both.values()]
            # As that of the second pass already is. Of one rank's, the direction would be above all
            # how that rank's images differ from the others', and another one on each rank.
            average_tensors(plain)
            direction = orthogonal_direction(second, plain)
            self._remembered = dict(zip(both, direction, strict=True))

    def _add_remembered(self, engine: SemiSupervisedTrainer, norm: Tensor) -> None:
        for name, weight in engine.network.named_parameters():
            if weight.grad is not None and name in self._remembered:
                direction = self._remembered[name].to(weight.device)
                weight.grad.add_(direction * (self.reuse * norm))

    def _announce(self, engine: SemiSupervisedTrainer) -> None:
        """Tell the trainer what is particular about this step."""
        steps = engine.state.max_epochs * engine.state.epoch_length
        begun = engine.state.iteration - 1 >= self.start * steps
        if self.along_momentum:
            if begun:
                engine.first_pass_at = lambda: self._at_momentum(engine)
        else:
            engine.first_pass_terms = self.not_perturbed if begun else None
            engine.first_pass_weights = self._drawn(engine) if begun else None

    def _drawn(self, engine: SemiSupervisedTrainer) -> list[nn.Parameter] | None:
        """Return the weights in which this step climbs, None for all of them."""
        if self.beta == 1:
            return None
        weights = [weight for weight in engine.network.parameters() if weight.requires_grad]
        generator = stream_generator(engine.seed, "esam", engine.state.iteration - 1)
        return random_share(weights, self.beta, generator)

    @contextmanager
    def _at_momentum(self, engine: SemiSupervisedTrainer) -> Iterator[None]:
        """Stand at ``w + rho m / ||m||``; at w itself in the first step, which has no momentum."""
        defaults = engine.optimizer.defaults
        key = "exp_avg" if "betas" in defaults else "momentum_buffer"
        if key == "momentum_buffer" and not defaults.get("momentum"):
            raise ConfigError(
                "msam climbs along the momentum, and the optimizer has none",
                got=type(engine.optimizer).__name__,
                expected="AdamW, or SGD with momentum",
            )
        states = engine.optimizer.state
        found = [(w, states[w][key]) for w in engine.network.parameters() if key in states[w]]
        if not found:
            yield
            return
        weights, momentum = [weight for weight, _ in found], [buffer for _, buffer in found]
        with perturbed(weights, self.rule(weights, momentum, self.rho)):
            yield


def _part(view: View, places: Tensor) -> View:
    weight = None if view.weight is None else view.weight[places]
    return replace(view, image=view.image[places], target=view.target[places], weight=weight)
