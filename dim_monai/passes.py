"""Which views of a step go through the student together, and what each of them got."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from dim_monai.objectives import View

JOINT_PIXELS = 2**19
"""Of a step's views on the CPU, up to which they are one batch. At 16 images of 96 x 96 that saves
a fifth to a quarter of the time (``benchmarks/speed.py``); large ones keep a processor busy alone,
and joined their tensors leave gaps in the memory that is kept."""


def joins(views: Sequence[View], device: torch.device) -> bool:
    """Return whether views are better one batch, by the device and their pixels."""
    pixels = sum(view.image.numel() // view.image.shape[1] for view in views)
    return device.type != "cpu" or pixels <= JOINT_PIXELS


def share_passes(
    views: Sequence[View],
    *,
    joint: bool,
    first_pass_terms: frozenset[str] = frozenset(),
    extra_terms: Collection[str] = (),
    terms_apart: bool = False,
) -> list[list[int]]:
    """Return the places of the views that go through the student together, pass by pass.

    A backward pass through a joint batch costs as much for one of its views as for all. Hence views
    are together whose terms are differentiated together. What has a second pass comes first in
    both, so that random layers treat it alike.

    Args:
        views: of a step.
        joint: whether views may be together at all.
        first_pass_terms: that have no second pass.
        extra_terms: of handlers, which look at unmixed unlabelled images.
        terms_apart: whether every term is differentiated by itself.
    """
    looked_at_once = not first_pass_terms.isdisjoint(extra_terms)
    groups: dict[tuple[int, int | str], list[int]] = {}
    for place, view in enumerate(views):
        order = int(view.origin == "unlabelled" and looked_at_once)
        order = 2 if view.term in first_pass_terms else order
        company: int | str = (view.origin if terms_apart else "") if joint else place
        groups.setdefault((order, company), []).append(place)
    return [places for _, places in sorted(groups.items(), key=lambda group: group[0][0])]


def by_view(
    views: Sequence[View], passes: Sequence[Sequence[int]], outputs: Sequence[Tensor]
) -> list[Tensor]:
    """Deal out to the views what each pass gave.

    Args:
        views: of a step.
        passes: as of :func:`share_passes`.
        outputs: of each pass, its images joined along the first axis.
    """
    found: dict[int, Tensor] = {}
    for places, output in zip(passes, outputs, strict=True):
        split = torch.split(output, [len(views[place].image) for place in places])
        found |= dict(zip(places, split, strict=True))
    return [found[place] for place in range(len(views))]
