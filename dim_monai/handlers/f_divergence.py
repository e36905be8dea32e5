"""The f-divergence between labelled and unlabelled images as a further term of the loss."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.distributed import all_finite, average_tensors
from dim_monai.divergence import Critic, get_divergence
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError
from dim_monai.handlers.gradient_shares import gradient_norms
from dim_monai.objectives import (
    LOG_ODDS_LIMIT,
    View,
    class_log_odds_histograms,
    log_odds,
    log_odds_histograms,
)
from dim_monai.passes import by_view
from dim_monai.sharpness import global_norm

NAME = "f_divergence"
COMPARE = ("proportion", "prediction", "class_prediction", "features")
WITH_CRITIC = ("prediction", "features")
ESTIMATORS = ("closed_form", "variational")

# Of the gradient norms: their ratio varies tenfold from batch to batch, and the median of five
# does not follow one that is nearly zero.
MEASUREMENTS = 5

_Seen = tuple[View, Tensor]
"""A view, and what the student makes of it: logits or features, (B, C, *S)."""


class FDivergence:
    """Add ``D_f(P_labelled || P_unlabelled)`` to the loss of every step.

    P is taken over the unmixed student views of each kind:

    * ``compare="proportion"``: the class probabilities averaged over all pixels. Two batches of
      slices differ in how much organ they show, so this is the weakest choice.
    * ``compare="prediction"``: the distribution of the prediction of a pixel, as the histogram of
      its foreground log-odds (17 bins on [-8, 8], linear interpolation, one histogram a
      foreground class). It tells how sure the student is, where, and how often.
    * ``compare="class_prediction"``: the same within the pixels of each class, the background
      included, averaged over classes: how sure the student is of the organ where it is, however
      much of it a batch shows. Classes are those of label and pseudo-label, the latter as far as
      it is trusted (class-wise alignment: Chen et al., Cross City Adaptation, ICCV 2017).
    * ``compare="features"``: the distribution of a pixel's features at ``layer``; in closed form
      the softmax over channels, averaged over pixels.

    **The labelled side is the reference and has no gradient.** With a gradient on both sides the
    nearest way to equal distributions is a student that is as unsure on labelled images as on the
    others: the term then works against the supervised one all training long. Only the unlabelled
    side moves, as in output-space alignment (Tsai et al., AdaptSegNet, CVPR 2018).

    **A batch is no population.** Two draws of a few slices differ in how much organ they show, and
    a divergence between them punishes that. In closed form each side is therefore a running mean
    over steps, ``memory`` of the past and the rest of this step, whose part alone has a gradient.
    With several ranks the past is the mean of theirs.

    With ``estimator="variational"`` the divergence of predictions (log-odds) or features is the
    bound of Nguyen et al. (IEEE Trans. Inf. Theory 2010, as in f-DAL: Acuna et al., ICML 2021),
    whose critic is trained beside the student by Adam, one step a step, on detached values, and
    remembers by itself.

    **Weight 1 means something**: the term is scaled such that its gradient norm over the student's
    weights is, in the median of the steps, ``weight`` times that of the supervised term. The ratio
    of the two norms is measured every ``interval`` steps, the median of the last five measurements
    is the scale, logged as ``scale_f_divergence``, and the term waits for the first. Without it JS
    between batches is of the order of 0.001 and its weight has no meaning. The gradient within a
    class fades where little of the class is trusted: a step in which a class has less than half of
    its usual share is not measured.

    DiM publishes neither which f, nor what is compared, nor the weight: all of it is our choice.

    Args:
        divergence: name, see :data:`dim_monai.divergence.DIVERGENCES`.
        alpha: parameter of the alpha family.
        compare: "proportion", "prediction", "class_prediction" or "features".
        estimator: "closed_form" or "variational".
        weight: share of the supervised gradient norm, see above.
        interval: steps between two measurements of the scale, which cost one backward pass a term;
            0 leaves scale 1.
        memory: share of the past in the running means, in [0, 1); 0.9 is about ten steps.
        layer: name of the module whose output (B, C, *S) is compared as features.
        critic_learning_rate: of Adam.

    Raises:
        ConfigError: unknown name, memory outside [0, 1), or a critic for what has none.
    """

    def __init__(
        self,
        divergence: str = "js",
        *,
        alpha: float | None = None,
        compare: str = "prediction",
        estimator: str = "closed_form",
        weight: float = 0.1,
        interval: int = 50,
        memory: float = 0.9,
        layer: str = "model.1",
        critic_learning_rate: float = 1e-3,
    ) -> None:
        _one_of("compare", compare, COMPARE)
        _one_of("estimator", estimator, ESTIMATORS)
        if estimator == "variational" and compare not in WITH_CRITIC:
            raise ConfigError(
                f"compare {compare} has no variational form here",
                expected=f"estimator closed_form, or compare {' or '.join(WITH_CRITIC)}",
            )
        if not 0 <= memory < 1:
            raise ConfigError("memory of FDivergence", got=memory, expected="0 <= memory < 1")
        self.divergence = get_divergence(divergence, alpha)
        self.compare, self.estimator, self.layer = compare, estimator, layer
        self.weight, self.interval, self.memory = weight, interval, memory
        self._ratios: deque[float] = deque(maxlen=MEASUREMENTS)
        self._engine: SemiSupervisedTrainer | None = None
        self._past: dict[str, Tensor] = {}
        self._present: dict[str, Tensor] = {}
        self.critic: Critic | None = None
        self.critic_learning_rate = critic_learning_rate
        self._critic_optimizer: torch.optim.Optimizer | None = None
        self._captured: list[Tensor] = []
        self._compared: tuple[Tensor, Tensor] | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Add the term, scale it now and then, remember and train the critic after every step."""
        engine.add_term(NAME, self.term, self._first_weight())
        engine.parts[NAME] = self
        self._engine = engine
        if self.compare == "features":
            bare = getattr(engine.network, "module", engine.network)
            module = dict(bare.named_modules()).get(self.layer)
            if module is None:
                raise ConfigError("the network has no such layer", got=repr(self.layer))
            module.register_forward_hook(self._capture)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._forget)
        if self.interval:
            engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._calibrate)
        if self.estimator == "variational":
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._train_critic)
        else:
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._remember)

    def state_dict(self) -> dict[str, Any]:
        """Return measurements, running means and critic, for a checkpoint."""
        state: dict[str, Any] = {"ratios": list(self._ratios), "past": dict(self._past)}
        if self.critic is not None and self._critic_optimizer is not None:
            state["critic"] = self.critic.state_dict()
            state["critic_optimizer"] = self._critic_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; to be called once attached.

        Of the steps that were made since, and of one that was broken off, nothing stays.
        """
        if self._engine is None:
            raise RuntimeError("attach FDivergence before its state is loaded")
        device = self._engine.state.device
        self._captured, self._compared, self._present = [], None, {}
        self.critic, self._critic_optimizer = None, None
        self._ratios.clear()
        self._ratios.extend(state["ratios"])
        self._engine.extra_terms[NAME] = (self.term, self._first_weight())
        self._past = {side: value.to(device) for side, value in state["past"].items()}
        if self._ratios:
            self._scale(self._engine)
        if "critic" in state:
            (first, *_) = state["critic"].values()
            critic = self._critic_for(torch.empty(0, first.shape[1], device=device))
            critic.load_state_dict(state["critic"])
            if self._critic_optimizer is not None:
                self._critic_optimizer.load_state_dict(state["critic_optimizer"])

    def term(self, views: list[View], logits: list[Tensor]) -> Tensor | None:
        """Return the divergence of this step, None where one of the two sides is missing.

        Args:
            views: what the student was shown.
            logits: (B, K, *S) of each view.
        """
        values = self._features(views) if self.compare == "features" else logits
        sides: dict[str, list[_Seen]] = {"labelled": [], "unlabelled": [], "mixed": []}
        for view, value in zip(views, values, strict=True):
            sides[view.origin].append((view, value.float()))
        if not (sides["labelled"] and sides["unlabelled"]):
            return None
        labelled = [(view, value.detach()) for view, value in sides["labelled"]]
        unlabelled = sides["unlabelled"]
        if self.estimator == "variational":
            return self._bound(self._samples(labelled), self._samples(unlabelled))
        p = self._pooled("labelled", self._distribution(labelled))
        q = self._pooled("unlabelled", self._distribution(unlabelled))
        if self.compare == "class_prediction":
            return self._mean_of_classes(p, q)
        log_p, log_q = (side.clamp_min(1e-7).log() for side in (p, q))
        return self.divergence.closed_form(log_p, log_q, dim=-1).mean()

    def _mean_of_classes(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the mean over the classes that both sides have shown; 0 while there is none."""
        masses = [side.sum(dim=-1, keepdim=True) for side in (p, q)]
        log_p, log_q = (
            (side / mass.clamp_min(1e-7)).clamp_min(1e-7).log()
            for side, mass in zip((p, q), masses, strict=True)
        )
        shown = (torch.minimum(*masses) > 1e-7).squeeze(-1)
        values = self.divergence.closed_form(log_p, log_q, dim=-1)
        return torch.where(shown, values, 0.0).sum() / shown.sum().clamp_min(1)

    def _pooled(self, side: str, present: Tensor) -> Tensor:
        """Return the running mean up to and with this step's distribution."""
        if side in self._past:
            present = self.memory * self._past[side] + (1 - self.memory) * present
        # The first pass of a step is remembered, not the one at perturbed weights.
        self._present.setdefault(side, present.detach().clone())
        return present

    def _remember(self) -> None:
        # The mean over ranks is nearer to the population than any rank's, and the same past
        # everywhere is what one checkpoint can hold.
        average_tensors(list(self._present.values()))
        # One step that is not finite must not stay in the mean for the rest of the run. To ask
        # whether it is would make the CPU wait for the device, so only the first is asked.
        for side, present in self._present.items():
            if side in self._past:
                finite = torch.isfinite(present.sum())
                self._past[side] = torch.where(finite, present, self._past[side])
            elif all_finite(present.sum()):
                self._past[side] = present
        self._present = {}

    def _bound(self, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        critic = self._critic_for(labelled)
        # The critic, too, learns from the first pass of a step, not from perturbed weights.
        if self._compared is None:
            self._compared = (labelled.detach(), unlabelled.detach())
        # Only the student learns here: the critic's own step comes after the student's.
        critic.requires_grad_(False)
        value = self.divergence.variational(critic(labelled), critic(unlabelled))
        critic.requires_grad_(True)
        return value

    def _distribution(self, seen: list[_Seen]) -> Tensor:
        """Return (G, N): G distributions over N outcomes, pooled over batch and pixels.

        Those of classes sum to the share of the pixels that a class has.
        """
        values = torch.cat([value for _, value in seen])
        if self.compare == "class_prediction":
            target = torch.cat([view.target for view, _ in seen])
            trust = [torch.ones_like(v.target) if v.weight is None else v.weight for v, _ in seen]
            return class_log_odds_histograms(values, target, torch.cat(trust))
        if self.compare == "prediction":
            return log_odds_histograms(values)
        return torch.softmax(values, dim=1).transpose(0, 1).flatten(1).mean(dim=1)[None]

    def _samples(self, seen: list[_Seen]) -> Tensor:
        """Return (B * pixels, C), the sample of each pixel."""
        values = torch.cat([value for _, value in seen])
        if self.compare == "prediction":
            values = log_odds(values).clamp(-LOG_ODDS_LIMIT, LOG_ODDS_LIMIT) / LOG_ODDS_LIMIT
        return values.transpose(0, 1).flatten(1).transpose(0, 1)

    def _features(self, views: list[View]) -> list[Tensor]:
        """Return the captured features of each view, from the forward passes just made."""
        if self._engine is None:
            raise RuntimeError("attach FDivergence before it is asked for features")
        captured = self._captured[-len(self._engine.passes) :]
        self._forget()
        return by_view(views, self._engine.passes, captured)

    def _capture(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        if torch.is_grad_enabled() and module.training:
            self._captured.append(output)

    def _forget(self) -> None:
        self._captured = []

    def _calibrate(self, engine: SemiSupervisedTrainer) -> None:
        if engine.state.iteration % self.interval or NAME not in engine.live_terms:
            return
        if not self._shows_as_much_as_usual():
            return
        norms = gradient_norms(engine)
        both = torch.tensor([norms["supervised"], norms[NAME]]).to(engine.state.device)
        # Before any decision, so that all ranks take the same one.
        average_tensors([both])
        ratio = float(both[0] / both[1])
        if math.isfinite(ratio):
            self._ratios.append(ratio)
        if self._ratios:
            engine.state.diagnostics[f"scale_{NAME}"] = self._scale(engine)

    def _shows_as_much_as_usual(self) -> bool:
        """Whether no class of the unlabelled side has less than half of its share in the past."""
        side = "unlabelled"
        if self.compare != "class_prediction" or side not in self._past:
            return True
        past, pooled = (pool[side].sum(dim=-1) for pool in (self._past, self._present))
        present = (pooled - self.memory * past) / (1 - self.memory)
        average_tensors([present])
        return bool((present > 0.5 * past)[past > 1e-7].all())

    def _first_weight(self) -> float:
        """Return the weight of the term before its first measurement, if it waits for one."""
        return 0.0 if self.interval else self.weight

    def _scale(self, engine: SemiSupervisedTrainer) -> float:
        """Give the term the weight that the measurements so far ask for; return the scale."""
        scale = median(self._ratios)
        engine.extra_terms[NAME] = (self.term, self.weight * scale)
        return scale

    def _critic_for(self, samples: Tensor) -> Critic:
        if self.critic is None:
            # All ranks must begin with the same critic, and the student's stream stays untouched.
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                self.critic = Critic(samples.shape[1]).to(samples.device)
            self._critic_optimizer = torch.optim.Adam(
                self.critic.parameters(), lr=self.critic_learning_rate
            )
        return self.critic

    def _train_critic(self) -> None:
        if self._compared is None or self.critic is None or self._critic_optimizer is None:
            return
        labelled, unlabelled = self._compared
        self._compared = None
        self._critic_optimizer.zero_grad()
        bound = self.divergence.variational(self.critic(labelled), self.critic(unlabelled))
        torch.autograd.backward(-bound)
        gradients = [w.grad for w in self.critic.parameters() if w.grad is not None]
        average_tensors(gradients)
        # One batch that is not finite must not spoil the critic for the rest of the run.
        if all_finite(global_norm(gradients)):
            self._critic_optimizer.step()


def _one_of(name: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise ConfigError(f"unknown {name}", got=repr(got), expected=f"one of {list(allowed)}")
