"""How much each term pulls."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents

from dim_monai.errors import ConfigError
from dim_monai.handlers import FDivergence, GradientShares, SharpnessAware, TeacherEMA
from dim_monai.methods import MiDSS
from tests.handlers.tiny import (
    Record,
    equal,
    make_batch,
    make_network,
    make_trainer,
    state_of,
)


def shares_of(diagnostics: dict[str, float]) -> dict[str, float]:
    prefix = "share_"
    return {k.removeprefix(prefix): v for k, v in diagnostics.items() if k.startswith(prefix)}


def test_shares_of_all_terms_sum_to_one() -> None:
    network = make_network()
    seen = Record(lambda engine: (shares_of(engine.state.diagnostics), engine.state.output[0]))
    handlers = [TeacherEMA(network), GradientShares(interval=1), FDivergence(interval=0), seen]
    batches = [make_batch(seed) for seed in range(3)]
    make_trainer(network, batches, *handlers, method=MiDSS(threshold=0.5, ramp_length=0.5)).run()
    for shares, output in seen.seen:
        assert shares.keys() == output["terms"].keys()
        assert len(shares) == 5
        assert min(shares.values()) > 0
        assert math.isclose(sum(shares.values()), 1.0, rel_tol=1e-6)


def test_two_that_measure_the_gradients_of_a_step_share_the_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differentiate, passes = torch.autograd.grad, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return differentiate(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    network = make_network()
    handlers = [TeacherEMA(network), GradientShares(interval=2), FDivergence(interval=2)]
    batches = [make_batch(seed) for seed in range(4)]
    make_trainer(network, batches, *handlers, method=MiDSS(threshold=0.5)).run()
    assert len(passes) == 2 * 5  # two of the four steps, five terms each


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_norm_is_as_many_times_larger_as_its_term(factor: float, precision: str) -> None:
    """Float16 holds 6e-8 to 65504; what is differentiated in it may lie beyond."""
    norms = Record(lambda engine: dict(engine.live_norms), IterationEvents.LOSS_COMPLETED)
    handlers = [GradientShares(interval=1), norms]
    trainer = make_trainer(make_network(), [make_batch(0)], *handlers, precision=precision, lr=0.0)
    trainer.add_term("one", lambda views, logits: logits[0].float().square().mean(), 1.0)
    trainer.add_term("other", lambda *given: factor * trainer.extra_terms["one"][0](*given), 1.0)
    trainer.run()
    (found,) = norms.seen
    assert found["other"] == pytest.approx(factor * found["one"], rel=1e-2)


def test_a_share_is_the_weighted_gradient_norm() -> None:
    network = make_network()
    batch = make_batch(0)
    trainer = make_trainer(network, [batch], GradientShares(interval=1), lr=0.0)
    trainer.add_term("size", lambda views, logits: network[0].weight.square().sum(), 0.5)
    trainer.run()
    by_hand = make_network()
    loss = trainer.loss_function(by_hand(batch["labelled"]["strong"]), batch["labelled"]["label"])
    gradients = torch.autograd.grad(loss.mean(), list(by_hand.parameters()))
    supervised = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    size = 0.5 * float((2 * by_hand[0].weight.detach()).norm())
    shares = shares_of(trainer.state.diagnostics)
    assert math.isclose(shares["size"], size / (size + supervised), rel_tol=1e-5)


def test_it_measures_at_its_interval_and_changes_nothing() -> None:
    states = []
    seen = Record(lambda engine: bool(shares_of(engine.state.diagnostics)))
    for handlers in ([SharpnessAware()], [SharpnessAware(), GradientShares(interval=2), seen]):
        network = make_network()
        batches = [make_batch(seed) for seed in range(5)]
        make_trainer(network, batches, *handlers, momentum=0.9).run()
        states.append(state_of(network))
    assert seen.seen == [False, True, False, True, False]
    assert equal(*states)


def test_a_term_without_weight_or_gradient_has_no_share() -> None:
    trainer = make_trainer(make_network(), [make_batch(0)], GradientShares(interval=1))
    trainer.add_term("constant", lambda views, logits: torch.tensor(3.0, requires_grad=True), 1.0)
    trainer.add_term("muted", lambda views, logits: logits[0].mean(), 0.0)
    trainer.run()
    assert shares_of(trainer.state.diagnostics) == {"supervised": 1.0, "constant": 0.0, "muted": 0}


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="interval"):
        GradientShares(interval=0)
