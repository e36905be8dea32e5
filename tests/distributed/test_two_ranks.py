"""Two processes train one network: as one process would, alike, and without waiting in vain."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from dim_monai.distributed import all_finite, average_tensors, rank, world_size
from tests.distributed.ranks import (
    DIM_STEPS,
    INPUTS,
    RANKS,
    RESUMED_STEPS,
    RHO,
    SCALE,
    SCENARIOS,
    START,
    TARGETS,
    joined_batches,
    run_scenarios,
)
from tests.handlers.tiny import equal, make_network, make_trainer, state_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
    ),
]

Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """What each rank returned, by scenario; one pair of processes goes through them all."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_scenarios, (str(folder),), nprocs=RANKS)
    ranks = [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(RANKS)]
    return {name: [returned[name] for returned in ranks] for name in SCENARIOS}


def test_two_ranks_make_the_step_of_one_process_on_the_joined_batch(
    results: dict[str, Results],
) -> None:
    network = make_network()
    trainer = make_trainer(network, joined_batches(), momentum=0.9)
    trainer.run()
    assert not equal(state_of(network), state_of(make_network()))
    for returned in results["supervised"]:
        # Three float32 steps that add up four samples in another order.
        for name, value in state_of(network).items():
            torch.testing.assert_close(returned["student"][name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            returned["norm"], trainer.state.output[0]["gradient_norm"], rtol=1e-5, atol=0
        )


def gradients_by_hand() -> tuple[np.ndarray, np.ndarray]:
    """The gradient of each rank's sample, at the start and after the climb along it."""

    def gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        return 2 * (x @ w - y) * x  # of the squared error of one sample

    start, here, nearby = START.numpy(), [], []
    for x, y in zip(INPUTS.numpy(), TARGETS.numpy(), strict=True):
        own = gradient(x, y[0], start)
        here.append(own)
        nearby.append(gradient(x, y[0], start + RHO * own / np.linalg.norm(own)))
    return np.array(here), np.array(nearby)


@pytest.mark.parametrize("scenario", ["climb", "climb_with_term", "climb_looksam"])
def test_each_rank_climbs_along_its_own_gradient(
    results: dict[str, Results], scenario: str
) -> None:
    _, nearby = gradients_by_hand()
    expected = nearby.mean(axis=0)
    if scenario == "climb_with_term":
        # It is (rank + 1) * sum w^3, not perturbed: taken at the start.
        expected += np.mean([(i + 1) * 3 * START.numpy() ** 2 for i in range(RANKS)], axis=0)
    for returned in results[scenario]:
        np.testing.assert_allclose(returned["step"].numpy(), expected, rtol=1e-10)


def test_looksam_remembers_what_the_climb_added_to_the_gradient_of_all_ranks(
    results: dict[str, Results],
) -> None:
    here, nearby = (gradients.mean(axis=0) for gradients in gradients_by_hand())
    added = nearby - here * (here @ nearby) / (here @ here)
    for returned in results["climb_looksam"]:
        (direction,) = returned["remembered"].values()
        np.testing.assert_allclose(direction[0].numpy(), added / np.linalg.norm(added), rtol=1e-6)


def test_looksam_adds_relative_to_the_gradient_of_all_ranks(results: dict[str, Results]) -> None:
    here, nearby = (gradients.mean(axis=0) for gradients in gradients_by_hand())
    added = nearby - here * (here @ nearby) / (here @ here)
    expected = here + 0.7 * np.linalg.norm(here) * added / np.linalg.norm(added)
    # (rank + 1) * sum w^3, not perturbed
    expected += np.mean([(i + 1) * 3 * START.numpy() ** 2 for i in range(RANKS)], axis=0)
    for returned in results["between_looksam"]:
        (gradient,) = returned["gradient"]
        np.testing.assert_allclose(gradient[0].numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("scenario", ["dim", "dim_esam", "dim_critic"])
def test_after_twenty_steps_of_dim_all_ranks_are_equal_bit_for_bit(
    results: dict[str, Results], scenario: str
) -> None:
    first, second = results[scenario]
    assert len(first["path"]) == DIM_STEPS
    assert first["skipped"] == second["skipped"] == 0
    assert all(equal(a, b) for a, b in zip(first["path"], second["path"], strict=True))
    assert equal(first["teacher"], second["teacher"])
    assert equal(first["critic"], second["critic"])
    assert bool(first["critic"]) == (scenario == "dim_critic")
    assert first["scale"] == second["scale"] != 1.0
    assert first["drawn"] == second["drawn"]
    assert np.any(first["drawn"]) == (scenario == "dim_esam")
    # They did look at different images, and did learn.
    assert all(a != b for a, b in zip(first["losses"], second["losses"], strict=True))
    assert all(not equal(a, b) for a, b in pairwise(first["path"]))


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name.startswith("poisoned")])
def test_all_ranks_skip_a_step_that_is_not_finite_on_one(
    results: dict[str, Results], scenario: str
) -> None:
    for returned in results[scenario]:
        before, bad, after = returned["path"]
        assert returned["skipped"] == 1
        assert returned["gradient_scale"] == SCALE / 2  # halved on both, or they would part
        assert equal(before, bad)
        assert not equal(bad, after)
        for part in ("student", "teacher", "critic"):
            assert all(torch.isfinite(value).all() for value in returned[part].values())
    first, second = results[scenario]
    assert equal(first["student"], second["student"])
    assert equal(first["critic"], second["critic"])
    assert first["scale"] == second["scale"]


