"""Whether two runs have the same data."""

from __future__ import annotations

import hashlib
import json

from dim_monai.data.checks.hashes import hash_case_file
from dim_monai.data.datalist import HASH_KEYS, Datalist, TrainingData, hashed
from dim_monai.data.datalist_json import files_of


def data_digest(lists: Datalist | TrainingData) -> str:
    """Return the SHA-256 of the training's three lists: names, order and content of every file.

    Places do not count: a data set that was moved is the same. Hashes that the data list states
    are taken from it (they were checked when the training began), others are computed.

    Raises:
        DataError: a DICOM series cannot be read.
    """
    document = {
        name: [
            {
                **{key: entry.get(key) for key in ("case", "domain", "patient")},
                **{
                    key: entry.get(HASH_KEYS[key]) or hash_case_file(entry[key])
                    for key in files_of(entry)
                },
            }
            for entry in hashed(lists, name)
        ]
        for name in ("labeled", "unlabeled", "validation")
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
