"""Whether labels show where a structure ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.faults import Fault

FEWEST_EMPTY = 0.1
"""Share of empty slices below which is remarked. With 0 to 3 of them in one or two labelled volumes
of the prostate 0.52 to 0.90 of the foreground of pseudo-labels was right, with 5 to 17 of them 0.74
to 0.98 (``docs/method.md``)."""


def hidden_ends(cases: Sequence[CaseFacts]) -> Iterator[Fault]:
    """Yield a remark if nearly every slice of the labelled volumes shows the structure.

    A network that has never seen a slice without it finds it in every slice, teaches that to itself
    on unlabelled volumes, and is trusted, because it is right wherever there is a label.

    Args:
        cases: of any lists; those of ``labeled`` with a label that can be read count.
    """
    counted = [
        (case.empty_slices, case.shape[2])
        for case in cases
        if case.split == "labeled" and case.empty_slices is not None
    ]
    if not counted:
        return
    empty, slices = map(sum, zip(*counted, strict=True))
    if empty / slices < FEWEST_EMPTY:
        yield Fault(
            "R007",
            "labels hardly show a slice without the structure",
            None,
            got=f"all background in {empty} of {slices} slices of the labelled volumes",
            do="label a volume, too, that goes on beyond the structure at both ends: from these a "
            "network does not learn where it ends",
        )
