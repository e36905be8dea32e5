"""The examples in docstrings give what they print."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import dim_monai

MODULES = [m.name for m in pkgutil.walk_packages(dim_monai.__path__, "dim_monai.")]
WITH_EXAMPLES = {
    "dim_monai.divergence",
    "dim_monai.files",
    "dim_monai.cup_to_disc",
    "dim_monai.metrics.case",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
    assert results.attempted > 0 or name not in WITH_EXAMPLES


def test_the_modules_that_have_examples_are_among_them() -> None:
    assert set(MODULES) >= WITH_EXAMPLES
