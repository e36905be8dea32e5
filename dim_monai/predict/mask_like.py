"""Whether a NIfTI file that is not named as a mask holds one all the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dim_monai.data.reader import read_case
from dim_monai.errors import DataError

MOST_VALUES = 16
"""An image has hundreds of different values; a mask one for each of a few structures."""

_PACKED = 0.1
"""Share of their size to which gzip packs the voxels of a mask at most: it takes 1 % as a rule, an
image half. Only what is packed like that is unpacked for a look."""

_SAMPLE = 10_000
_NAMED = 4


def reason_to_skip_file(path: Path) -> str | None:
    """Return why a NIfTI file is no image, in words; None where it may be one.

    A mask has from 2 to `MOST_VALUES` values, all of them whole numbers. What cannot be read is
    left to the reader of cases, which says why.
    """
    try:
        if path.name.lower().endswith(".gz") and not _packed_well(path):
            return None
        voxels = read_case(path)[0].ravel(order="K")
    except (DataError, OSError):
        return None
    sample = voxels[:: max(1, voxels.size // _SAMPLE)]
    if len(np.unique(sample)) > MOST_VALUES:
        return None
    values = np.unique(voxels)
    if not 1 < len(values) <= MOST_VALUES or (values % 1).any():
        return None
    named = ", ".join(f"{value:.0f}" for value in values[:_NAMED])
    more = ", ..." if len(values) > _NAMED else ""
    return f"values of a mask ({named}{more})"


def _packed_well(path: Path) -> bool:
    with path.open("rb") as file:
        packed = file.seek(0, os.SEEK_END)
        file.seek(max(0, packed - 4))  # RFC 1952: the size of what is in it, modulo 2**32
        unpacked = int.from_bytes(file.read(), "little")
        # What says less is above 4 GiB, or of several members, of which this is the last one's.
        return unpacked < packed or packed < _PACKED * unpacked
