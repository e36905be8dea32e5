"""Whether a file is still the one that its data list was written for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dim_monai.data.checks.faults import Fault
from dim_monai.data.datalist import HASH_KEYS, Entry
from dim_monai.data.prepare.publish import sha256_of
from dim_monai.dicom.series import read_headers
from dim_monai.errors import DataError


def check_hash(entry: Entry, key: str) -> Iterator[Fault]:
    """Yield a fault if the file under ``key`` has another SHA-256 than the entry says.

    A DICOM series has one for all its files. Nothing is yielded where the entry says none, or where
    the file cannot be opened, which is found when it is read.
    """
    expected = entry.get(HASH_KEYS[key])
    if expected is None:
        return
    try:
        got = hash_case_file(entry[key])
    except DataError:
        return
    if got != expected:
        yield Fault(
            "D009",
            f"{key} differs from its hash",
            entry[key],
            got=f"SHA-256 {got[:12]}...",
            expected=f"{expected[:12]}... as when the data list was written",
            do="restore the file; if the change is meant, write the data list anew",
        )


def missing_hashes(entries: Sequence[Entry]) -> Iterator[Fault]:
    """Yield a fault for each file without a hash, if any file of the lists has one."""
    named = [(entry, key) for entry in entries for key in HASH_KEYS if key in entry]
    if not any(HASH_KEYS[key] in entry for entry, key in named):
        return
    for entry, key in named:
        if HASH_KEYS[key] not in entry:
            yield Fault(
                "D010",
                f"{key} has no hash, though others have one",
                entry[key],
                expected=f'its SHA-256 as "{HASH_KEYS[key]}"',
                do="write the data list anew: the entry was added or edited by hand",
            )


def hash_case_file(path: str) -> str:
    """Return the SHA-256 of a file, or of the files of a DICOM series in the order of names.

    Raises:
        DataError: a folder holds no series that can be read.
    """
    file = Path(path)
    return sha256_of([header.file for header in read_headers(file)] if file.is_dir() else [file])
