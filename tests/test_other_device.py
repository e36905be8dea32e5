"""What a GPU would refuse or wait for, on a machine without one: see `tests.other_device`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dim_monai.handlers import (
    FDivergence,
    GradientShares,
    SharpnessAware,
    TeacherEMA,
    TrainingLog,
)
from dim_monai.methods import MeanTeacher, Method, MiDSS, Supervised
from dim_monai.sharpness import RULES
from tests.handlers.tiny import make_batch, make_network, make_trainer
from tests.other_device import DEVICE, Elsewhere, OtherDevice

Handlers = Callable[[nn.Module], list[Any]]


def dim(rule: str = "sam", **divergence: Any) -> Handlers:
    """The handlers of DiM; two measurements of shares and scale in a training of four steps."""
    one_pass = rule == "msam"

    def handlers(network: nn.Module) -> list[Any]:
        return [
            TeacherEMA(network, decay=0.9),
            SharpnessAware(rule=rule, every=2, not_perturbed=[] if one_pass else ["f_divergence"]),
            GradientShares(interval=2),
            FDivergence(**{"interval": 2, **divergence}),
        ]

    return handlers


TRAININGS: dict[str, tuple[Method, Handlers]] = {
    "supervised": (Supervised(), lambda network: []),
    "mean_teacher": (MeanTeacher(), lambda network: [TeacherEMA(network, decay=0.9)]),
    **{f"midss, {rule}": (MiDSS(), dim(rule)) for rule in RULES},
    "midss, proportion": (MiDSS(trust_empty=False), dim(compare="proportion")),
    "midss, class_prediction": (MiDSS(), dim(compare="class_prediction")),
    "midss, features": (MiDSS(), dim(compare="features", layer="2")),
    "midss, critic": (MiDSS(), dim(estimator="variational")),
}


def train(
    device: torch.device, method: Method, handlers: Handlers, steps: int, *more: Any
) -> dict[str, Tensor]:
    network = make_network(nn.BatchNorm2d).to(device)
    make_trainer(
        network,
        [make_batch(seed) for seed in range(steps)],
        *handlers(network),
        *more,
        momentum=0.9,
        device=device,
        method=method,
        max_gradient_norm=1.0,
        joint_forward=True,
    ).run()
    return dict(network.state_dict())


def values(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.values for name, value in state.items() if isinstance(value, Elsewhere)}


@pytest.mark.parametrize("training", TRAININGS)
def test_every_training_makes_the_same_steps_on_another_device(training: str) -> None:
    here = train(torch.device("cpu"), *TRAININGS[training], steps=4)
    with OtherDevice():
        there = values(train(DEVICE, *TRAININGS[training], steps=4))
    assert there.keys() == here.keys()
    for name, value in here.items():
        assert torch.equal(there[name], value), name


def reads(method: Method, handlers: Handlers, steps: int, *more: Any) -> int:
    with OtherDevice() as device:
        train(DEVICE, method, handlers, steps, *more)
    return device.reads


@pytest.mark.parametrize(
    ("training", "a_step"),
    [
        # Whether the gradient is finite, before the optimizer's step.
        ("supervised", 1),
        ("mean_teacher", 1),
        ("midss, msam", 1),
        # And before the second pass.
        ("midss, sam", 2),
        ("midss, esam", 2),
        ("midss, class_prediction", 2),
        # And of the critic, before its step.
        ("midss, critic", 3),
    ],
)
def test_a_step_reads_back_whether_it_may_be_made_and_nothing_else(
    training: str, a_step: int
) -> None:
    method, handlers = TRAININGS[training]

    def never_measured(network: nn.Module) -> list[Any]:
        made = handlers(network)
        for handler in made:
            if isinstance(handler, GradientShares | FDivergence):
                handler.interval = 1000
        return made

    few, more = (reads(method, never_measured, steps) for steps in (2, 7))
    assert more - few == 5 * a_step


def test_a_line_of_the_log_is_one_read(tmp_path: Path) -> None:
    training = TRAININGS["mean_teacher"]
    log = TrainingLog(str(tmp_path / "log.csv"), interval=3)
    assert reads(*training, 6, log) == reads(*training, 6) + 2


@pytest.mark.parametrize(
    "mixture",
    [
        lambda there, here: there + here,
        lambda there, here: torch.where(here > 0, there, there),
        lambda there, here: torch.cat([there, here]),
        lambda there, here: there[:, [0]],
        lambda there, here: here[there > 0],
    ],
)
def test_what_a_gpu_refuses_is_refused(mixture: Callable[[Tensor, Tensor], Tensor]) -> None:
    here = torch.ones(2, 2)
    with OtherDevice(), pytest.raises(RuntimeError):
        mixture(here.to(DEVICE), here)


def test_what_waits_for_a_gpu_is_counted() -> None:
    with OtherDevice() as device:
        there = torch.ones(2, 2).to(DEVICE)
        assert device.reads == 0
        float(there.sum()), there.cpu(), there[there > 0], there.nonzero(), bool(there.all())
        assert device.reads == 5
