"""Classes that a network is to learn, or to be chosen by, and that no label shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.faults import Fault
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import counted


def absent_classes(cases: Sequence[CaseFacts], mapping: LabelMapping | None) -> Iterator[Fault]:
    """Yield one fault for each class that no case trains while others of its labels do.

    A mask of the disc alone, read with a class for the cup, says that no eye has a cup; a network
    would learn that, and score well on masks of the same kind. Labels without any class have a
    fault of their own, each.

    Args:
        cases: of any lists; those of ``labeled`` whose label can be read count.
        mapping: which values form which class; without one no class is expected.
    """
    shown = [case.volumes for case in cases if case.split == "labeled" and case.volumes is not None]
    if mapping is None or not any(any(volumes.values()) for volumes in shown):
        return
    for name in mapping.class_names[1:]:
        if not any(volumes[name] for volumes in shown):
            yield Fault(
                "D207",
                f"no label shows the class {name}",
                None,
                got=f"{name} in none of {len(shown)} labelled cases",
                expected=f"some label with {name}",
                do="check that the values mean what the label mapping says; for masks without "
                f"{name}, use an overlay or a label mapping that has no such class",
            )


def empty_validation(cases: Sequence[CaseFacts]) -> Iterator[Fault]:
    """Yield a fault where no validation case shows a structure: nothing could be selected by them.

    One empty truth among others is legitimate. Labels that cannot be read have faults of their own.

    Args:
        cases: of any lists; those of ``validation`` count.
    """
    volumes = [case.volumes for case in cases if case.split == "validation"]
    if volumes and all(shown is not None and not any(shown.values()) for shown in volumes):
        yield Fault(
            "D208",
            "every validation label is all background",
            None,
            got=f"no structure in {counted(len(volumes), 'validation case')}",
            expected="some structure in at least one of them",
            do="list a case under validation whose label shows it, or list none: then the last "
            "network is deployed",
        )
