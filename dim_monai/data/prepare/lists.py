"""Who stands in which list: given folders are kept, the rest is drawn by patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.data.prepare.domains import among
from dim_monai.data.prepare.found import FoundCase
from dim_monai.data.prepare.split import NOTHING_SELECTED, draw, rank, too_few
from dim_monai.errors import ConfigError, DataError


@dataclass(frozen=True)
class Wish:
    """What the user wants of the lists.

    Attributes:
        labeled_domain: the one domain whose labels may be used before the test; None for all.
        labeled: how many labelled cases train; None for all that are left.
        seed: of every draw.
        validation_fraction: of the labelled patients, in [0, 1).
        test_fraction: of the labelled patients of each domain, in [0, 1).
        paper_protocol: take the first files instead of drawing, and no validation.
    """

    labeled_domain: str | None = None
    labeled: int | None = None
    seed: int = 0
    validation_fraction: float = 0.2
    test_fraction: float = 0.0
    paper_protocol: bool = False

    def __post_init__(self) -> None:
        """Refuse what no data set could fulfil.

        Raises:
            ConfigError: a number is out of range, or two wishes contradict each other.
        """
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                got = getattr(self, name)
                raise ConfigError(f"{name} is out of range", got=got, expected="in [0, 1)")
        if self.labeled is not None and self.labeled < 1:
            raise ConfigError("labeled is out of range", got=self.labeled, expected="1 or more")
        if self.paper_protocol and (self.labeled is None or self.labeled_domain is None):
            raise ConfigError(
                "the reference protocol needs to know what is labelled",
                do="give --labeled-domain and --labeled with --paper-protocol",
            )


@dataclass(frozen=True)
class Lists:
    """The four lists, and what a reader of the results must know about them."""

    labeled: tuple[FoundCase, ...]
    unlabeled: tuple[FoundCase, ...]
    validation: tuple[FoundCase, ...]
    test: tuple[FoundCase, ...]
    notes: tuple[str, ...]


def choose(cases: Sequence[FoundCase], wish: Wish, *, source: Path) -> Lists:
    """Return the lists that a data set gives.

    Cases of a test folder are the test list; without such folders, ``test_fraction`` of the
    labelled patients of each domain are drawn. Of the labelled patients that are left (of
    ``labeled_domain``, where one is named), ``validation_fraction`` are drawn for validation, and
    ``labeled`` cases for training, patient after patient. Everything else trains without a label.
    Without a domain and a test list this is the draw of `open_datalist`.

    Every patient is in training, in validation or in test. A case that would train, and whose
    patient is on another side, is left out; a note says how many.

    Under ``paper_protocol`` the lists are those of the reference code of MiDSS: the first
    ``labeled`` training files of the domain by sorted name are labelled, nothing selects, and
    patients that the folders put on both sides stay there.

    Args:
        cases: of the data set, each with its patient.
        wish: what the user wants.
        source: the data set, for messages.

    Raises:
        ConfigError: a test fraction beside test folders.
        DataError: an unknown domain, fewer labelled cases than asked for, a case in a test folder
            without a label.
    """
    cases = sorted(cases, key=lambda case: (case.domain, case.case))
    domain = None
    if wish.labeled_domain is not None:
        domain = among(wish.labeled_domain, {case.domain for case in cases}, file=source)
    if wish.paper_protocol:
        return _reference(cases, wish, domain, source)
    notes: list[str] = []
    test = _test(cases, wish, notes)
    tested = _patients(test)
    usable = [c for c in cases if c.label and domain in (None, c.domain)]
    usable = [c for c in usable if _patient(c) not in tested]
    selecting = draw(_patients(usable), wish.validation_fraction, wish.seed)
    if not selecting:
        few = too_few(len(_patients(usable)))
        notes.append(
            f"{NOTHING_SELECTED}: {few if wish.validation_fraction else 'none was asked for'}"
        )
    validation = [c for c in usable if _patient(c) in selecting]
    candidates = [c for c in usable if _patient(c) not in selecting]
    order = {patient: n for n, patient in enumerate(rank(_patients(candidates), wish.seed))}
    candidates.sort(key=lambda c: (order[_patient(c)], c.case, c.domain))
    labeled = sorted(_first(candidates, wish, domain, source), key=lambda c: (c.domain, c.case))
    listed = {c.name for c in (*labeled, *validation, *test)}
    others = [c for c in cases if c.name not in listed]
    unlabeled = [c for c in others if _patient(c) not in tested | selecting]
    if left_out := len(others) - len(unlabeled):
        notes.append(
            f"left out: {left_out} images that could train, for their patients are in validation "
            "or test"
        )
    return Lists(tuple(labeled), tuple(unlabeled), tuple(validation), tuple(test), tuple(notes))


def _test(cases: Sequence[FoundCase], wish: Wish, notes: list[str]) -> list[FoundCase]:
    """Return the test list; say in ``notes`` which domains are too small for one."""
    given = [case for case in cases if case.part == "test"]
    if given and wish.test_fraction:
        raise ConfigError(
            "test_fraction for a data set with a test folder",
            got=wish.test_fraction,
            expected="0: the folder says what is tested",
        )
    if given:
        _require_labels(given)
        return given
    labelled = [case for case in cases if case.label]
    tested: set[str] = set()
    for domain in sorted({case.domain for case in labelled}) if wish.test_fraction else ():
        patients = _patients(case for case in labelled if case.domain == domain)
        drawn = draw(patients, wish.test_fraction, wish.seed)
        if not drawn:
            notes.append(f"no test case of {domain}: {len(patients)} labelled patients are too few")
        tested |= drawn
    return [case for case in labelled if _patient(case) in tested]


def _reference(cases: Sequence[FoundCase], wish: Wish, domain: str | None, source: Path) -> Lists:
    test = [case for case in cases if case.part == "test"]
    _require_labels(test)
    train = sorted((c for c in cases if c.part != "test"), key=lambda c: str(c.image))
    candidates = [case for case in train if case.label and case.domain == domain]
    labeled = _first(candidates, wish, domain, source)
    names = {case.name for case in labeled}
    notes = [
        f"{SELECTED_ON_TEST}: the reference protocol has no validation, so whatever is chosen by "
        "results of this list is chosen on its test cases"
    ]
    both = _patients(test) & _patients(train)
    if both:
        count = sum(_patient(case) in both for case in train)
        notes.append(
            f"{count} training images show patients, or are images, of the test folder: the "
            "reference protocol leaves them there"
        )
    # The lists could not hold one patient on two sides; that it is one is said by the note.
    parted = {
        name: tuple(
            replace(c, patient=f"{c.patient} in {c.part}") if _patient(c) in both else c
            for c in members
        )
        for name, members in (
            ("labeled", labeled),
            ("unlabeled", [case for case in train if case.name not in names]),
            ("test", test),
        )
    }
    return Lists(**parted, validation=(), notes=tuple(notes))


def _first(
    candidates: Sequence[FoundCase], wish: Wish, domain: str | None, source: Path
) -> list[FoundCase]:
    wanted = len(candidates) if wish.labeled is None else wish.labeled
    if wanted > len(candidates) or not candidates:
        raise DataError(
            "not enough labelled cases" if candidates else "no labelled case",
            file=source,
            got=f"{len(candidates)} to train on" + (f" in {domain}" if domain else ""),
            expected=f"{max(wanted, 1)}, besides those of validation and test",
            do="ask for fewer, or for smaller validation and test fractions"
            if candidates
            else None,
        )
    return list(candidates[:wanted])


def _require_labels(test: Iterable[FoundCase]) -> None:
    for case in test:
        if case.label is None:
            raise DataError(
                "test case without a label",
                file=case.image,
                expected="a label for every image of the test folder",
                do="add its label, or move the image to the training folder",
            )


def _patient(case: FoundCase) -> str:
    return case.patient or case.name


def _patients(cases: Iterable[FoundCase]) -> set[str]:
    return {_patient(case) for case in cases}
