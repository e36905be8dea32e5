"""By which the network that is scored is told from another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors of a state dict with their names, in the order of these.

    It is of the weights and not of a file, so that it is the same for all formats of files.

    Args:
        state: dense tensors of any type, on any device.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
