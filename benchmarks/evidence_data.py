"""The data lists of the cells of ``evidence.py``: who is labelled, unlabelled, and scored.

In ``test`` a part that was drawn once by `SPLIT_SEED` is scored, which no other part ever sees. In
``folds`` it stays closed: each seed draws from the rest a fold of the same kind, and scores that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cells import draw, photograph

Entry = dict[str, str]
SPLIT_SEED = 20261121
PARTS = ("folds", "test")


@dataclass(frozen=True)
class Split:
    """The cases of one cell.

    Attributes:
        lists: content of ``datalist.json``; its ``test`` is what this part scores.
        hidden: the unlabelled cases with the label that the training is not shown: what the
            teacher says of them is held against it afterwards.
    """

    lists: dict[str, list[Entry]]
    hidden: list[Entry]


@dataclass(frozen=True)
class Source:
    """Cases of two domains on disk, of which the first gives the labels.

    Attributes:
        scored: domain to number of patients that are scored.
        patients: data folder and domain to the cases of each patient.
        entry: data folder, domain, case and whether with its label to an entry of a data list.
        label_seed: added to the seed of a cell where it draws the labelled, so that finished cells
            keep theirs.
    """

    scored: Mapping[str, int]
    patients: Callable[[Path, str], Mapping[str, Sequence[str]]]
    entry: Callable[[Path, str, str, bool], Entry]
    label_seed: int = 0

    @property
    def domains(self) -> tuple[str, ...]:
        """The labelled domain, then the other."""
        return tuple(self.scored)

    def split(self, data: Path, part: str, labels: int, share: float, seed: int) -> Split:
        """Return the cases of a cell.

        Args:
            data: folder of the source.
            part: one of `PARTS`.
            labels: patients of the first domain of whom one case is labelled; their other cases
                are unlabelled.
            share: of the unlabelled cases of each domain that are used.
            seed: draws the fold, the labelled and the unlabelled.
        """
        lists: dict[str, list[Entry]] = {
            name: [] for name in ("labeled", "unlabeled", "validation", "test")
        }
        hidden = []
        for domain, count in self.scored.items():
            cases = self.patients(data, domain)
            scored, pool = draw(list(cases), count, SPLIT_SEED)
            if part == "folds":
                scored, pool = draw(pool, count, seed)
            shown = labels if domain == self.domains[0] else 0
            labelled = [cases[name][0] for name in draw(pool, shown, seed + self.label_seed)[0]]
            others = [case for name in pool for case in cases[name] if case not in labelled]
            used = draw(others, round(share * len(others)), seed + 2000)[0]
            test = [case for name in scored for case in cases[name]]
            lists["labeled"] += [self.entry(data, domain, case, True) for case in labelled]
            lists["unlabeled"] += [self.entry(data, domain, case, False) for case in used]
            lists["test"] += [self.entry(data, domain, case, True) for case in test]
            hidden += [self.entry(data, domain, case, True) for case in used]
        return Split(lists, hidden)


def _volumes(data: Path, domain: str) -> dict[str, list[str]]:
    """Every volume of ``prostate_t2`` is of another patient."""
    files = sorted((data / domain).glob("*_t2.nii.gz"))
    return {name: [name] for name in (file.name.removesuffix("_t2.nii.gz") for file in files)}


def _volume(data: Path, domain: str, case: str, label: bool) -> Entry:
    files = {"image": str(data / domain / f"{case}_t2.nii.gz")}
    if label:
        files["label"] = str(data / domain / f"{case}_seg.nii.gz")
    return {**files, "domain": domain, "case": case, "patient": f"{domain}/{case}"}


PROSTATE = Source({"rumc_320": 5, "rumc_384": 2}, _volumes, _volume, label_seed=1000)


def _person(domain: str, case: str) -> str:
    """Return whose photograph it is: in CHASE_DB1 the last letter of a name tells the eye."""
    return case[:-1] if domain == "chase_db1" else case


def _people(data: Path, domain: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted((data / domain / "image").iterdir()):
        found.setdefault(_person(domain, path.stem), []).append(path.stem)
    return found


def _photograph(data: Path, domain: str, case: str, label: bool) -> Entry:
    patient = f"{domain}/{_person(domain, case)}"
    return photograph(data / domain, case, label=label, domain=domain, patient=patient)


VESSELS = Source({"chase_db1": 3, "hrf": 6}, _people, _photograph)


def _synthetic(data: Path, domain: str) -> dict[str, list[str]]:
    """The cases of the demo set that have a label, whatever list they are in."""
    files = sorted(data.glob(f"*labels/{domain}/*.nii.gz"))
    return {name: [name] for name in (file.name.removesuffix(".nii.gz") for file in files)}


def _synthetic_volume(data: Path, domain: str, case: str, label: bool) -> Entry:
    (truth,) = data.glob(f"*labels/{domain}/{case}.nii.gz")
    folder = truth.parents[1].name.replace("labels", "images")
    files = {"image": str(data / folder / domain / truth.name)}
    if label:
        files["label"] = str(truth)
    return {**files, "domain": domain, "case": case, "patient": case}


DEMO = Source({"site_a": 2, "site_b": 1}, _synthetic, _synthetic_volume)
"""Two of the three sites: the third stores DICOM series, which take longer to read."""
