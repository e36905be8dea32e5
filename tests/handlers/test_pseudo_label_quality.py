"""Coverage and precision of pseudo-labels, counted by hand."""

from __future__ import annotations

import math

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from dim_monai.handlers import PseudoLabelQuality


def evaluate(*cases: tuple[list[float], list[int]], threshold: float = 0.8) -> dict[str, float]:
    """Run the handler over cases of pixels, each given by its foreground probability and truth."""

    def forward(engine: Engine, case: tuple[list[float], list[int]]) -> None:
        p = torch.tensor(case[0]).view(1, 1, -1)
        truth = torch.tensor(case[1]).view(1, 1, -1)
        engine.state.output = {"teacher": torch.cat([1 - p, p], dim=1).log(), "label": truth}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)

    engine = Engine(forward)
    engine.register_events(*IterationEvents)
    PseudoLabelQuality(threshold).attach(engine)
    metrics: dict[str, float] = engine.run(list(cases), max_epochs=1).metrics
    return metrics


def test_coverage_counts_sure_pixels_and_precision_the_right_ones_of_sure_foreground() -> None:
    metrics = evaluate(
        ([0.9, 0.9, 0.7, 0.1], [1, 0, 1, 0]),  # sure: three, two of them foreground, one right
        ([0.95, 0.5, 0.01, 0.02], [1, 1, 1, 0]),  # sure: three, one of them foreground and right
    )
    assert math.isclose(metrics["pseudo_label_coverage"], 6 / 8)
    assert math.isclose(metrics["pseudo_label_precision"], 2 / 3)


def test_without_trusted_foreground_there_is_no_precision() -> None:
    assert "pseudo_label_precision" not in evaluate(([0.1, 0.5], [0, 1]))


def test_each_validation_counts_anew() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    handler = PseudoLabelQuality(0.8)
    handler.attach(engine)
    engine.state.output = {
        "teacher": torch.tensor([[0.01, 0.99]]).log().view(1, 2, 1),
        "label": torch.ones(1, 1, 1),
    }
    for _ in range(2):
        engine.fire_event(Events.EPOCH_STARTED)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(Events.EPOCH_COMPLETED)
    assert engine.state.metrics["pseudo_label_coverage"] == 1
