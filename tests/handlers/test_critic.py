"""The variational f-divergence: a bound from below, and a critic that trains on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dim_monai.handlers import FDivergence
from tests.handlers.tiny import (
    BothKinds,
    Record,
    equal,
    logits_of,
    make_batch,
    make_network,
    make_trainer,
    state_of,
    views_of,
)


class Odds(nn.Module):
    """A network whose foreground log-odds are its input plus one bias."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(image), image + self.bias], dim=1)


def odds_batch(labelled: list[float], unlabelled: list[float]) -> dict[str, dict[str, Tensor]]:
    """Images whose pixels take the eight given log-odds equally often."""

    first, second = (torch.tensor(v).repeat(8).view(1, 1, 8, 8) for v in (labelled, unlabelled))
    return {
        "labelled": {"weak": first, "strong": first, "label": (first > 0).long()},
        "unlabelled": {"weak": second, "strong": second},
    }


@pytest.mark.parametrize("name", ["kl", "js", "tv", "squared_hellinger"])
def test_a_trained_critic_comes_near_the_closed_form_from_below(name: str) -> None:
    # Integers are bin centres: the histogram is the exact distribution.
    batch = odds_batch([-4.0, 0.0, 0.0, 4.0] * 2, [-4.0, -4.0, -4.0, 4.0] + [0.0] * 4)
    handler = FDivergence(name, estimator="variational", interval=0, critic_learning_rate=0.02)
    bounds = Record(lambda engine: float(engine.state.output[0]["terms"]["f_divergence"]))
    trainer = make_trainer(Odds(), [batch] * 250, handler, bounds, method=BothKinds(), lr=0.0)
    trainer.run()

    sides = [Odds()(batch[side]["strong"]) for side in ("labelled", "unlabelled")]
    views = views_of("labelled", "unlabelled")
    exact = FDivergence(name).term(views, sides)
    assert exact is not None
    assert max(bounds.seen) <= exact.item() + 1e-5
    assert bounds.seen[-1] > 0.9 * exact.item()


def test_the_students_optimizer_leaves_the_critic_alone() -> None:
    handler = FDivergence(estimator="variational", interval=0, critic_learning_rate=0.0)
    network = make_network()
    critics = Record(lambda engine: state_of(handler.critic))
    gradients = Record(lambda engine: [w.grad for w in handler.critic.parameters()])
    # `gradients` is attached before the handler: it looks before the critic's own backward pass.
    batches = [make_batch(seed) for seed in range(3)]
    make_trainer(network, batches, gradients, handler, critics, method=BothKinds(), lr=1.0).run()
    assert gradients.seen[0] == [None] * 4
    assert equal(critics.seen[0], critics.seen[-1])
    assert not equal(state_of(network), state_of(make_network()))


def test_the_student_learns_through_the_critic() -> None:
    handler = FDivergence("kl", estimator="variational", weight=1.0, interval=0)
    sides = [Odds(0.5)(torch.full((1, 1, 4, 4), value)) for value in (1.0, -1.0)]
    value = handler.term(views_of("labelled", "unlabelled", size=1), sides)
    assert value is not None
    (gradient,) = torch.autograd.grad(value, sides[1:])
    assert float(gradient.abs().sum()) > 0


def test_a_new_critic_draws_nothing_from_the_students_random_stream() -> None:
    handler = FDivergence(estimator="variational", interval=0)
    state = torch.get_rng_state()
    handler.term(views_of("labelled", "unlabelled"), [logits_of(0), logits_of(1)])
    assert handler.critic is not None
    assert torch.equal(torch.get_rng_state(), state)


def test_the_critic_learns_from_the_first_pass_of_a_step() -> None:
    def critic_after(*passes: int) -> dict[str, Tensor]:
        handler = FDivergence(estimator="variational", interval=0)
        for seed in passes:
            handler.term(views_of("labelled", "unlabelled"), [logits_of(seed), logits_of(seed + 1)])
        handler._train_critic()
        return state_of(handler.critic)

    assert equal(critic_after(0), critic_after(0, 5))
    assert not equal(critic_after(0), critic_after(5))
