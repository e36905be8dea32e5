"""Every view goes through the student once, in the company that its term allows."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from dim_monai.objectives import View
from dim_monai.passes import by_view, share_passes

ORIGINS = {"supervised": "labelled", "in": "mixed", "symmetric": "unlabelled", "out": "mixed"}


def views() -> list[View]:
    """Of one, two, three and four images, each of its place's value."""
    return [
        View(
            term,
            torch.full((place + 1, 1, 2, 2), float(place)),
            torch.zeros(place + 1, 1, 2, 2, dtype=torch.int64),
            origin=origin,
        )
        for place, (term, origin) in enumerate(ORIGINS.items())
    ]


@pytest.mark.parametrize(
    ("joint", "first", "apart"),
    product((True, False), (frozenset[str](), frozenset({"in", "f"})), (True, False)),
)
def test_every_view_has_one_pass_and_gets_what_it_made(
    joint: bool, first: frozenset[str], apart: bool
) -> None:
    shown = views()
    passes = share_passes(
        shown, joint=joint, first_pass_terms=first, extra_terms={"f"}, terms_apart=apart
    )
    assert sorted(place for places in passes for place in places) == [0, 1, 2, 3]
    outputs = [10 * torch.cat([shown[place].image for place in places]) for places in passes]
    for view, output in zip(shown, by_view(shown, passes, outputs), strict=True):
        assert torch.equal(output, 10 * view.image)


def test_who_goes_together() -> None:
    shown = views()
    assert share_passes(shown, joint=True) == [[0, 1, 2, 3]]
    assert share_passes(shown, joint=False) == [[0], [1], [2], [3]]
    assert share_passes(shown, joint=True, terms_apart=True) == [[0], [1, 3], [2]]
    # What has a second pass comes first, and in it stands where it stood in the first.
    only = frozenset({"in"})
    assert share_passes(shown, joint=True, first_pass_terms=only) == [[0, 2, 3], [1]]
    again = [shown[place] for place in (0, 2, 3)]
    assert share_passes(again, joint=True, first_pass_terms=only) == [[0, 1, 2]]
    # A term of a handler that has no second pass, either, looks at the unlabelled images.
    with_extra = frozenset({"in", "f"})
    shared = share_passes(shown, joint=True, first_pass_terms=with_extra, extra_terms={"f"})
    assert shared == [[0, 3], [2], [1]]
