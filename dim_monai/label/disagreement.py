"""How far student and teacher are apart on a case: the more, the more a label would teach."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from dim_monai.data.weights import require_model
from dim_monai.shipped import INFERENCE

STUDENT, TEACHER = Path("eval", "student.pt"), Path("eval", "teacher.pt")
"""Where, in a bundle, the training that MONAI Label starts leaves both networks."""


def disagreement(student: Tensor, teacher: Tensor) -> float:
    """Return the share of the foreground on which two predictions differ, in [0, 1].

    ``sum |s - t| / sum (s + t)`` over all voxels and all classes but the background (the
    Bray-Curtis dissimilarity; one minus a soft Dice). It is 0 for equal predictions and 1 where no
    voxel is foreground to both. Neither the size of the image nor that of the organ matters, unlike
    with a mean over voxels, which is nearly all background.

    Args:
        student: probabilities (B, K, *S), class 0 the background.
        teacher: the same of the teacher.
    """
    foregrounds = [p[:, 1:].double() for p in (student, teacher)]
    apart = (foregrounds[0] - foregrounds[1]).abs().sum()
    together = foregrounds[0].sum() + foregrounds[1].sum()
    return float(apart / together) if together > 0 else 0.0


class StudentAndTeacher:
    """Both networks of a bundle's last training, and the preprocessing and inferer they need.

    Args:
        bundle: folder of the bundle.
        device: on which to predict.

    Raises:
        CheckpointError: the networks are missing, or they are not the bundle's network.
    """

    def __init__(self, bundle: Path, device: str = "cpu") -> None:
        self.device = device
        parser = ConfigParser()
        parser.read_config(bundle / INFERENCE)
        parser["bundle_root"] = str(bundle)
        self.preprocessing: Any = parser.get_parsed_content("preprocessing")
        self.inferer: Any = parser.get_parsed_content("inferer")
        network: nn.Module = parser.get_parsed_content("network_def")
        self.networks = [_load(bundle / file, network).to(device) for file in (STUDENT, TEACHER)]

    @torch.no_grad()
    def disagree_on(self, image: str) -> float:
        """Return the `disagreement` on the case at path ``image``, on the grid of the network."""
        loaded = self.preprocessing({"image": image})["image"]
        plain = loaded.as_tensor() if isinstance(loaded, MetaTensor) else torch.as_tensor(loaded)
        batch = plain[None].to(self.device)
        student, teacher = (
            torch.softmax(self.inferer(batch, network), dim=1) for network in self.networks
        )
        return disagreement(student, teacher)


def _load(file: Path, network: nn.Module) -> nn.Module:
    require_model(str(file), network)
    loaded = copy.deepcopy(network)
    loaded.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return loaded.eval()
