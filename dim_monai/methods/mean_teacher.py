"""Mean teacher (Tarvainen & Valpola, NeurIPS 2017) with hard, thresholded pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dim_monai.methods.base import (
    Batch,
    Teacher,
    shows_structure,
    supervised_view,
    teacher_probability,
    trust_in_teacher,
)
from dim_monai.objectives import View, pseudo_label, sigmoid_ramp


@dataclass(frozen=True)
class MeanTeacher:
    """The student's strong view follows the teacher's label of the weak view.

    Deviation from the paper, which compares probabilities by mean squared error: hard labels above
    a threshold, as in FixMatch (Sohn et al., NeurIPS 2020), so that it differs from
    :class:`MiDSS` only by the mixing.

    Attributes:
        threshold: of :func:`pseudo_label`.
        ramp_length: share of the training over which the term grows to its full weight.
        weight: full weight of the term.
        trust_empty: as in :class:`MiDSS`.
    """

    threshold: float = 0.95
    ramp_length: float = 1.0
    weight: float = 1.0
    trust_empty: bool = True

    def views(
        self,
        batch: Batch,
        teacher: Teacher | None,
        progress: float,
        generator: torch.Generator,
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        """Return the labelled and the consistency view (arguments: :class:`Method`)."""
        views = [supervised_view(batch)]
        if batch.unlabelled is None:
            return views, {}
        probability, known = teacher_probability(
            teacher, batch.unlabelled.weak, batch.labelled.weak
        )
        label, confidence = pseudo_label(probability, self.threshold)
        if not self.trust_empty:
            confidence = confidence * shows_structure(label)
        trust = trust_in_teacher(known, views[0].target)
        ramp = self.weight * sigmoid_ramp(progress, length=self.ramp_length) * trust
        views.append(
            View("consistency", batch.unlabelled.strong, label, confidence, ramp, "unlabelled")
        )
        return views, {
            "unlabelled_weight": ramp,
            "teacher_trust": trust,
            "coverage": confidence.mean(),
        }
