"""The sharpness-aware step: where it looks, and that it always comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dim_monai.errors import ConfigError
from dim_monai.handlers import FDivergence, SharpnessAware, TeacherEMA
from dim_monai.methods import MiDSS
from dim_monai.objectives import View, segmentation_loss
from tests.handlers.tiny import (
    BothKinds,
    Record,
    equal,
    linear_batch,
    make_batch,
    make_network,
    make_trainer,
    squared_error,
    state_of,
    storage_of,
)

X = np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]])
Y = np.array([1.0, -2.0])
W = np.array([0.3, -0.2, 0.5])
RHO = 0.2


class Linear(nn.Linear):
    """A linear network in float64 that starts at W."""

    def __init__(self) -> None:
        super().__init__(3, 1, bias=False)
        self.double()
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(W)[None])


def gradient(w: np.ndarray) -> np.ndarray:
    return 2 * X.T @ (X @ w - Y) / len(X)


def step_of(handler: SharpnessAware, **kwargs: Any) -> np.ndarray:
    """What the step subtracts from W, in units of the learning rate."""
    network = Linear()
    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    trainer = make_trainer(network, [batch], handler, loss_function=squared_error)
    for name, (term, weight) in kwargs.pop("terms", {}).items():
        trainer.add_term(name, lambda views, logits, term=term: term(network.weight), weight)
    scale = kwargs.pop("scale", None)
    if scale is not None:
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.max_gradient_norm = kwargs.pop("limit", None)
    trainer.run()
    return (W - network.weight.detach().numpy()[0]) / 0.1


# --- where it looks


def test_one_sam_step_by_hand() -> None:
    g = gradient(W)
    expected = gradient(W + RHO * g / np.linalg.norm(g))
    np.testing.assert_allclose(step_of(SharpnessAware(RHO)), expected, rtol=1e-10)


def test_one_asam_step_by_hand() -> None:
    size = np.abs(W) + 0.01
    g = size * gradient(W)
    expected = gradient(W + RHO * size * g / np.linalg.norm(g))
    np.testing.assert_allclose(step_of(SharpnessAware(RHO, "asam")), expected, rtol=1e-10)


def cubic(weight: Tensor) -> Tensor:
    return weight.pow(3).sum()  # gradient 3 w^2: it differs between two points


def test_a_term_that_is_not_perturbed_neither_climbs_nor_moves_along() -> None:
    g = gradient(W)
    expected = gradient(W + RHO * g / np.linalg.norm(g)) + 0.5 * 3 * W**2
    step = step_of(SharpnessAware(RHO), terms={"f_divergence": (cubic, 0.5)})
    np.testing.assert_allclose(step, expected, rtol=1e-10)


def test_a_term_that_is_perturbed_climbs_and_moves_along() -> None:
    def both(w: np.ndarray) -> np.ndarray:
        return gradient(w) + 0.5 * 3 * w**2

    g = both(W)
    expected = both(W + RHO * g / np.linalg.norm(g))
    step = step_of(SharpnessAware(RHO, not_perturbed=()), terms={"f_divergence": (cubic, 0.5)})
    np.testing.assert_allclose(step, expected, rtol=1e-10)


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_gradient_scaler_changes_nothing(limit: float | None) -> None:
    terms = {"f_divergence": (cubic, 0.5)}
    plain = step_of(SharpnessAware(RHO), terms=terms, limit=limit)
    scaled = step_of(SharpnessAware(RHO), terms=terms, limit=limit, scale=1024.0)
    np.testing.assert_allclose(scaled, plain, rtol=1e-10)
    if limit is not None:
        np.testing.assert_allclose(np.linalg.norm(plain), limit, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_with_rho_zero_the_step_is_the_plain_one_bit_for_bit(dropout: float) -> None:
    """With dropout this holds only if the second pass sees the masks of the first."""
    states = []
    for handlers in ([], [SharpnessAware(rho=0.0)], [SharpnessAware(rho=0.05)]):
        torch.manual_seed(0)
        network = make_network(dropout=dropout)
        batches = [make_batch(seed) for seed in range(3)]
        make_trainer(network, batches, *handlers, momentum=0.9).run()
        states.append(state_of(network))
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


@pytest.mark.parametrize(("start", "plain_steps"), [(0.0, 0), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_the_second_pass_begins_at_its_share_of_the_training(
    start: float, plain_steps: int
) -> None:
    paths = []
    for handlers in ([], [SharpnessAware(start=start)]):
        network = make_network()
        path = Record(lambda engine, network=network: state_of(network))
        batches = [make_batch(seed) for seed in range(2)]
        trainer = make_trainer(network, batches, *handlers, path, epochs=2)
        trainer.add_term(
            "f_divergence", lambda views, logits, network=network: cubic(network[0].weight), 0.5
        )
        trainer.run()
        paths.append(path.seen)
    alike = [equal(plain, sharp) for plain, sharp in zip(*paths, strict=True)]
    assert alike == [step < plain_steps for step in range(4)]


def test_both_passes_see_one_problem_and_the_teacher_is_asked_once() -> None:
    network = make_network()
    teacher = TeacherEMA(network)
    asked: list[int] = []
    teacher.network.register_forward_hook(lambda *_: asked.append(1))
    targets: list[Tensor] = []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        targets.append(target.clone())
        return segmentation_loss(logits, target, weight)

    method = MiDSS(threshold=0.5)
    make_trainer(
        network, [make_batch(0)], teacher, SharpnessAware(), method=method, loss_function=loss
    ).run()
    assert len(asked) == 1
    assert len(targets) == 8
    assert all(torch.equal(a, b) for a, b in zip(targets[:4], targets[4:], strict=True))


# --- the rules that cost less


def states_after(
    *handlers: SharpnessAware, batches: int = 3, momentum: float = 0.9, **kwargs: Any
) -> list[dict[str, Tensor]]:
    """The weights after each step of a training."""
    network = make_network()
    path = Record(lambda engine: state_of(network))
    seen = [make_batch(seed) for seed in range(batches)]
    make_trainer(network, seen, *handlers, path, momentum=momentum, **kwargs).run()
    return path.seen


def test_looksam_that_looks_in_every_step_is_sam() -> None:
    sam = states_after(SharpnessAware(RHO))
    looksam = states_after(SharpnessAware(RHO, "looksam", every=1))
    assert all(equal(*pair) for pair in zip(sam, looksam, strict=True))


def test_looksam_that_reuses_nothing_is_sam_now_and_then() -> None:
    look = Record(lambda engine: engine.state.output[0]["loss"])
    passes: list[int] = []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        passes.append(1)
        return segmentation_loss(logits, target, weight)

    handler = SharpnessAware(RHO, "looksam", every=2, reuse=0.0)
    network = make_network()
    batches = [make_batch(seed) for seed in range(5)]
    make_trainer(network, batches, handler, look, loss_function=loss).run()
    assert len(passes) == 5 + 3  # a second one in steps 0, 2 and 4
    first, plain = states_after(handler, batches=1, momentum=0), states_after(batches=1, momentum=0)
    assert not equal(first[0], plain[0])


def test_one_looksam_step_between_two_looks_by_hand() -> None:
    def step(w: np.ndarray) -> np.ndarray:
        g = gradient(w)
        return gradient(w + RHO * g / np.linalg.norm(g))

    first, g = step(W), gradient(W)
    across = first - (first @ g) / (g @ g) * g
    moved = W - 0.1 * first
    second = gradient(moved)
    second = second + 0.7 * np.linalg.norm(second) * across / np.linalg.norm(across)

    network = Linear()
    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    handler = SharpnessAware(RHO, "looksam")
    make_trainer(network, [batch] * 2, handler, loss_function=squared_error).run()
    np.testing.assert_allclose(network.weight.detach().numpy()[0], moved - 0.1 * second, rtol=1e-8)


def test_looksam_goes_on_with_what_it_remembered() -> None:
    whole = states_after(SharpnessAware(RHO, "looksam"), batches=2, momentum=0)
    handler, network = SharpnessAware(RHO, "looksam"), make_network()
    make_trainer(network, [make_batch(0)], handler).run()
    other = SharpnessAware(RHO, "looksam")
    other.load_state_dict(handler.state_dict())
    trainer = make_trainer(network, [make_batch(1)], other)
    trainer.add_event_handler(Events.STARTED, lambda: setattr(trainer.state, "iteration", 1))
    trainer.state.max_epochs = 2
    trainer.run()
    assert equal(state_of(network), whole[1])


def test_momentum_sam_begins_plain_and_then_looks_along_the_momentum() -> None:
    network = Linear()
    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    handler = SharpnessAware(RHO, "msam", ())
    make_trainer(network, [batch] * 2, handler, loss_function=squared_error, momentum=0.9).run()
    first = gradient(W)
    moved = W - 0.1 * first
    second = gradient(moved + RHO * first / np.linalg.norm(first))
    expected = moved - 0.1 * (0.9 * first + second)
    np.testing.assert_allclose(network.weight.detach().numpy()[0], expected, rtol=1e-8)


def test_momentum_sam_makes_one_pass_and_comes_back_from_it() -> None:
    network, passes = make_network(), []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        passes.append(state_of(network))
        if len(passes) == 3:
            raise KeyboardInterrupt
        return segmentation_loss(logits, target, weight)

    path = Record(lambda engine: state_of(network))
    batches = [make_batch(seed) for seed in range(3)]
    trainer = make_trainer(
        network,
        batches,
        SharpnessAware(RHO, "msam", ()),
        path,
        momentum=0.9,
        loss_function=loss,
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not equal(passes[2], path.seen[1])
    assert equal(state_of(network), path.seen[1])


def test_momentum_sam_with_adam_climbs_along_its_average_gradient() -> None:
    network, seen = Linear(), []
    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])

    def loss(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        seen.append(network.weight.detach().numpy()[0].copy())
        return squared_error(prediction, target, weight)

    trainer = make_trainer(
        network, [batch] * 2, SharpnessAware(RHO, "msam", ()), loss_function=loss
    )
    trainer.optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.0)
    trainer.run()
    g = gradient(W)
    moved = W - 0.01 * np.sign(g)  # Adam's first step
    np.testing.assert_allclose(seen[1], moved + RHO * g / np.linalg.norm(g), rtol=1e-6)


def test_momentum_sam_without_momentum_is_refused() -> None:
    with pytest.raises(ConfigError, match="msam climbs along the momentum"):
        states_after(SharpnessAware(RHO, "msam", ()), momentum=0.0)


# --- esam: some of the weights, some of the images


def esam(beta: float = 0.5, gamma: float = 0.5, **settings: Any) -> SharpnessAware:
    return SharpnessAware(RHO, "esam", beta=beta, gamma=gamma, **settings)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_esam_in_all_weights_and_images_is_sam_bit_for_bit(dropout: float, start: float) -> None:
    paths = []
    for handler in (SharpnessAware(RHO, start=start), esam(1.0, 1.0, start=start)):
        torch.manual_seed(0)
        network = make_network(nn.BatchNorm2d, dropout)
        path = Record(lambda engine, network=network: state_of(network))
        batches = [make_batch(seed) for seed in range(4)]
        make_trainer(network, batches, handler, path, method=BothKinds(), momentum=0.9).run()
        paths.append(path.seen)
    assert all(equal(*pair) for pair in zip(*paths, strict=True))


def test_one_esam_step_on_half_of_the_images_by_hand() -> None:
    def losses(w: np.ndarray) -> np.ndarray:
        return (X @ w - Y) ** 2

    g = gradient(W)
    there = W + RHO * g / np.linalg.norm(g)
    worst = int(np.argmax(losses(there) - losses(W)))
    expected = 2 * (X[worst] @ there - Y[worst]) * X[worst]
    np.testing.assert_allclose(step_of(esam(beta=1.0)), expected, rtol=1e-10)


class Apart(nn.Module):
    """The linear network that starts at W, each weight a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        parts = [nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in W]
        self.parts = nn.ParameterList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.cat(list(self.parts))[:, None]

    def values(self) -> np.ndarray:
        return torch.cat(list(self.parts)).detach().numpy().copy()


