"""Seeded draws of whole patients: the one place where chance decides who is in which list."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

FEWEST_PATIENTS = 3
"""Fewest patients a part is drawn from: with two, one would train and one would be scored alone."""

NOTHING_SELECTED = "nothing was selected"
"""How the note begins that a data list without validation cases carries."""


def too_few(patients: int) -> str:
    """Return why nothing was drawn for validation, in words."""
    return (
        f"{patients} labelled patients are too few for a validation set, "
        f"which takes {FEWEST_PATIENTS}"
    )


def rank(names: Iterable[str], seed: int) -> list[str]:
    """Return the names, each once, in the order of the SHA-256 of seed and name.

    The order depends on neither the order of `names` nor the version of a random generator, and a
    name that is added or taken out does not change the order of the others.

    Example:
        >>> rank(["a", "b", "c"], seed=0) == rank("cabba", seed=0)
        True
    """
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def draw(names: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Return a seeded part of the names: the first of `rank`.

    Args:
        names: of patients; repeated ones count once.
        fraction: of the ``n`` names, in [0, 1).
        seed: of the order.

    Returns:
        ``round(fraction * n)`` names, at least one and never all; none where ``n`` is below
        `FEWEST_PATIENTS` or ``fraction`` is 0.
    """
    ranked = rank(names, seed)
    if fraction == 0 or len(ranked) < FEWEST_PATIENTS:
        return set()
    return set(ranked[: min(max(1, round(fraction * len(ranked))), len(ranked) - 1)])
