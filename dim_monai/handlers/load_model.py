"""The deployed weights, loaded when an evaluation or an inference begins."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from dim_monai.data.weights import load_model, pretrained_note
from dim_monai.engine import bare

logger = logging.getLogger(__name__)


class LoadModel:
    """Load the weights of a model file into a network when the engine starts.

    Of weights that came with the bundle it logs what they were trained on.

    In contrast to MONAI's CheckpointLoader it holds the file against the hash beside it, reads
    safetensors too, and says what is wrong with a file that it does not take.

    Args:
        model_file: a bare state dict, ``*.pt`` or ``*.safetensors``; read when the engine starts.
        network: bare or wrapped for several devices.

    Raises:
        CheckpointError: when the engine starts, see :func:`dim_monai.data.weights.require_model`.
    """

    def __init__(self, model_file: str, network: nn.Module) -> None:
        self.model_file = model_file
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load at the start of every run of the engine, also of one after a run that failed."""
        # Else Ignite lets that run return at once, see `SemiSupervisedTrainer`.
        engine.interrupt_resume_enabled = False
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self) -> None:
        """Load now."""
        network = bare(self.network)
        load_model(self.model_file, network)
        if note := pretrained_note(self.model_file, network):
            logger.info("the weights came with the bundle: %s", note)
