"""The gate: every case of some lists is opened once, and every fault is told.

Cases are read by a few threads, because most of reading is decompression, which lets others run.
What is found comes in the order of the lists, however many threads there are; each holds one case
in memory, and nothing is written but, for a training, which cases were sound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from dim_monai.data.checks.case import CaseFacts, Inspected, inspect_case
from dim_monai.data.checks.classes import absent_classes, empty_validation
from dim_monai.data.checks.equal import equal_images
from dim_monai.data.checks.faults import Fault, no_labelled_case
from dim_monai.data.checks.hashes import missing_hashes
from dim_monai.data.checks.known import KnownCases
from dim_monai.data.datalist import Datalist, Entry, TrainingData, hashed
from dim_monai.data.kinds import get_kind
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import DataError, counted

TRAINING_SPLITS = ("labeled", "unlabeled", "validation")

MAX_THREADS = 4
"""More gain nothing where the disk or the interpreter is the limit, and each holds a case."""

Progress = Callable[[int, int], None]
"""Is told how many cases are done, and of how many."""


def check_cases(
    datalist: Datalist | TrainingData,
    mapping: LabelMapping,
    *,
    splits: Sequence[str] = TRAINING_SPLITS,
    kind: str = "volume",
) -> list[Fault]:
    """Return every fault of every case of ``splits``; an empty list means that all is sound.

    Args:
        datalist: the cases.
        mapping: which label values are allowed.
        splits: the lists to check. The test list is not one of them unless asked for.
        kind: "volume" or "photograph".

    Raises:
        ConfigError: there is no such kind.
    """
    faults, _ = _check(datalist, mapping, splits, kind, KnownCases(None, mapping, kind))
    return faults


def require_sound(
    datalist: Datalist | TrainingData,
    mapping: LabelMapping,
    *,
    splits: Sequence[str] = TRAINING_SPLITS,
    kind: str = "volume",
    cache_dir: str | None = None,
) -> list[CaseFacts]:
    """Return the facts of every case of ``splits``, or raise one error that lists every fault.

    The other arguments are those of `check_cases`.

    Args:
        datalist: the cases.
        mapping: which label values are allowed.
        splits: the lists to check.
        kind: "volume" or "photograph".
        cache_dir: folder with the facts of cases that were sound: one whose files have not changed
            since is not opened again. Written only if there is no fault.

    Raises:
        ConfigError: there is no such kind.
        DataError: there is a fault; the message has one line for each. Or ``cache_dir`` cannot be
            written.
    """
    known = KnownCases(cache_dir, mapping, kind)
    faults, facts = _check(datalist, mapping, splits, kind, known)
    if faults:
        lines = [f"the data cannot be used, {counted(len(faults), 'fault')}:", *map(str, faults)]
        raise DataError("\n  ".join(lines))
    known.save()
    return facts


def inspect_all(
    cases: Sequence[tuple[Entry, str]],
    mapping: LabelMapping | None,
    kind: str,
    *,
    pictures: Collection[int] = (),
    progress: Progress | None = None,
    threads: int | None = None,
) -> Iterator[Inspected]:
    """Yield what was found in each case, in the order of the cases.

    Args:
        cases: each with the name of its list.
        mapping: which label values are allowed; None allows every integer.
        kind: "volume" or "photograph".
        pictures: places of the cases that a contact sheet shows.
        progress: told after each case.
        threads: that read; None for one a processor, at most `MAX_THREADS`.
    """
    known = get_kind(kind)

    def inspect(place: int) -> Inspected:
        entry, split = cases[place]
        return inspect_case(entry, split, mapping, known, picture=place in pictures)

    with ThreadPoolExecutor(threads or min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for place, inspected in enumerate(pool.map(inspect, range(len(cases)))):
            if progress is not None:
                progress(place + 1, len(cases))
            yield inspected


def _check(
    datalist: Datalist | TrainingData,
    mapping: LabelMapping,
    splits: Sequence[str],
    kind: str,
    known: KnownCases,
) -> tuple[list[Fault], list[CaseFacts]]:
    cases = [(entry, split) for split in splits for entry in hashed(datalist, split)]
    faults = [no_labelled_case()] if "labeled" in splits and not datalist.labeled else []
    faults += missing_hashes([entry for entry, _ in cases])
    keys = [known.key(entry, split) for entry, split in cases]
    told = [known.facts(key, *case) for key, case in zip(keys, cases, strict=True)]
    unknown = [place for place, facts in enumerate(told) if facts is None]
    inspected = inspect_all([cases[place] for place in unknown], mapping, kind)
    for place, case in zip(unknown, inspected, strict=True):
        found = [fault for fault in case.found if not fault.is_remark]
        faults += found
        told[place] = case.facts
        if case.facts is not None and not found:
            known.note(keys[place], case.facts)
    read = [(entry, facts) for (entry, _), facts in zip(cases, told, strict=True) if facts]
    faults += equal_images(read, get_kind(kind), remarks=False)
    facts_read = [facts for _, facts in read]
    faults += absent_classes(facts_read, mapping)
    if "labeled" in splits:  # a training; what is only scored has a rule of its own for no truth
        faults += empty_validation(facts_read)
    return faults, facts_read
