"""What a check found, as values and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dim_monai.data.checks.case import INTENSITY_PERCENTILES, CaseFacts
from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.sample import Sample
from dim_monai.data.checks.summary import DomainSummary
from dim_monai.data.kinds import get_kind

SCHEMA = 1
"""Version of the JSON document; it grows when a key changes its meaning or goes away."""


@dataclass(frozen=True)
class Checked:
    """Everything that the check of a data set found.

    Attributes:
        path: what was checked.
        kind: "volume" or "photograph".
        source: how the lists were obtained, in words.
        notes: what the data list itself says about them.
        faults: why the data cannot be used; empty where they can.
        remarks: what a person should know, and may be fine.
        cases: the facts of every case whose image can be read.
        domains: the same, summed up per domain.
        samples: what a contact sheet shows; empty unless asked for.
        class_names: of the label mapping; empty without one.
    """

    path: str
    kind: str
    source: str
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]
    remarks: tuple[Fault, ...]
    cases: tuple[CaseFacts, ...]
    domains: tuple[DomainSummary, ...]
    samples: tuple[Sample, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    @property
    def volume_unit(self) -> str:
        """Unit of `CaseFacts.volumes`: "ml", or "px" for photographs."""
        return "px" if get_kind(self.kind).unit == "px" else "ml"

    def as_dict(self) -> dict[str, Any]:
        """Return what `json.dump` takes: the document of ``dim-monai check --json``."""
        return {
            "schema": SCHEMA,
            "path": self.path,
            "kind": self.kind,
            "source": self.source,
            "notes": list(self.notes),
            "sound": self.is_sound,
            "faults": [fault.as_dict() for fault in self.faults],
            "remarks": [remark.as_dict() for remark in self.remarks],
            "domains": [self._domain(summary) for summary in self.domains],
            "cases": [self._case(case) for case in self.cases],
        }

    def _domain(self, summary: DomainSummary) -> dict[str, Any]:
        return {
            "domain": summary.domain,
            "cases": summary.cases,
            "labelled": summary.labelled,
            "size": [list(pair) for pair in summary.size],
            "spacing_mm": [list(pair) for pair in summary.spacing_mm],
            "orientations": summary.orientations,
            "intensity": _named(summary.intensity),
            f"volumes_{self.volume_unit}": summary.volumes,
        }

    def _case(self, case: CaseFacts) -> dict[str, Any]:
        return {
            "case": case.case,
            "domain": case.domain,
            "split": case.split,
            "size": list(case.shape),
            "spacing_mm": list(case.spacing_mm),
            "orientation": case.orientation,
            "intensity": _named(case.intensity),
            f"volumes_{self.volume_unit}": None if case.volumes is None else dict(case.volumes),
            "empty_slices": case.empty_slices,
        }


def _named(intensity: tuple[float, ...]) -> dict[str, float]:
    return {f"p{p:g}": value for p, value in zip(INTENSITY_PERCENTILES, intensity, strict=True)}