def test_one_esam_step_in_two_of_three_weights_by_hand() -> None:
    network = Apart()
    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    trainer = make_trainer(network, [batch], esam(2 / 3, 1.0), loss_function=squared_error)
    # Its gradient is that of all weights, whatever is drawn.
    trainer.add_term("f_divergence", lambda *_: cubic(torch.cat(list(network.parts))), 0.5)
    trainer.run()
    step = (W - network.values()) / 0.1
    expected = []
    for left_out in range(3):
        g = np.where(np.arange(3) == left_out, 0, gradient(W))
        there = W + RHO / (2 / 3) * g / np.linalg.norm(g)
        expected.append(gradient(there) + 0.5 * 3 * W**2)
    assert [np.allclose(step, one, rtol=1e-10) for one in expected].count(True) == 1


def drawn_in(steps: int, *, scale: float = 1.0, seed: int = 0, after: int = 0) -> list[list[bool]]:
    """Which of three weights are moved in the second pass of each step."""
    network, seen = Apart(), []

    def loss(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        seen.append(network.values())
        return squared_error(prediction, target, weight)

    batch = linear_batch(scale * torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    settings = {"loss_function": loss, "seed": seed, "lr": 0.01}
    trainer = make_trainer(network, [batch] * (after + steps), esam(0.5, 1.0), **settings)
    if after:
        trainer.add_event_handler(
            Events.STARTED, lambda: setattr(trainer.state, "iteration", after)
        )
    trainer.run()
    pairs = zip(seen[::2], seen[1::2], strict=True)
    return [list(map(bool, there != here)) for here, there in pairs][:steps]


def test_the_weights_that_esam_draws_are_a_function_of_seed_and_step() -> None:
    ten = drawn_in(10)
    assert all(sum(moved) == 2 for moved in ten)
    assert len({tuple(moved) for moved in ten}) == 3  # not the same in every step
    assert drawn_in(10, scale=-2.0) == ten  # another rank sees other images
    assert drawn_in(6, after=4) == ten[4:]  # a run that goes on has drawn nothing before
    assert drawn_in(10, seed=1) != ten


def images_of(handler: SharpnessAware) -> tuple[int, int]:
    """Images that go forward and backward through the network in one step of eight."""
    network, forward, backward = make_network(), [], []
    network[0].register_forward_hook(lambda module, given, output: forward.append(len(output)))
    network[4].register_full_backward_hook(lambda module, into, out: backward.append(len(out[0])))
    make_trainer(network, [make_batch(0, labelled=8, unlabelled=0)], handler).run()
    return sum(forward), sum(backward)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0])
