"""Equal images under several names: found by their pixels, and taken for one patient."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.prepare.found import FoundCase


def pixel_hash(pixels: NDArray[Any]) -> str | None:
    """Return the SHA-256 of an image's shape and values, None if all its pixels are equal.

    The values are compared as float32, so that the format of the file does not matter. An image
    of one value shows nobody: two of them are no sign of one patient.
    """
    values = np.ascontiguousarray(pixels, dtype=np.float32) + np.float32(0)  # -0 becomes 0
    if values.size == 0 or values.min() == values.max():
        return None
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.data)
    return digest.hexdigest()


def link_duplicates(
    cases: Sequence[FoundCase], hashes: Sequence[str | None]
) -> tuple[list[FoundCase], list[str]]:
    """Return the cases, each with a patient, and one note on equal images if there are any.

    A case whose layout does not tell the patient is a patient of its own. Patients who share an
    equal image become one, under the first of their names, so that no draw puts them on two sides.

    Args:
        cases: of the whole data set.
        hashes: the `pixel_hash` of each.
    """
    patients = [case.patient or case.name for case in cases]
    root = {patient: patient for patient in patients}

    def find(patient: str) -> str:
        while root[patient] != patient:
            patient = root[patient]
        return patient

    equal: defaultdict[str, list[int]] = defaultdict(list)
    for n, digest in enumerate(hashes):
        if digest is not None:
            equal[digest].append(n)
    groups = [group for group in equal.values() if len(group) > 1]
    for group in groups:
        for other in group[1:]:
            first, second = sorted((find(patients[group[0]]), find(patients[other])))
            root[second] = first
    linked = [
        replace(case, patient=find(patient)) for case, patient in zip(cases, patients, strict=True)
    ]
    return linked, [_note(cases, groups)] if groups else []


def _note(cases: Sequence[FoundCase], groups: Sequence[Sequence[int]]) -> str:
    named = min(" and ".join(sorted(cases[n].name for n in group)) for group in groups)
    return (
        f"{sum(map(len, groups))} images are equal pixel for pixel to another one, such as "
        f"{named}: equal images count as one patient"
    )
