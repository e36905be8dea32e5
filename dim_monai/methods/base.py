"""What a method is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dim_monai.objectives import View

# Images (B, C, *S) to logits (B, K, *S): a network, or the trainer that asks one.
Teacher = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stream:
    """One batch of one stream, two views of the same pixels.

    Attributes:
        weak: (B, C, *S) float, after the geometric augmentation.
        strong: (B, C, *S) float, the weak view after the photometric augmentation.
        label: (B, 1, *S) int64, None for unlabelled images.
    """

    weak: Tensor
    strong: Tensor
    label: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """What the two-stream loader gives for one step; ``unlabelled`` is None where there is none."""

    labelled: Stream
    unlabelled: Stream | None = None


class Method(Protocol):
    """Turns a batch into the views of one step. Everything random is drawn here, once."""

    def views(
        self,
        batch: Batch,
        teacher: Teacher | None,
        progress: float,
        generator: torch.Generator,
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        """Return the views of this step and numbers worth logging.

        Args:
            batch: on the device of the network.
            teacher: gives logits (B, K, *S); None where the method needs none.
            progress: share of the training that is done, in [0, 1).
            generator: CPU generator of this step.
        """
        ...


def supervised_view(batch: Batch) -> View:
    """Return the term that every method has: the labelled images, strong view, full trust."""
    if batch.labelled.label is None:
        raise ValueError("the labelled stream carries no label")
    return View("supervised", batch.labelled.strong, batch.labelled.label)


@torch.no_grad()
def teacher_probability(teacher: Teacher | None, *images: Tensor) -> tuple[Tensor, ...]:
    """Return the teacher's class probabilities of each batch of images, from one forward pass."""
    if teacher is None:
        raise ValueError("this method needs a teacher; attach TeacherEMA to the trainer")
    logits = teacher(torch.cat(images))
    probability = torch.softmax(logits.float(), dim=1)
    return torch.split(probability, [len(image) for image in images])


def shows_structure(label: Tensor) -> Tensor:
    """Return in which images any foreground was found.

    A teacher that knows one scanner is blind on the images of another before it is wrong on them:
    it finds background alone, is sure of it, and teaches the student not to look. An image in which
    it found nothing may show nothing, but then it has nothing to teach that the empty labelled
    images do not, so it can be left out. (Our addition.)

    Args:
        label: (B, 1, *S) int64, of the teacher.

    Returns:
        (B, 1, 1, ...) bool.
    """
    found = (label > 0).flatten(1).any(dim=1)
    return found.view(-1, *[1] * (label.ndim - 1))


def trust_in_teacher(probability: Tensor, label: Tensor) -> Tensor:
    """Return how far the teacher is right on the labelled images, by which its labels count.

    A teacher that does not find the structure where the label shows it has nothing to teach. Early
    in a training with one labelled volume it becomes sure of background everywhere, the unlabelled
    terms outvote the labelled one, and the student never leaves that state. Weighted by this trust
    they are silent until the teacher is half right, and the labelled term finds the way out. Our
    addition to both methods; SynFoC (CVPR 2025) weighs its two teachers by a Dice in that spirit.

    Args:
        probability: (B, K, *S), the teacher's for the labelled images.
        label: (B, 1, *S) int64.

    Returns:
        A scalar in [0, 1]: max(0, 2 D - 1) with D the mean of
        2 sum(p y) / (sum(p) + sum(y)), sums over the batch, smoothed by one pixel, over the
        foreground classes that the label shows: of one that it does not show, a few pixels' worth
        of doubt would silence a teacher who is right. Over all of them if it shows none.
    """
    classes = torch.arange(1, probability.shape[1], device=label.device)
    truth = (label == classes.view(1, -1, *[1] * (label.ndim - 2))).to(probability.dtype)
    pixels = (0, *range(2, label.ndim))
    found = probability[:, 1:]
    overlap, size = (found * truth).sum(dim=pixels), (found + truth).sum(dim=pixels)
    dice = (2 * overlap + 1) / (size + 1)
    shown = truth.sum(dim=pixels) > 0
    counted = (shown | ~shown.any()).to(dice.dtype)  # no selection: its size would have to be read
    return (2 * (dice * counted).sum() / counted.sum() - 1).clamp_min(0)