def test_the_second_pass_of_esam_costs_as_many_images_as_it_says(gamma: float) -> None:
    assert images_of(SharpnessAware(RHO)) == (16, 16)
    forward, backward = images_of(esam(gamma=gamma))
    if gamma == 1:
        assert (forward, backward) == (16, 16)
        return
    assert (forward, backward) == (16 + 8 * gamma, 8 + 8 * gamma)
    # A backward pass costs two forward passes.
    assert forward - 8 + 2 * (backward - 8) == 8 * (1 + 3 * gamma)
    assert forward + 2 * backward < 16 + 2 * 16


def test_the_first_pass_of_esam_spares_the_gradient_of_what_it_does_not_move() -> None:
    flop = []
    for handler in (SharpnessAware(RHO), esam(1.0, 1.0), esam(0.3, 1.0), esam(0.3, 0.5)):
        trainer = make_trainer(make_network(), [make_batch(0, labelled=8)], handler)
        with FlopCounterMode(display=False) as counter:
            trainer.run()
        flop.append(counter.get_total_flops())
    assert flop[0] == flop[1] > flop[2] > flop[3]


def test_esam_chooses_in_each_term_what_rose_most_with_its_target_and_trust() -> None:
    seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        values = segmentation_loss(logits, target, weight)
        seen.append((values.detach(), target, weight))
        return values

    network = make_network()
    make_trainer(
        network,
        [make_batch(0, 5, 5)],
        *(TeacherEMA(network), FDivergence(compare="features", layer="0"), esam(gamma=0.4)),
        method=MiDSS(threshold=0.5),
        loss_function=loss,
    ).run()
    assert len(seen) == 3 * 4
    for before, after, second in zip(seen[:4], seen[4:8], seen[8:], strict=True):
        rise = after[0].numpy() - before[0].numpy()
        chosen = np.sort(np.argsort(rise)[-2:])
        assert torch.equal(second[1], before[1][chosen])
        assert (second[2] is None) == (before[2] is None)
        if second[2] is not None:
            assert torch.equal(second[2], before[2][chosen])
        np.testing.assert_allclose(second[0].numpy(), after[0].numpy()[chosen], rtol=1e-4)


