"""Trainings so small that every number in them can be followed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.methods import Batch, Supervised
from dim_monai.objectives import View

RawBatch = dict[str, dict[str, Tensor]]


def make_batch(seed: int, labelled: int = 2, unlabelled: int = 2, size: int = 8) -> RawBatch:
    """Noise whose label is its sign, as the two-stream loader hands it out."""
    generator = torch.Generator().manual_seed(seed)

    def views(count: int) -> dict[str, Tensor]:
        weak = torch.randn(count, 1, size, size, generator=generator)
        noise = torch.randn(weak.shape, generator=generator)
        return {"weak": weak, "strong": weak + 0.1 * noise}

    first = views(labelled)
    batch = {"labelled": {**first, "label": (first["weak"] > 0).long()}}
    return batch | ({"unlabelled": views(unlabelled)} if unlabelled else {})


def make_network(norm: type[nn.Module] = nn.InstanceNorm2d, dropout: float = 0.0) -> nn.Module:
    """Two convolutions, one channel in, two classes out, always with the same first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            norm(4, affine=True),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(4, 2, 1),
        )


def make_trainer(
    network: nn.Module,
    batches: Sequence[RawBatch],
    *handlers: Any,
    lr: float = 0.1,
    momentum: float = 0.0,
    epochs: int = 1,
    **kwargs: Any,
) -> SemiSupervisedTrainer:
    """An SGD training over ``batches``; on the CPU and supervised unless ``kwargs`` differ."""
    return SemiSupervisedTrainer(
        max_epochs=epochs,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum),
        train_handlers=list(handlers),
        **{"device": "cpu", "method": Supervised(), **kwargs},
    )


class BothKinds:
    """A method with one labelled and one unlabelled view and no teacher."""

    def views(
        self, batch: Batch, teacher: nn.Module | None, progress: float, generator: torch.Generator
    ) -> tuple[list[View], dict[str, float | Tensor]]:
        labelled = View("supervised", batch.labelled.strong, batch.labelled.label)
        if batch.unlabelled is None:
            return [labelled], {}
        image = batch.unlabelled.strong
        trust = torch.zeros_like(image)
        return [
            labelled,
            View("other", image, torch.zeros_like(image).long(), trust, 1.0, "unlabelled"),
        ], {}


def views_of(*origins: str, size: int = 2) -> list[View]:
    image, target = torch.zeros(size, 1, 4, 4), torch.zeros(size, 1, 4, 4).long()
    return [View(f"view {i}", image, target, origin=name) for i, name in enumerate(origins)]


def logits_of(seed: int, classes: int = 3, spread: float = 4.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(2, classes, 4, 4, generator=generator)


def linear_batch(inputs: Tensor, targets: Tensor) -> RawBatch:
    """A regression in the shape of a batch: inputs (B, C) and targets (B, K)."""
    return {"labelled": {"weak": inputs, "strong": inputs, "label": targets}}


def squared_error(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The loss of each sample of a regression, (B,)."""
    return (prediction - target).square().sum(dim=1)


class Record:
    """Keeps what ``look(engine)`` returns at every end of a step."""

    def __init__(self, look: Any, event: Any = IterationEvents.MODEL_COMPLETED) -> None:
        self.look, self.event = look, event
        self.seen: list[Any] = []

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        engine.add_event_handler(self.event, lambda: self.seen.append(self.look(engine)))


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two states agree bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def storage_of(network: nn.Module) -> dict[str, int]:
    """The address of every weight and buffer."""
    return {name: value.data_ptr() for name, value in network.state_dict().items()}
