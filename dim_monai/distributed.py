"""The few collective operations of one step; all are the identity in a single process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the position of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def meet() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


def average_tensors(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all ranks, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor.div_(world_size())


def all_finite(value: Tensor) -> bool:
    """Tell whether ``value`` is finite on every rank, so that all ranks decide alike."""
    finite = torch.isfinite(value).all().float()
    if world_size() > 1:
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite)