def test_a_perturbed_divergence_sees_what_esam_chose() -> None:
    network, seen = make_network(), []

    def term(views: list[View], logits: list[Tensor]) -> Tensor:
        seen.append([len(view.image) for view in views])
        return logits[0].square().mean()

    handler = esam(gamma=0.25, not_perturbed=())
    trainer = make_trainer(network, [make_batch(0, 4, 8)], handler, method=BothKinds())
    trainer.add_term("f_divergence", term, 0.5)
    trainer.run()
    assert seen == [[4, 8], [1, 2]]


@pytest.mark.parametrize("fails_at", [2, 3])
def test_the_weights_of_esam_return_bit_for_bit_when_a_pass_fails(fails_at: int) -> None:
    network, there = make_network(nn.BatchNorm2d), []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        there.append(state_of(network))
        if len(there) == fails_at:
            raise KeyboardInterrupt
        return segmentation_loss(logits, target, weight)

    after_first = Record(lambda engine: state_of(network), IterationEvents.BACKWARD_COMPLETED)
    addresses = storage_of(network)
    trainer = make_trainer(network, [make_batch(0)], after_first, esam(), loss_function=loss)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not equal(there[-1], after_first.seen[0])
    assert equal(state_of(network), after_first.seen[0])
    assert storage_of(network) == addresses


