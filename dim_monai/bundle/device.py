"""A device that can be computed on."""

from __future__ import annotations

import torch

from dim_monai.errors import ConfigError


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device, which exists: what PyTorch says comes late and is long.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except Exception as error:  # each backend has errors of its own
        raise ConfigError(
            "no such device", got=device, do="name one that PyTorch sees, such as cpu or cuda:0"
        ) from error
    return found
