"""Paired differences of methods, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from paired import paired_interval


def test_the_interval_of_a_constant_difference_is_that_number() -> None:
    baseline = {(seed, case): 0.1 * seed + 0.02 * case for seed in range(3) for case in range(7)}
    better = {key: value + 0.25 for key, value in baseline.items()}
    assert paired_interval(better, baseline) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_of_two_seeds_reaches_from_one_to_the_other() -> None:
    """Both draws are of the same seed in a quarter of all cases: more than 2.5 %."""
    better = {(0, "a"): 0.4, (1, "a"): 0.8, (2, "a"): 0.9}
    baseline = {(0, "a"): 0.5, (1, "a"): 0.5}
    assert paired_interval(better, baseline) == pytest.approx((0.1, -0.1, 0.3))


def test_the_interval_of_many_cases_is_that_of_their_mean() -> None:
    differences = np.random.default_rng(1).normal(0.05, 0.2, 400)
    better = {(0, case): value for case, value in enumerate(differences)}
    mean, low, high = paired_interval(better, dict.fromkeys(better, 0.0))
    half = 1.96 * differences.std() / np.sqrt(400)
    assert mean == pytest.approx(differences.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)