# --- that it comes back


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_weights_return_bit_for_bit_when_the_second_pass_fails(error: type[BaseException]) -> None:
    calls: list[bool] = []

    def loss(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        calls.append(torch.equal(network[0].weight, before["0.weight"]))
        if len(calls) == 2:
            raise error("out of memory")
        return segmentation_loss(logits, target, weight)

    network = make_network(nn.BatchNorm2d)
    before, addresses = state_of(network), storage_of(network)
    after_first = Record(lambda engine: state_of(network), IterationEvents.BACKWARD_COMPLETED)
    trainer = make_trainer(
        network, [make_batch(0)], after_first, SharpnessAware(), loss_function=loss
    )
    with pytest.raises(error):
        trainer.run()
    assert calls == [True, False]  # the second pass did look elsewhere
    # The first pass moves the running statistics, the second must not.
    assert equal(state_of(network), after_first.seen[0])
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    assert storage_of(network) == addresses


def test_storage_is_kept_through_whole_steps() -> None:
    network = make_network(nn.BatchNorm2d)
    addresses = storage_of(network)
    make_trainer(network, [make_batch(0)] * 2, SharpnessAware()).run()
    assert storage_of(network) == addresses


def test_a_weight_without_a_second_gradient_is_put_back() -> None:
    network = Linear()
    network.extra = nn.Parameter(torch.tensor([0.1, 0.7], dtype=torch.float64))
    before = network.extra.detach().clone()
    asked: list[bool] = []

    def only_first(views: Any, logits: Any) -> Tensor | None:
        asked.append(torch.equal(network.extra, before))
        return network.extra.square().sum() if len(asked) == 1 else None

    batch = linear_batch(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    trainer = make_trainer(network, [batch], SharpnessAware(RHO), loss_function=squared_error)
    trainer.add_term("only_first", only_first, 1.0)
    trainer.run()
    assert asked == [True, False]
    assert torch.equal(network.extra, before)


def test_after_a_first_gradient_that_is_not_finite_there_is_no_second_pass() -> None:
    passes: list[int] = []

    def broken(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        passes.append(1)
        return logits.mean(dim=(1, 2, 3)) * float("inf")

    network = make_network()
    trainer = make_trainer(network, [make_batch(0)], SharpnessAware(), loss_function=broken)
    trainer.run()
    assert len(passes) == 1
    assert trainer.state.skipped_steps == 1
    assert equal(state_of(network), state_of(make_network()))


def test_a_second_gradient_that_is_not_finite_is_skipped_too() -> None:
    passes: list[int] = []

    def breaks_nearby(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        passes.append(1)
        factor = float("nan") if len(passes) == 2 else 1.0
        return segmentation_loss(logits, target, weight) * factor

    network = make_network()
    trainer = make_trainer(network, [make_batch(0)], SharpnessAware(), loss_function=breaks_nearby)
    trainer.run()
    assert len(passes) == 2
    assert trainer.state.skipped_steps == 1
    assert equal(state_of(network), state_of(make_network()))


# --- what the second pass must not touch


def test_running_statistics_see_the_first_pass_alone() -> None:
    statistics, momenta = [], []
    for handlers in ([], [SharpnessAware(rho=0.5)]):
        network = make_network(nn.BatchNorm2d)
        trainer = make_trainer(network, [make_batch(0)], *handlers, lr=0.0)
        trainer.run()
        trainer.run()  # a momentum set to 0 for the second pass must have come back
        statistics.append(dict(network.named_buffers()))
        momenta.append(network[1].momentum)
    assert equal(*statistics)
    assert not torch.equal(statistics[0]["1.running_mean"], torch.zeros(4))
    assert momenta == [0.1, 0.1]


def test_settings_without_a_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match="rho is negative"):
        SharpnessAware(rho=-0.1)
    with pytest.raises(ConfigError, match="asam"):
        SharpnessAware(rule="asm")
    with pytest.raises(ConfigError, match="start"):
        SharpnessAware(start=1.5)
    with pytest.raises(ConfigError, match="second passes"):
        SharpnessAware(every=0)
    with pytest.raises(ConfigError, match="every term is perturbed"):
        SharpnessAware(rule="msam", not_perturbed=["symmetric"])
    with pytest.raises(ConfigError, match="beta of esam"):
        SharpnessAware(rule="esam", beta=0.0)
    with pytest.raises(ConfigError, match="gamma of esam"):
        SharpnessAware(rule="esam", gamma=1.5)


def test_a_step_of_which_no_term_is_left_is_refused() -> None:
    with pytest.raises(ConfigError, match="no term is left for the second pass"):
        step_of(SharpnessAware(RHO, not_perturbed=("supervised",)))
