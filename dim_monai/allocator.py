"""How the C library treats the memory of tensors on the CPU while a network is trained."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
# Where glibc's own thresholds end in a process that has freed large blocks; a call of mallopt fixes
# them, so that they must be named.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Within it, freed memory stays with the process and serves the next tensors.

    Otherwise glibc asks the kernel for every tensor above 32 MiB anew and gives it back when it is
    freed, and the kernel clears each page at its first touch: at the reference size of
    ``benchmarks/speed.py`` that is a sixth of the time. No value changes. Afterwards what is free
    goes back to the kernel. It is of the whole process and does not nest.

    Args:
        device: of the training; nothing is done unless it is the CPU, the system Linux and the C
            library glibc. Other allocators keep their own counsel.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _set(libc, _USUAL)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
