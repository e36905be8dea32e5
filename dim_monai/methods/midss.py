"""MiDSS (Ma et al., CVPR 2024): two-way CutMix, amplitude mixing and symmetric guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dim_monai.errors import ConfigError
from dim_monai.methods.base import (
    Batch,
    Teacher,
    shows_structure,
    supervised_view,
    teacher_probability,
    trust_in_teacher,
)
from dim_monai.mixing import mix, mix_amplitude, random_amplitude_shares, random_boxes
from dim_monai.objectives import View, pseudo_label, sigmoid_ramp


@dataclass(frozen=True)
class MiDSS:
    """The base of DiM: ``L = L_s + lam * (L_in + L_out + lam * L_sym)``.

    * ``labelled_in_box`` / ``unlabelled_in_box``: the labelled image, moved toward the amplitude of
      the unlabelled one (TP-RAM), and the strong unlabelled image exchange one box, both ways;
      labels are exchanged with it, and unlabelled pixels count where the teacher is sure (UCP).
    * ``symmetric``: the teacher also labels the two weak mixtures; their unlabelled parts are put
      together again and supervise the unmixed strong view wherever they agree with the plain
      pseudo-label (SymGD).

    Deviations: lam is multiplied by the trust that the teacher earns on the labelled images
    (:func:`trust_in_teacher`); no class is asked for more confidence than its average pixel has
    (:func:`pseudo_label`); an unlabelled image in which the teacher finds nothing can be left out
    (:func:`shows_structure`); the labelled image has its photometric augmentation in the supervised
    term, as in every method here; the teacher runs in evaluation mode, and how many of the
    student's views go through at a time is the trainer's choice (`joint_forward`).

    Attributes:
        threshold: of :func:`pseudo_label` (MiDSS: 0.95).
        ramp_length: share of the training over which lam grows to ``weight`` (MiDSS: 1).
        weight: full value of lam, for a teacher that is right on the labelled images.
        amplitude_width: half width of the exchanged frequencies, share of each axis (MiDSS: 0.01).
        trust_empty: whether an unlabelled image in which the teacher finds nothing teaches that
            nothing is there (MiDSS: True).

    Raises:
        ConfigError: in a step with more images of one kind than of the other.
    """

    threshold: float = 0.95
    ramp_length: float = 1.0
    weight: float = 1.0
    amplitude_width: float = 0.01
    trust_empty: bool = True

    def views(
        self,
        batch: Batch,
        teacher: Teacher | None,
        progress: float,
        generator: torch.Generator,
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        """Return the four views of the step (arguments: :class:`Method`)."""
        supervised = supervised_view(batch)
        if batch.unlabelled is None:
            return [supervised], {}
        x, y = batch.labelled.weak, supervised.target
        weak, strong = batch.unlabelled.weak, batch.unlabelled.strong
        if len(x) != len(weak):
            raise ConfigError(
                "MiDSS pairs each labelled with one unlabelled image",
                got=f"{len(x)} labelled and {len(weak)} unlabelled a step",
                do="set labelled_batch and unlabelled_batch to the same number",
            )
        boxes = random_boxes(len(x), tuple(x.shape[2:]), generator).to(x.device)
        shares = random_amplitude_shares(len(x), progress, generator)
        styled = mix_amplitude(x, weak, shares, width=self.amplitude_width)

        plain, from_out, from_in, known = teacher_probability(
            teacher, weak, mix(x, weak, boxes), mix(weak, x, boxes), x
        )
        label, sure = pseudo_label(plain, self.threshold)
        if not self.trust_empty:
            sure = sure * shows_structure(label)
        # The box holds the labelled image in `from_out`: unlabelled pixels lie outside it there.
        merged_label, merged_sure = pseudo_label(mix(from_in, from_out, boxes), self.threshold)
        agreed = merged_sure * sure * (merged_label == label)

        trust = trust_in_teacher(known, y)
        lam = self.weight * sigmoid_ramp(progress, length=self.ramp_length) * trust
        full = torch.ones_like(sure)
        views = [
            supervised,
            View(
                "labelled_in_box",
                mix(styled, strong, boxes),
                mix(y, label, boxes),
                mix(full, sure, boxes),
                lam,
                "mixed",
            ),
            View(
                "unlabelled_in_box",
                mix(strong, styled, boxes),
                mix(label, y, boxes),
                mix(sure, full, boxes),
                lam,
                "mixed",
            ),
            View("symmetric", strong, merged_label, agreed, lam * lam, "unlabelled"),
        ]
        return views, {
            "unlabelled_weight": lam,
            "teacher_trust": trust,
            "coverage": sure.mean(),
            "agreement": agreed.mean(),
        }
