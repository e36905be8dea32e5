"""One step of the trainer: what it descends on, what it skips, what it repeats."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.errors import ConfigError, NumericError
from dim_monai.handlers import FDivergence, SharpnessAware, TeacherEMA
from dim_monai.methods import MiDSS
from dim_monai.objectives import View, segmentation_loss
from tests.handlers.tiny import (
    Record,
    equal,
    linear_batch,
    make_batch,
    make_network,
    make_trainer,
    squared_error,
    state_of,
)

INPUTS = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]], dtype=torch.float64)
TARGETS = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)


def linear() -> nn.Linear:
    network = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.3, -0.2, 0.5]]))
    return network


def gradient_by_hand(weight: np.ndarray, decay: float = 0.0) -> np.ndarray:
    """Of mean squared error plus ``decay`` times the sum of squared weights."""
    x, y = INPUTS.numpy(), TARGETS.numpy()[:, 0]
    return 2 * x.T @ (x @ weight - y) / len(x) + 2 * decay * weight


def poisoned(seed: int) -> dict[str, dict[str, Tensor]]:
    batch = make_batch(seed)
    batch["labelled"]["strong"][0, 0, 0, 0] = float("nan")
    return batch


def dim_handlers(network: nn.Module) -> list[Any]:
    return [TeacherEMA(network), FDivergence(interval=1), SharpnessAware()]


# --- what is descended on


def test_a_step_descends_on_the_weighted_sum_of_the_terms() -> None:
    network = linear()
    before = network.weight.detach().numpy()[0].copy()
    trainer = make_trainer(network, [linear_batch(INPUTS, TARGETS)], loss_function=squared_error)
    trainer.add_term("decay", lambda views, logits: network.weight.square().sum(), 0.25)
    trainer.run()

    expected = before - 0.1 * gradient_by_hand(before, decay=0.25)
    np.testing.assert_allclose(network.weight.detach().numpy()[0], expected, rtol=1e-12)
    residual = INPUTS.numpy() @ before - TARGETS.numpy()[:, 0]
    output = trainer.state.output[0]
    np.testing.assert_allclose(output["terms"]["supervised"], (residual**2).mean(), rtol=1e-12)
    np.testing.assert_allclose(output["terms"]["decay"], (before**2).sum(), rtol=1e-12)
    total = (residual**2).mean() + 0.25 * (before**2).sum()
    np.testing.assert_allclose(output["loss"], total, rtol=1e-12)
    np.testing.assert_allclose(
        output["gradient_norm"], np.linalg.norm(gradient_by_hand(before, 0.25)), rtol=1e-12
    )


def test_a_term_that_has_nothing_to_compare_leaves_the_step_alone() -> None:
    plain, with_term = make_network(), make_network()
    make_trainer(plain, [make_batch(0)]).run()
    trainer = make_trainer(with_term, [make_batch(0)])
    trainer.add_term("nothing", lambda views, logits: None, 1.0)
    trainer.run()
    assert equal(state_of(plain), state_of(with_term))
    assert "nothing" not in trainer.state.output[0]["terms"]


def test_freed_memory_is_kept_as_long_as_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the training ends by an error."""
    told: list[str] = []

    @contextmanager
    def kept(device: torch.device) -> Iterator[None]:
        told.append(f"kept on {device}")
        try:
            yield
        finally:
            told.append("given back")

    def fail(views: list[View], logits: list[Tensor]) -> None:
        told.append("step")
        raise KeyError

    monkeypatch.setattr("dim_monai.engine.freed_memory_kept", kept)
    trainer = make_trainer(make_network(), [make_batch(0)])
    trainer.add_term("failing", fail, 1.0)
    with pytest.raises(KeyError):
        trainer.run()
    assert told == ["kept on cpu", "step", "given back"]


def test_two_terms_of_one_name_are_refused() -> None:
    trainer = make_trainer(make_network(), [make_batch(0)])
    trainer.add_term("twice", lambda views, logits: None, 1.0)
    with pytest.raises(ConfigError, match="twice"):
        trainer.add_term("twice", lambda views, logits: None, 1.0)


