"""SemiSupervisedTrainer: the order of one step, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer, Trainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dim_monai.allocator import freed_memory_kept
from dim_monai.distributed import all_finite, average_tensors, rank
from dim_monai.errors import ConfigError, NumericError
from dim_monai.methods import Batch, Method, Stream
from dim_monai.objectives import View, segmentation_loss
from dim_monai.passes import by_view, joins, share_passes
from dim_monai.streams import stream_generator

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Computes a further term from the views of the step and the student's logits of each of them;
# None where the step gives it nothing to compare.
ExtraTerm = Callable[[list[View], list[Tensor]], Tensor | None]


class Stateful(Protocol):
    """What a checkpoint can hold: of tensors, numbers, strings and containers of them."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> object:
        """Restore what `state_dict` gave."""


def bare(network: nn.Module) -> nn.Module:
    """Return the network itself where it is wrapped for several devices."""
    inner = getattr(network, "module", network)
    return inner if isinstance(network, DistributedDataParallel) else network


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's trainer with a teacher, several named terms and room for a second pass.

    One step: the method draws everything random and asks the teacher (once); the student predicts
    every view; each view is a term, handlers add theirs (:meth:`add_term`); backward;
    ``BACKWARD_COMPLETED`` (a sharpness-aware handler replaces the gradient here); one optimizer
    step; ``MODEL_COMPLETED`` (the teacher follows). A step whose gradient is not finite is skipped
    and counted in ``state.skipped_steps``.

    ``state.output`` is a list of one dict, as MONAI's handlers expect it, of detached scalars:
    ``loss`` (the weighted total), ``terms`` (each unweighted, by name) and ``gradient_norm``.
    ``state.coefficients`` holds the weight of each term.

    Args:
        device: where network and batches live.
        max_epochs: epochs of ``len(train_data_loader)`` steps each.
        train_data_loader: gives dicts as :class:`TwoStreamLoader` does.
        network: the student, logits (B, K, *S).
        optimizer: over the parameters of ``network``.
        method: turns a batch into views.
        loss_function: (logits, target, weight) -> (B,) loss of each sample.
        seed: root seed; what the method draws depends on it and the step alone.
        precision: "float32", "bfloat16" or "float16" for the forward passes of student and
            teacher; float16 scales the gradient. Weights, losses and targets stay in float32.
        max_gradient_norm: clip the gradient to this norm; None leaves it.
        joint_forward: let all views of a step through the student as one batch, which is faster
            and the same unless the network has batch statistics. Where terms are differentiated
            apart, as in a step with a second pass, it is two or three batches. None: unless a step
            on the CPU has more than :data:`dim_monai.passes.JOINT_PIXELS`.
        max_skipped_steps: consecutive non-finite steps after which the run stops.
        train_handlers: as in MONAI.
        inferer: calls the network; None calls it once a step.

    Raises:
        ConfigError: unknown precision; in a step, no term is left for the second pass.
        NumericError: too many consecutive steps were not finite.
        DataError: a process of the loader died.
    """

    scaler: torch.amp.GradScaler  # type: ignore[assignment]  # of any device, not CUDA alone

    # Else Ignite keeps the generator of a run that an exception has ended; the next call of `run`
    # finds it exhausted and returns at once, without a step and without an event.
    interrupt_resume_enabled = False

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        method: Method,
        *,
        loss_function: Callable[[Tensor, Tensor, Tensor | None], Tensor] = segmentation_loss,
        seed: int = 0,
        precision: str = "float32",
        max_gradient_norm: float | None = None,
        joint_forward: bool | None = None,
        max_skipped_steps: int = 20,
        inferer: Inferer | None = None,
        train_handlers: Any = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(
                "unknown precision", got=repr(precision), expected=f"one of {sorted(PRECISIONS)}"
            )
        self.method = method
        self.seed = seed
        self.precision = PRECISIONS[precision]
        self.max_gradient_norm = max_gradient_norm
        self.joint_forward = joint_forward
        self.max_skipped_steps = max_skipped_steps
        self.teacher: nn.Module | None = None
        self.extra_terms: dict[str, tuple[ExtraTerm, float]] = {}
        # Set by a handler that makes a second pass: these terms are differentiated in the first
        # pass only; None means that there is no second pass.
        self.first_pass_terms: frozenset[str] | None = None
        # Set by a handler whose climb needs no gradient of the other weights; None means all.
        self.first_pass_weights: list[nn.Parameter] | None = None
        # Set by a handler that moves the weights for the first pass: entered before, left after it.
        self.first_pass_at: Callable[[], AbstractContextManager[None]] = nullcontext
        # Set by a handler in a step of which every term is differentiated by itself.
        self.terms_apart = False
        # True while `.grad` holds this rank's own gradient instead of the mean over ranks.
        self.gradient_is_local = False
        self.views: list[View] = []
        # Of the last evaluation: the places of the views that went through the student together,
        # in the order of the forward passes.
        self.passes: list[list[int]] = []
        # (B,) of each view in the last evaluation, detached.
        self.sample_losses: dict[str, Tensor] = {}
        # The terms of the step while their graph exists, from forward to backward, and the norms
        # of their gradients once a handler has measured them.
        self.live_terms: dict[str, Tensor] = {}
        self.live_norms: dict[str, float] = {}
        # What a checkpoint holds besides network, optimizer and scaler; handlers add to it.
        self.parts: dict[str, Stateful] = {}
        # Set by a handler that can go on with an interrupted run; called before training starts.
        # Returns whether that run had made all its steps.
        self.restore: Callable[[SemiSupervisedTrainer], bool] | None = None
        # Of a run that was interrupted and goes on here.
        self.seconds_before = 0.0
        self.skipped_in_a_row = 0
        self._random_state: list[Tensor] = []
        self.network = network
        # Handlers are attached by the base class and may use all of the above.
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            train_handlers=train_handlers,
            inferer=inferer,
            decollate=False,
        )
        self.state.skipped_steps = 0
        self.state.coefficients = {}
        self.scaler = torch.amp.GradScaler(
            self.state.device.type, enabled=self.precision is torch.float16
        )

    def run(self) -> None:  # type: ignore[override]  # as MONAI's trainers
        """Train; unlike MONAI's trainer the gradient scaler of an earlier call is kept.

        Where an interrupted run had made all its steps, its results are written again: there is no
        step to make, and Ignite would begin anew.
        """
        if self.restore is not None and self.restore(self):
            self.state.times[Events.COMPLETED.name] = 0.0  # takes no time now; seconds_before did
            self.fire_event(Events.STARTED)
            self.fire_event(Events.COMPLETED)
            return
        try:
            with freed_memory_kept(self.state.device):
                super(Trainer, self).run()
        except RuntimeError as error:
            # PyTorch tells of a dead loader process by a signal, in the middle of anything.
            ask = getattr(self.data_loader, "raise_if_a_worker_died", None)
            if ask is not None:
                ask(error)
            raise

    def add_term(self, name: str, term: ExtraTerm, weight: float) -> None:
        """Add a named term to the loss of every step.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self.extra_terms:
            raise ConfigError("a loss term of this name exists already", got=repr(name))
        self.extra_terms[name] = (term, weight)

    def evaluate(
        self, without: frozenset[str] = frozenset(), views: list[View] | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the current step at the student's present weights, unweighted.

        May be called again within a step: views, targets and random layers repeat exactly.

        Args:
            without: names of terms that are not needed.
            views: instead of those of the step; random layers repeat for batches of equal shape.
        """
        views = [v for v in (self.views if views is None else views) if v.term not in without]
        self._repeat_random_layers()
        with self._autocast():
            logits = self._predict(views)
        losses = {
            view.term: self.loss_function(output, view.target, view.weight)
            for view, output in zip(views, logits, strict=True)
        }
        self.sample_losses = {name: loss.detach() for name, loss in losses.items()}
        terms = {name: loss.mean() for name, loss in losses.items()}
        for name, (term, _) in self.extra_terms.items():
            value = None if name in without else term(views, logits)
            if value is not None:
                terms[name] = value
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of terms."""
        coefficients = self.state.coefficients
        weighted = [coefficients[name] * value for name, value in terms.items()]
        return torch.stack(weighted).sum()

    def backward(
        self,
        terms: Mapping[str, Tensor],
        *,
        retain_graph: bool = False,
        weights: list[nn.Parameter] | None = None,
    ) -> None:
        """Add the (scaled) gradient of the weighted sum of terms to ``.grad``; None: of all."""
        loss = self.scaler.scale(self.total(terms))
        torch.autograd.backward(loss, retain_graph=retain_graph, inputs=weights)

    def parameters(self) -> list[nn.Parameter]:
        """Return the student's trainable parameters that have a gradient."""
        return [weight for weight in self.network.parameters() if weight.grad is not None]

    def average_gradient(self) -> None:
        """Make the gradient the mean over all ranks, if each still has its own."""
        if self.gradient_is_local:
            average_tensors([w.grad for w in self.parameters() if w.grad is not None])
            self.gradient_is_local = False

    def _iteration(self, engine: SupervisedTrainer, batchdata: Any) -> Any:
        self._pose(batchdata)
        self.optimizer.zero_grad(set_to_none=True)
        with self._first_pass(), self.first_pass_at():
            self.live_terms = self.evaluate()
            output = {
                Keys.LOSS: self.total(self.live_terms).detach(),
                "terms": {name: value.detach() for name, value in self.live_terms.items()},
            }
            self.state.output = [output]
            self.fire_event(IterationEvents.FORWARD_COMPLETED)
            self.fire_event(IterationEvents.LOSS_COMPLETED)
            kept = self._backward_first_pass()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._complete_gradient(kept)
        self._step()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return [output]

    def _pose(self, batchdata: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Fix the problem of this step: views, targets, weights, random state."""
        step = self.state.iteration - 1
        steps = self.state.max_epochs * self.state.epoch_length
        device = self.state.device
        streams = {
            name: Stream(**{key: value.to(device) for key, value in views.items()})
            for name, views in batchdata.items()
        }
        batch = Batch(streams["labelled"], streams.get("unlabelled"))
        generator = stream_generator(self.seed, "method", step, rank())
        self.network.train()
        teacher = None if self.teacher is None else self._ask_teacher
        self.views, self.state.diagnostics = self.method.views(
            batch, teacher, step / steps, generator
        )
        self.state.coefficients = {view.term: view.coefficient for view in self.views} | {
            name: weight for name, (_, weight) in self.extra_terms.items()
        }
        self._random_state = [torch.get_rng_state()]
        if device.type == "cuda":
            self._random_state.append(torch.cuda.get_rng_state(device))

    def _repeat_random_layers(self) -> None:
        torch.set_rng_state(self._random_state[0])
        if len(self._random_state) > 1:
            torch.cuda.set_rng_state(self._random_state[1], self.state.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.state.device.type, dtype=self.precision)

    def _ask_teacher(self, images: Tensor) -> Tensor:
        """Return the teacher's logits (B, K, *S), of which nothing is recorded for a backward."""
        if self.teacher is None:
            raise RuntimeError("the trainer has no teacher")
        with torch.inference_mode(), self._autocast():
            logits: Tensor = self.teacher(images)
        return logits

    def _predict(self, views: list[View]) -> list[Tensor]:
        """Return the student's logits of each view; some views share a forward pass."""
        joint = self.joint_forward
        self.passes = share_passes(
            views,
            # By all views of the step, so that both of its passes join alike.
            joint=joins(self.views, self.state.device) if joint is None else joint,
            first_pass_terms=self.first_pass_terms or frozenset(),
            extra_terms=self.extra_terms,
            terms_apart=self.terms_apart,
        )
        outputs = [
            self.inferer(torch.cat([views[place].image for place in places]), self.network)
            for places in self.passes
        ]
        return by_view(views, self.passes, outputs)

    def _first_pass(self) -> AbstractContextManager[Any]:
        """Leave the gradient on its rank if a second pass will replace it."""
        if self.first_pass_terms is None or not isinstance(self.network, DistributedDataParallel):
            return nullcontext()
        self.gradient_is_local = True
        return self.network.no_sync()

    def _backward_first_pass(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Differentiate; the gradient of terms that have no second pass is kept aside.

        Afterwards nothing of the graph is left, before a second one is built.
        """
        terms, self.live_terms, self.live_norms = self.live_terms, {}, {}
        first = self.first_pass_terms or frozenset()
        aside = {name: value for name, value in terms.items() if name in first}
        rest = {name: value for name, value in terms.items() if name not in first}
        if not rest:
            raise ConfigError(
                "no term is left for the second pass",
                got=f"{sorted(first)} exempt from it",
                expected=f"at least one of {sorted(terms)} that is not",
                do="shorten not_perturbed",
            )
        self.backward(rest, retain_graph=bool(aside), weights=self.first_pass_weights)
        if not aside:
            return []
        climb = self._take_gradient()
        self.backward(aside)
        kept = self._take_gradient()
        for weight, gradient in climb:
            weight.grad = gradient
        return kept

    def _take_gradient(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return the gradient of each weight and leave none."""
        taken = [(w, w.grad) for w in self.parameters() if w.grad is not None]
        self.optimizer.zero_grad(set_to_none=True)
        return taken

    def _complete_gradient(self, kept: list[tuple[nn.Parameter, Tensor]]) -> None:
        self.average_gradient()
        if not kept:
            return
        if isinstance(self.network, DistributedDataParallel):
            average_tensors([gradient for _, gradient in kept])
        for weight, gradient in kept:
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        limit = float("inf") if self.max_gradient_norm is None else self.max_gradient_norm
        norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
        self.state.output[0]["gradient_norm"] = norm.detach()
        if all_finite(norm):
            self.scaler.step(self.optimizer)
            self.skipped_in_a_row = 0
        else:
            self._count_skipped_step()
        self.scaler.update()

    def _count_skipped_step(self) -> None:
        self.state.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.max_skipped_steps:
            raise NumericError(
                "the gradient is not finite",
                got=f"{self.skipped_in_a_row} such steps in a row",
                expected="a finite gradient",
                do="lower the learning rate or check the intensities of the images",
            )
