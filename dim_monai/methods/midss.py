"""MiDSS (Ma et al., CVPR 2024): two-way CutMix, amplitude mixing and symmetric guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dim_monai.methods.base import Batch, supervised_view, teacher_probability
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

    Deviations: the labelled image has its photometric augmentation in the supervised term, as in
    every method here; the teacher runs in evaluation mode and the student's views go through in
    one batch (see ``SemiSupervisedTrainer``).

    Attributes:
        threshold: trust a pixel whose largest probability exceeds this (MiDSS: 0.95).
        ramp_length: share of the training over which lam grows to ``weight`` (MiDSS: 1).
        weight: full value of lam.
        amplitude_width: half width of the exchanged frequencies, share of the image (MiDSS: 0.01).
    """

    threshold: float = 0.95
    ramp_length: float = 1.0
    weight: float = 1.0
    amplitude_width: float = 0.01
    needs_teacher: ClassVar[bool] = True

    def views(
        self,
        batch: Batch,
        teacher: nn.Module | None,
        progress: float,
        generator: torch.Generator,
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        """Return the four views of the step (arguments: :class:`Method`)."""
        supervised = supervised_view(batch)
        if batch.unlabelled is None:
            return [supervised], {}
        pairs = min(len(batch.labelled.weak), len(batch.unlabelled.weak))
        x, y = batch.labelled.weak[:pairs], supervised.target[:pairs]
        weak, strong = batch.unlabelled.weak, batch.unlabelled.strong
        boxes = random_boxes(pairs, tuple(x.shape[2:]), generator).to(x.device)
        shares = random_amplitude_shares(pairs, progress, generator)
        styled = mix_amplitude(x, weak[:pairs], shares, width=self.amplitude_width)

        plain, from_out, from_in = teacher_probability(
            teacher, weak, mix(x, weak[:pairs], boxes), mix(weak[:pairs], x, boxes)
        )
        label, sure = pseudo_label(plain, self.threshold)
        paired_label, paired_sure = label[:pairs], sure[:pairs]
        # The box holds the labelled image in `from_out`: unlabelled pixels lie outside it there.
        merged_label, merged_sure = pseudo_label(mix(from_in, from_out, boxes), self.threshold)
        agreed = merged_sure * paired_sure * (merged_label == paired_label)

        lam = self.weight * sigmoid_ramp(progress, length=self.ramp_length)
        full = torch.ones_like(paired_sure)
        views = [
            supervised,
            View(
                "labelled_in_box",
                mix(styled, strong[:pairs], boxes),
                mix(y, paired_label, boxes),
                mix(full, paired_sure, boxes),
                lam,
                "mixed",
            ),
            View(
                "unlabelled_in_box",
                mix(strong[:pairs], styled, boxes),
                mix(paired_label, y, boxes),
                mix(paired_sure, full, boxes),
                lam,
                "mixed",
            ),
            View("symmetric", strong[:pairs], merged_label, agreed, lam * lam, "unlabelled"),
        ]
        return views, {"ramp": lam, "coverage": sure.mean(), "agreement": agreed.mean()}