def test_views_in_one_batch_or_one_by_one_make_the_same_step() -> None:
    states = []
    for joint in (True, False):
        network = make_network()
        batches = [make_batch(seed) for seed in range(3)]
        handlers = dim_handlers(network)
        make_trainer(
            network, batches, *handlers, method=MiDSS(threshold=0.5), joint_forward=joint
        ).run()
        states.append(state_of(network))
    assert not equal(states[0], state_of(make_network()))
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("limit", "passes"), [(512, 1), (511, 4)])
def test_views_are_one_batch_up_to_a_size(
    limit: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four views of two images of 8 x 8."""
    monkeypatch.setattr("dim_monai.passes.JOINT_PIXELS", limit)
    asked = passes_of_a_step([])
    assert len(asked) == passes
    assert sum(asked) == 8


def test_a_second_pass_of_fewer_views_is_made_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else random layers would not repeat: two views are below a limit that four are above."""
    monkeypatch.setattr("dim_monai.passes.JOINT_PIXELS", 511)
    sharpness = SharpnessAware(not_perturbed=["unlabelled_in_box", "symmetric"])
    assert passes_of_a_step([sharpness]) == [2] * (4 + 2)


def passes_of_a_step(handlers: list[Any]) -> list[int]:
    """The images of each forward pass of the student in one step of MiDSS."""
    network, asked = make_network(), list[int]()
    teacher = TeacherEMA(network)
    network.register_forward_pre_hook(lambda _, images: asked.append(len(images[0])))
    make_trainer(network, [make_batch(0)], teacher, *handlers, method=MiDSS(threshold=0.5)).run()
    return asked


def test_a_run_is_a_function_of_its_seed() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        network = make_network()
        batches = [make_batch(i) for i in range(3)]
        handlers = dim_handlers(network)
        make_trainer(network, batches, *handlers, method=MiDSS(threshold=0.5), seed=seed).run()
        return state_of(network)

    assert equal(trained(1), trained(1))
    assert not equal(trained(1), trained(2))


def test_without_learning_rate_all_of_dim_leaves_the_weights_bit_equal() -> None:
    network = make_network()
    before = state_of(network)
    handlers = dim_handlers(network)
    batches = [make_batch(seed) for seed in range(3)]
    make_trainer(network, batches, *handlers, method=MiDSS(threshold=0.5), lr=0.0).run()
    assert equal(state_of(network), before)


def test_random_layers_repeat_within_a_step_and_differ_between_steps() -> None:
    torch.manual_seed(0)
    again = Record(
        lambda engine: [float(engine.evaluate()["supervised"].detach()) for _ in range(2)],
        IterationEvents.BACKWARD_COMPLETED,
    )
    trainer = make_trainer(make_network(dropout=0.5), [make_batch(0)] * 2, again, lr=0.0)
    first = Record(lambda engine: float(engine.state.output[0]["loss"]))
    first.attach(trainer)
    trainer.run()
    assert again.seen[0] == [first.seen[0]] * 2
    assert again.seen[1] == [first.seen[1]] * 2
    assert first.seen[0] != first.seen[1]


@pytest.mark.parametrize("not_perturbed", [(), ("f_divergence",), ("symmetric", "f_divergence")])
def test_terms_differentiated_apart_make_the_gradient_of_all_together(
    not_perturbed: tuple[str, ...],
) -> None:
    """With radius zero the gradient of a step with two passes is that of a step with one."""
    states = []
    for handlers in ([], [SharpnessAware(0.0, not_perturbed=not_perturbed)]):
        network = make_network()
        dim = [TeacherEMA(network), FDivergence(interval=0), *handlers]
        batches = [make_batch(seed) for seed in range(3)]
        make_trainer(network, batches, *dim, method=MiDSS(threshold=0.5)).run()
        states.append(state_of(network))
    assert not equal(states[0], state_of(make_network()))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_term_is_differentiated_through_no_more_images_than_it_sees() -> None:
    """What the second pass leaves out costs nothing there, and a plain step is one batch."""
    sizes: dict[float, list[int]] = {}
    for start in (0.0, 1.0):
        network = make_network()
        seen = sizes.setdefault(start, [])
        network.register_forward_pre_hook(lambda _, images, seen=seen: seen.append(len(images[0])))
        aside = ("labelled_in_box", "unlabelled_in_box", "symmetric", "f_divergence")
        dim = [
            TeacherEMA(network),
            FDivergence(interval=0),
            SharpnessAware(not_perturbed=aside, start=start),
        ]
        dim[0].network._forward_pre_hooks.clear()
        make_trainer(network, [make_batch(0)], *dim, method=MiDSS(threshold=0.5)).run()
    assert sizes == {0.0: [2, 6, 2], 1.0: [8]}


def test_nothing_of_the_first_graph_is_left_in_the_second_pass() -> None:
    network, alive = make_network(), []
    graphs: list[weakref.ref[Tensor]] = []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        alive.append(sum(graph() is not None for graph in graphs))
        graphs.append(weakref.ref(logits))
        return segmentation_loss(logits, target, weight)

    dim = [TeacherEMA(network), SharpnessAware(not_perturbed=["symmetric"])]
    make_trainer(
        network, [make_batch(0)], *dim, method=MiDSS(threshold=0.5), loss_function=loss
    ).run()
    assert len(alive) == 4 + 3
    assert alive[4] == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_teacher_predicts_in_the_precision_of_the_step(precision: str) -> None:
    network = make_network()
    teacher, seen = TeacherEMA(network), []
    teacher.network.register_forward_hook(lambda module, images, logits: seen.append(logits))
    make_trainer(
        network, [make_batch(0)], teacher, method=MiDSS(threshold=0.5), precision=precision
    ).run()
    assert [logits.dtype for logits in seen] == [getattr(torch, precision)]
    assert seen[0].is_inference()


# --- what is skipped


@pytest.mark.parametrize("sharpness", [False, True])
def test_a_step_that_is_not_finite_is_skipped_and_counted(sharpness: bool) -> None:
    states = []
    for batches in ([make_batch(0), make_batch(2)], [make_batch(0), poisoned(1), make_batch(2)]):
        network = make_network()
        handlers = [SharpnessAware()] if sharpness else []
        trainer = make_trainer(network, batches, *handlers, momentum=0.9)
        trainer.run()
        states.append(state_of(network))
        assert trainer.state.skipped_steps == len(batches) - 2
    # The momentum has not seen the skipped step either.
    assert equal(states[0], states[1])


def test_too_many_skipped_steps_in_a_row_stop_the_run() -> None:
    network = make_network()
    trainer = make_trainer(network, [poisoned(0)] * 5, max_skipped_steps=3)
    with pytest.raises(NumericError, match="3 such steps in a row"):
        trainer.run()
    assert trainer.state.skipped_steps == 3
    assert equal(state_of(network), state_of(make_network()))


def test_a_good_step_begins_the_count_of_skipped_steps_again() -> None:
    bad, good = poisoned(0), make_batch(1)
    trainer = make_trainer(make_network(), [bad, bad, good, bad, bad, good], max_skipped_steps=3)
    trainer.run()
    assert trainer.state.skipped_steps == 4


# --- clipping, scaling, precision


def step_of(trainer: SemiSupervisedTrainer) -> np.ndarray:
    """The change of the weights of the linear network, divided by the learning rate."""
    weight = trainer.network.weight
    before = weight.detach().clone()
    trainer.run()
    return ((before - weight.detach()) / 0.1).numpy()[0]


@pytest.mark.parametrize("share", [0.3, 3.0])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_gradient_is_clipped_once_and_in_its_own_unit(share: float, scale: float) -> None:
    gradient = gradient_by_hand(np.array([0.3, -0.2, 0.5]))
    limit = share * float(np.linalg.norm(gradient))
    trainer = make_trainer(
        linear(),
        [linear_batch(INPUTS, TARGETS)],
        loss_function=squared_error,
        max_gradient_norm=limit,
    )
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    # Not exactly `limit`: torch adds 1e-6 to the norm it divides by.
    np.testing.assert_allclose(step_of(trainer), gradient * min(share, 1.0), rtol=1e-5)


def test_an_overflowing_scale_costs_steps_but_no_weight() -> None:
    network, before = linear().float(), linear().float().weight
    batch = linear_batch(INPUTS.float(), TARGETS.float())
    trainer = make_trainer(network, [batch] * 3, loss_function=squared_error)
    # The largest entry of the gradient is 8.3: 2^126 times it is beyond float32 (2^128), as is
    # 2^125 times it, but not 2^124 times it.
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    unmoved = Record(lambda engine: torch.equal(network.weight, before))
    unmoved.attach(trainer)
    trainer.run()
    assert trainer.state.skipped_steps == 2
    assert unmoved.seen == [True, True, False]
    assert trainer.scaler.get_scale() == 2.0**124
    gradient = gradient_by_hand(before.detach().double().numpy()[0])
    moved = (before - network.weight).detach().numpy()[0]
    np.testing.assert_allclose(moved, 0.1 * gradient, rtol=1e-5)


def test_a_second_run_goes_on_with_the_scale_of_the_first() -> None:
    trainer = make_trainer(make_network(), [make_batch(0)] * 3, precision="float16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    trainer.run()
    assert trainer.scaler.get_scale() == 16.0
    trainer.run()
    assert trainer.scaler.get_scale() == 32.0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_used_and_stays_close(precision: str) -> None:
    dtype = getattr(torch, precision)
    states, dtypes = [], set()
    for name in ("float32", precision):
        network = make_network()
        batches = [make_batch(seed) for seed in range(3)]
        trainer = make_trainer(network, batches, SharpnessAware(), precision=name)
        network.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
        trainer.run()
        assert trainer.state.skipped_steps == 0
        states.append(state_of(network))
    assert dtypes == {torch.float32, dtype}
    start = state_of(make_network())
    moved = torch.cat([(states[0][name] - start[name]).flatten() for name in start])
    apart = torch.cat([(states[0][name] - states[1][name]).flatten() for name in start])
    assert 0 < apart.norm() < 0.05 * moved.norm()


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="float8"):
        make_trainer(make_network(), [make_batch(0)], precision="float8")
