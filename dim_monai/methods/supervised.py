"""The baseline: labelled images only, with the augmentation that every other method uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dim_monai.methods.base import Batch, Teacher, supervised_view
from dim_monai.objectives import View


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy + Dice on the labelled images."""

    def views(
        self,
        batch: Batch,
        teacher: Teacher | None,
        progress: float,
        generator: torch.Generator,
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        """Return the labelled view alone (arguments: :class:`Method`)."""
        return [supervised_view(batch)], {}
