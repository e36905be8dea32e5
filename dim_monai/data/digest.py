"""Whether two runs have the same data."""

from __future__ import annotations

import hashlib
import json

from dim_monai.data.checks.hashes import hash_case_file
from dim_monai.data.datalist import HASH_KEYS, Datalist, TrainingData, hashed
from dim_monai.data.datalist_json import files_of
from dim_monai.data.identity import identity_of, key_of
from dim_monai.data.remembered import Remembered

HASHES = "hashes.json"


def data_digest(lists: Datalist | TrainingData, cache_dir: str | None = None) -> str:
    """Return the SHA-256 of the training's three lists: names, order and content of every file.

    Places do not count: a data set that was moved is the same. Hashes that the data list states
    are taken from it (they were checked when the training began), others are computed.

    Args:
        lists: of the training.
        cache_dir: folder that remembers the hashes of files that have not changed since.

    Raises:
        DataError: a DICOM series cannot be read, or ``cache_dir`` cannot be written.
    """
    remembered = Remembered(cache_dir, HASHES)
    document = {
        name: [
            {
                **{key: entry.get(key) for key in ("case", "domain", "patient")},
                **{
                    key: entry.get(HASH_KEYS[key]) or _hash(entry[key], remembered)
                    for key in files_of(entry)
                },
            }
            for entry in hashed(lists, name)
        ]
        for name in ("labeled", "unlabeled", "validation")
    }
    remembered.save()
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _hash(path: str, remembered: Remembered) -> str:
    key = key_of(identity_of(path))  # before it is read, see `Remembered`
    known = remembered.recall(key)
    if not isinstance(known, str):
        known = hash_case_file(path)
        remembered.note(key, known)
    return known
