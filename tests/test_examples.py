"""The examples in docstrings give what they print."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import dim_monai

NAMES = [m.name for m in pkgutil.walk_packages(dim_monai.__path__, "dim_monai.")]
MODULES = [name for name in NAMES if not name.endswith("__main__")]  # which run when imported
WITH_EXAMPLES = {
    "dim_monai.divergence",
    "dim_monai.files",
    "dim_monai.cup_to_disc",
    "dim_monai.metrics.case",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "monailabel":
            raise
        pytest.skip("MONAI Label is not installed: it has an environment of its own")
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 0 or name not in WITH_EXAMPLES


def test_the_modules_that_have_examples_are_among_them() -> None:
    assert set(MODULES) >= WITH_EXAMPLES
