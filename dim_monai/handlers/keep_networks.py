"""Student and teacher side by side, for what compares the two after the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from dim_monai.distributed import rank
from dim_monai.files import atomic_write


class KeepNetworks:
    """Write the last weights of several networks, a file each, when the training completes.

    `DeployBest` keeps the one network that is deployed. Where student and teacher disagree is worth
    knowing later: it tells which case to label next. A training that is interrupted writes nothing.

    Args:
        folder: of the files; each is ``<name>.pt``, a bare state dict, and replaced atomically.
        networks: name to network, bare (not wrapped for several devices).
    """

    def __init__(self, folder: str, networks: Mapping[str, nn.Module]) -> None:
        self.folder = Path(folder)
        self.networks = dict(networks)

    def attach(self, engine: Engine) -> None:
        """Write at the end; on the first rank only."""
        if rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, network in self.networks.items():
            weights = {key: value.detach().cpu() for key, value in network.state_dict().items()}
            with atomic_write(self.folder / f"{name}.pt", "wb") as file:
                torch.save(weights, file)
