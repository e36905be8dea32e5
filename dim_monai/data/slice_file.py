"""A prepared case on disk, of which one slice can be read without the others.

The format is safetensors: it holds no code, says where each tensor stands, and refuses a file that
was cut off. The first axis of every tensor is that of the slices, so a slice lies in one piece. Its
CRC-32, in the file's metadata, finds what a disk or a network has changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from dim_monai.files import atomic_write

SUFFIX = ".safetensors"
_CHECKSUMS = "crc32"


def write_slices(file: Path, slices: Mapping[str, Tensor]) -> None:
    """Write tensors (S, ...) of the same S under their names, atomically.

    Raises:
        OSError: the folder is missing, or the disk is full.
    """
    count = len(next(iter(slices.values())))
    checksums = (
        _checksum({key: tensor[position] for key, tensor in slices.items()})
        for position in range(count)
    )
    content = save(dict(slices), {_CHECKSUMS: " ".join(checksums)})
    # Its checksums tell what a power cut did; to wait for the disk takes longer than to prepare it.
    with atomic_write(file, "wb", durable=False) as stream:
        stream.write(content)


def count_slices(file: Path) -> int | None:
    """Return S from the head of a file; None if there is no file, or it is not whole."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            count = len(_checksums(opened))
            lengths = {found.get_shape()[0] for found in _tensors(opened).values()}
    except (SafetensorError, OSError, LookupError):
        return None
    return count if lengths == {count} else None


def read_slice(file: Path, position: int) -> dict[str, Tensor] | None:
    """Return one slice of every tensor; None if the file is gone, cut off or changed."""
    try:
        with safe_open(file, "pt") as opened:
            expected = _checksums(opened)[position]
            # Copies: what safetensors returns lies in the file, mapped into memory.
            found = {key: tensor[position].clone() for key, tensor in _tensors(opened).items()}
    except (SafetensorError, OSError, LookupError):
        return None
    return found if _checksum(found) == expected else None


def _tensors(opened: safe_open) -> dict[str, Any]:
    """Return what can be sliced, by name; nothing is read."""
    names: list[str] = opened.keys()  # type: ignore[no-untyped-call]
    return {name: opened.get_slice(name) for name in names}  # type: ignore[no-untyped-call]


def _checksums(opened: safe_open) -> list[str]:
    metadata: dict[str, str] = opened.metadata() or {}  # type: ignore[no-untyped-call]
    return metadata[_CHECKSUMS].split()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for key, tensor in sorted(tensors.items()):
        head = f"{key} {tensor.dtype} {list(tensor.shape)}"  # it can be damaged as well
        content = tensor.contiguous().view(-1).view(uint8).numpy()
        checksum = zlib.crc32(content.data, zlib.crc32(head.encode(), checksum))
    return f"{checksum:08x}"
