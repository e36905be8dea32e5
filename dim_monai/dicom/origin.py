"""Whose series it is and which scanner made it, without the name of anybody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pydicom

from dim_monai.dicom.instance import damaged, parsing

_PSEUDONYM_DIGITS = 16


@dataclass(frozen=True)
class Origin:
    """Where an instance comes from.

    Attributes:
        patient: a pseudonym, the same for the same PatientID: the first 16 hexadecimal digits of
            its SHA-256. Whoever can guess the identifier can check the guess: it keeps identifiers
            out of files, it does not make them secret. None where there is no PatientID.
        scanner: manufacturer and model in letters, digits and "-"; None where neither is given.
    """

    patient: str | None
    scanner: str | None


def read_origin(path: Path) -> Origin:
    """Returns the origin of the instance at `path`.

    Raises:
        DataError: the file cannot be parsed.
    """
    tags = ["PatientID", "Manufacturer", "ManufacturerModelName"]
    try:
        with parsing():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            patient, *scanner = (str(dataset.get(tag) or "").strip() for tag in tags)
    except Exception as error:  # as in dim_monai.dicom.instance
        raise damaged(path, type(error).__name__) from error
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in " ".join(scanner)).split()
    pseudonym = hashlib.sha256(patient.encode()).hexdigest()[:_PSEUDONYM_DIGITS]
    return Origin(pseudonym if patient else None, "-".join(words) or None)
