"""Validation during training and the choice of the network that is deployed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler as MonaiValidationHandler
from torch import Tensor, nn

from dim_monai.distributed import rank
from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.files import atomic_write, require_writable
from dim_monai.model_files import save_model, weights_digest

logger = logging.getLogger(__name__)

NOTHING_SELECTED = "nothing was selected: {reason}, so the last {network} is deployed"
NO_VALIDATION = "no validation was made"
NOTHING_SCORED = "no validation case shows a structure"


class ValidationHandler(MonaiValidationHandler):
    """MONAI's handler, which also validates the last network, and nothing without cases.

    With ``interval`` 2 the last of five epochs has no turn, and with ``interval`` 9 none has: the
    network at the end of the training is validated in any case. To be attached before
    `DeployBest`, which chooses when the training completes.
    """

    _validated_step: int | None = None

    def attach(self, engine: Engine) -> None:
        """Validate at the interval and at the end if there is anything to validate on."""
        cases: Any = None if self.validator is None else self.validator.data_loader
        if self.validator is not None and cases is not None and len(cases) > 0:
            # As of the trainer: after a validation that failed the next would return at once.
            self.validator.interrupt_resume_enabled = False
            if isinstance(engine, SemiSupervisedTrainer):
                engine.parts["validation"] = self
            super().attach(engine)
            engine.add_event_handler(Events.COMPLETED, self._validate_last)

    def state_dict(self) -> dict[str, Any]:
        """Return the step that was validated last, for a checkpoint."""
        return {"validated_step": self._validated_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._validated_step = state["validated_step"]

    def __call__(self, engine: Engine) -> None:
        """Validate now."""
        self._validated_step = engine.state.iteration
        super().__call__(engine)

    def _validate_last(self, engine: Engine) -> None:
        if engine.state.iteration != self._validated_step:
            self(engine)


class DeployBest:
    """Write the weights of the network, student or teacher, that validates best.

    After each validation the candidates' mean Dice (``<name>_dice`` of the evaluator) is compared
    with the best so far; the better weights are kept in memory. A validation whose truths are all
    empty scores nothing, of which MONAI's mean is 0: it does not count. When the training
    completes they are written to ``path``, with safetensors and the hashes of both beside it, see
    :func:`dim_monai.model_files.save_model`; ``run_file`` says what was deployed and why. Without a
    validation that counts the last weights of ``fallback`` are written and the file says that
    nothing was selected. A training that is interrupted writes nothing here.

    Args:
        path: file of the deployable weights, a bare state dict.
        run_file: JSON file of the run: choice, rule, validation curves, steps, duration.
        candidates: name to network.
        evaluator: evaluates every candidate.
        fallback: the candidate that is deployed without a validation.
        classes: names of the network's classes, kept with the weights, so that they are not taken
            for another organ's; None keeps none.

    Raises:
        DataError: when it is attached: what it is to write at the end could not be written.
    """

    def __init__(
        self,
        path: str,
        run_file: str,
        candidates: Mapping[str, nn.Module],
        evaluator: Evaluator,
        fallback: str = "teacher",
        classes: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.run_file = Path(run_file)
        self.candidates = dict(candidates)
        self.evaluator = evaluator
        self.fallback = fallback
        self.classes = classes
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.choice: dict[str, object] = {}
        self._weights: dict[str, Tensor] = {}
        self._best_dice = -1.0  # below every Dice

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Compare after every validation, write at the end; on the first rank only."""
        engine.parts["deployed"] = self
        if rank() > 0:
            return
        for file in (self.path, self.run_file):
            require_writable(file.parent)
        self.evaluator.add_event_handler(Events.COMPLETED, self._compare, engine)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def state_dict(self) -> dict[str, Any]:
        """Return the best network so far and how it was found, for a checkpoint."""
        return {
            "curves": {name: list(curve) for name, curve in self.curves.items()},
            "choice": dict(self.choice),
            "weights": self._weights,
            "best_dice": self._best_dice,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.curves, self.choice = state["curves"], state["choice"]
        self._weights, self._best_dice = state["weights"], state["best_dice"]

    def _compare(self, evaluator: Evaluator, engine: SemiSupervisedTrainer) -> None:
        metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append((engine.state.iteration, value))
        for name, network in self.candidates.items():
            dice = metrics[f"{name}_dice"]
            if dice > self._best_dice and _scored(evaluator, f"{name}_dice"):
                self._best_dice = dice
                self._choose(name, network, engine.state.iteration, dice)

    def _choose(self, name: str, network: nn.Module, step: int, dice: float | None) -> None:
        weights = network.state_dict()
        self._weights = {key: value.detach().cpu().clone() for key, value in weights.items()}
        self.choice = {"deployed": name, "step": step}
        if dice is None:
            reason = NOTHING_SCORED if self.curves else NO_VALIDATION
            self.choice["rule"] = NOTHING_SELECTED.format(reason=reason, network=name)
        else:
            self.choice["validation_dice"] = dice
            self.choice["rule"] = "highest mean Dice of the validation cases, student or teacher"

    def _write(self, engine: SemiSupervisedTrainer) -> None:
        if not self.choice:
            last = self.candidates[self.fallback]
            self._choose(self.fallback, last, engine.state.iteration, None)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_model(self.path, self._weights, self.classes)
        seconds = engine.seconds_before + engine.state.times["COMPLETED"]
        run = self.choice | {
            "steps": engine.state.iteration,
            "skipped_steps": engine.state.skipped_steps,
            "weights_sha256": weights_digest(self._weights),
            "seed": engine.seed,
            "training_minutes": round(seconds / 60, 4),
            "validation": self.curves,
        }
        self.run_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.run_file, "w") as file:
            json.dump(run, file, indent=1)
        logger.info(
            "model: %s (%s of step %s; %s)",
            self.path,
            self.choice["deployed"],
            self.choice["step"],
            self.choice["rule"],
        )


def _scored(evaluator: Evaluator, metric: str) -> bool:
    """Whether a metric is the mean of anything; MONAI keeps (cases, classes), NaN if not scored."""
    details: Tensor | None = getattr(evaluator.state, "metric_details", {}).get(metric)
    return details is None or not bool(details.isnan().all())
