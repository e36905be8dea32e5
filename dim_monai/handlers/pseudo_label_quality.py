"""How far the teacher's pseudo-labels can be trusted, where there is a label to compare."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from dim_monai.objectives import pseudo_label


class PseudoLabelQuality:
    """Measure coverage and precision of the pseudo-labels on the validation cases.

    ``pseudo_label_coverage`` is the share of pixels whose pseudo-label is trusted, and
    ``pseudo_label_precision`` the share of trusted foreground pixels that are of the right class
    (absent where no foreground is trusted). Both go to the evaluator's ``state.metrics``. Unlike
    the coverage that the training logs, they are measured on cases that trained nothing, and of
    whole cases: where a method leaves out images in which the teacher finds nothing
    (``trust_empty``), these count here nevertheless, so coverage is of what the teacher is sure of
    and not of what is learnt.

    Args:
        threshold: the trust threshold of the method.
        teacher: key of the teacher's logits (B, K, *S) in the evaluator's output.
    """

    def __init__(self, threshold: float, teacher: str = "teacher") -> None:
        self.threshold = threshold
        self.teacher = teacher
        self._counts = torch.zeros(4, dtype=torch.float64)

    def attach(self, engine: Engine) -> None:
        """Count after every forward pass, before the logits become classes."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _clear(self) -> None:
        self._counts.zero_()

    def _count(self, engine: Engine) -> None:
        output = engine.state.output
        logits, truth = _plain(output[self.teacher]), _plain(output["label"])  # type: ignore[index]
        label, sure = pseudo_label(torch.softmax(logits.float(), dim=1), self.threshold)
        trusted = sure.bool()
        foreground = trusted & (label > 0)
        correct = foreground & (label == truth.long())
        counted = (torch.tensor(trusted.numel()), trusted.sum(), foreground.sum(), correct.sum())
        self._counts += torch.stack([count.cpu().double() for count in counted])

    def _report(self, engine: Engine) -> None:
        pixels, trusted, foreground, correct = self._counts.tolist()
        if pixels:
            engine.state.metrics["pseudo_label_coverage"] = trusted / pixels
        if foreground:
            engine.state.metrics["pseudo_label_precision"] = correct / foreground


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
