"""The formulae of docs/method.md are those of the code."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sympy  # which PyTorch brings
import torch

from dim_monai.divergence import DIVERGENCES, get_divergence
from tests.docs.pages import DOCS

ORDER = 0.3
ROWS = {
    name: cells
    for line in (DOCS / "method.md").read_text(encoding="utf-8").splitlines()
    if (found := re.match(r"\| `(\w+)`[^|]*\|(.*)\|$", line)) and (name := found[1]) in DIVERGENCES
    for cells in [[cell.strip() for cell in found[2].split("|")]]
}


def evaluate(formula: str, name: str, at: np.ndarray) -> np.ndarray:
    expression = sympy.parse_expr(formula)
    values = [complex(expression.subs({name: x, "a": ORDER})) for x in at.tolist()]
    return np.array(values).real


def test_every_divergence_has_its_row() -> None:
    assert set(ROWS) == set(DIVERGENCES)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_the_code_computes(name: str) -> None:
    generator, activation, conjugate, factor = ROWS[name]
    divergence = get_divergence(name, ORDER if name == "alpha" else None)
    assert float(sympy.Rational(factor)) == divergence.scale
    t = np.array([0.05, 0.4, 1.0, 2.5, 20.0])
    found = divergence.generator(torch.tensor(t)).numpy()
    assert np.allclose(divergence.scale * evaluate(generator, "t", t), found, atol=1e-9)
    v = np.array([-3.0, -0.5, 0.0, 0.7, 2.0])
    for formula, function in (
        (activation, divergence.activation),
        (conjugate, divergence.conjugate),
    ):
        assert np.allclose(evaluate(formula, "v", v), function(torch.tensor(v)).numpy(), atol=1e-9)


@pytest.mark.parametrize(
    ("order", "name", "factor"),
    [
        (1.0, "kl", 1.0),
        (0.0, "reverse_kl", 1.0),
        (0.5, "squared_hellinger", 4.0),
        (2.0, "pearson", 0.5),
        (-1.0, "neyman", 0.5),
    ],
)
def test_the_members_of_the_alpha_family_are_as_choosing_says(
    order: float, name: str, factor: float
) -> None:
    t = torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64)
    member = get_divergence("alpha", order).generator(t)
    assert torch.allclose(member, factor * get_divergence(name).generator(t))