@pytest.mark.parametrize("scenario", ["resumed", "resumed_looksam"])
def test_a_run_that_goes_on_has_on_every_rank_the_bits_of_one_that_was_not_stopped(
    results: dict[str, Results], scenario: str
) -> None:
    for returned in results[scenario]:
        whole, parts = returned["whole"], returned["parts"]
        assert whole["from_the_start"]
        assert not parts["from_the_start"]
        assert whole["steps"] == parts["steps"] == RESUMED_STEPS
        assert equal(whole["student"], parts["student"])
        assert equal(whole["teacher"], parts["teacher"])
        assert torch.equal(whole["random"], parts["random"])
        assert whole["divergence"]["ratios"] == parts["divergence"]["ratios"] != []
        assert equal(whole["divergence"]["past"], parts["divergence"]["past"])
        assert equal(whole["remembered"], parts["remembered"])
        assert bool(parts["remembered"]) == (scenario == "resumed_looksam")
    first, second = (returned["parts"] for returned in results[scenario])
    assert equal(first["student"], second["student"])
    # What one checkpoint can hold: the ranks saw other images and remember the same.
    assert equal(first["divergence"]["past"], second["divergence"]["past"])
    assert equal(first["remembered"], second["remembered"])
    assert first["divergence"]["past"].keys() == {"labelled", "unlabelled"}


def test_a_finished_run_is_found_by_the_last_rank_before_the_first_ends_it(
    results: dict[str, Results],
) -> None:
    for returned in results["finished"]:
        whole, again = returned["whole"], returned["again"]
        assert not again["from_the_start"]
        assert again["steps"] == RESUMED_STEPS
        assert equal(whole["student"], again["student"])
        assert equal(whole["teacher"], again["teacher"])


def test_collectives_say_the_same_on_all_ranks(results: dict[str, Results]) -> None:
    for returned in results["collectives"]:
        assert [value.item() for value in returned["mean"]] == [1.5, 5.0]
        assert returned["finite"] == [True, False]


def test_without_a_process_group_collectives_are_the_identity() -> None:
    def values() -> list[Tensor]:
        return [torch.tensor([1.0, 2.0]), torch.tensor(3.0)]

    tensors = values()
    average_tensors(tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, values(), strict=True))
    assert (rank(), world_size()) == (0, 1)
    assert all_finite(tensors[0])
    assert not all_finite(torch.tensor([1.0, float("nan")]))
