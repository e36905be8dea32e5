"""Laws of the named streams: a draw depends on seed, name and position, and on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dim_monai.streams import stream_generator, stream_seed


def draws(*key: str | int, seed: int = 0) -> list[float]:
    return torch.rand(4, generator=stream_generator(seed, *key)).tolist()


def test_a_position_can_be_drawn_again_at_any_time() -> None:
    forwards = [draws("boxes", step) for step in range(5)]
    torch.manual_seed(99)
    np.random.seed(99)
    assert [draws("boxes", step) for step in reversed(range(5))] == forwards[::-1]


def test_seed_name_and_every_part_of_the_position_count() -> None:
    keys = [
        (0, "boxes", 1, 2),
        (1, "boxes", 1, 2),
        (0, "views", 1, 2),
        (0, "boxes", 2, 1),
        (0, "boxes", 1, 3),
        (0, "boxes", 3, 2),
        (0, "views", "boxes", 1),
        (0, "boxes", "views", 1),
    ]
    assert len({tuple(draws(*key, seed=seed)) for seed, *key in keys}) == len(keys)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**40])
def test_neighbouring_positions_share_nothing(seed) -> None:
    seeds = np.array([stream_seed(seed, "boxes", step) for step in range(2000)], dtype=np.float64)
    assert seeds.min() >= 0
    assert seeds.max() < 2**32
    # Two of 2000 numbers of 32 bits coincide once in 2000 such runs.
    assert len(set(seeds)) >= 1999
    uniform = seeds / 2**32
    # Within five standard errors of a uniform and uncorrelated sequence.
    assert abs(uniform.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 2000)
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 5 / np.sqrt(2000)


def test_another_process_draws_the_same() -> None:
    # The hash of a string differs from process to process; a stream must not come from it.
    code = (
        "from dim_monai.streams import stream_seed; print(stream_seed(3, 'views', 'labelled', 7))"
    )
    for hash_seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(answer.stdout) == stream_seed(3, "views", "labelled", 7)


def test_the_generator_lives_on_the_cpu_and_begins_at_the_seed() -> None:
    generator = stream_generator(5, "order", 2)
    assert generator.device.type == "cpu"
    assert generator.initial_seed() == stream_seed(5, "order", 2)
