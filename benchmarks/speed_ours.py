"""The steps of the bundle as the trainer makes them, and the sizes at which they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet
from single_step import make_step
from speed_textbook import PROGRESS, RAMP_LENGTH, THRESHOLD, WIDTH, compile_roles
from torch import Tensor, nn
from torch.nn import functional as F

from dim_monai.engine import SemiSupervisedTrainer
from dim_monai.handlers import FDivergence, GradientShares, SharpnessAware, TeacherEMA
from dim_monai.methods import MeanTeacher, Method, MiDSS

TRAIN = Path(__file__).resolve().parents[1] / "bundles/dim_prostate/configs/train.yaml"
ASIDE = ("labelled_in_box", "unlabelled_in_box", "symmetric", "f_divergence")  # of train.yaml
STEPS = 10_000  # of the training that a step is taken from
EVERY = 50  # steps between two measurements of the gradient shares


def bundle_network() -> nn.Module:
    """Return the network of ``train.yaml``."""
    parser = ConfigParser()
    parser.read_config(str(TRAIN))
    network: nn.Module = parser.get_parsed_content("network_def")
    return network


def reference_network() -> nn.Module:
    """Return a U-Net of the widths of MiDSS, with the norm of the bundle."""
    return BasicUNet(2, 1, 2, (64, 128, 256, 512, 1024, 64), norm=("INSTANCE", {"affine": True}))


@dataclass(frozen=True)
class Size:
    """A network and the images that it is given, four labelled and four unlabelled."""

    pixels: int
    make: Callable[[], nn.Module]

    def network(self, device: torch.device) -> nn.Module:
        """Return the network with the same first weights every time."""
        torch.manual_seed(0)
        return self.make().to(device)

    def batch(self) -> dict[str, dict[str, Tensor]]:
        """Return smooth noise whose label is its sign, and its strong view."""
        channels = next(self.make().parameters()).shape[1]
        generator = torch.Generator().manual_seed(0)
        coarse = torch.randn(8, channels, *[self.pixels // 16] * 2, generator=generator)
        weak = F.interpolate(coarse, size=self.pixels, mode="bicubic").clamp(-1, 1)
        strong = weak + 0.1 * torch.randn(weak.shape, generator=generator)
        label = (weak[:4, :1] > 0.5).long()
        return {
            "labelled": {"weak": weak[:4], "strong": strong[:4], "label": label},
            "unlabelled": {"weak": weak[4:], "strong": strong[4:]},
        }


SIZES = {"bundle": Size(96, bundle_network), "reference": Size(256, reference_network)}


AS_SHIPPED = MiDSS(THRESHOLD, RAMP_LENGTH, 1.0, WIDTH, trust_empty=False)


@dataclass(frozen=True)
class Row:
    """One way in which the trainer makes a step.

    Attributes:
        handlers: makes what hangs on the trainer besides the teacher.
        method: how views are made.
        settings: of the trainer.
        channels_last: memory format of network and images.
        compiled: ``torch.compile`` for both networks.
        like: the row whose gradient it should have.
        measured: take a step in which the gradient shares are measured.
    """

    handlers: Callable[[], list[Any]] = list
    method: Method = AS_SHIPPED
    settings: dict[str, Any] | None = None
    channels_last: bool = False
    compiled: bool = False
    like: str | None = None
    measured: bool = False


def _climb(rule: str = "sam", **settings: Any) -> Callable[[], list[Any]]:
    return lambda: [SharpnessAware(0.2, rule, (), **settings)]


def _dim(start: float) -> Callable[[], list[Any]]:
    return lambda: [
        GradientShares(EVERY),
        FDivergence(weight=0.1, interval=EVERY),
        SharpnessAware(0.2, "sam", ASIDE, start),
    ]


def _always(rule: str, **settings: Any) -> Callable[[], list[Any]]:
    """DiM with a rule in every step, on all terms that have a target."""
    # Momentum SAM has one pass, in which every term is perturbed.
    aside = () if rule == "msam" else ("f_divergence",)
    return lambda: [
        FDivergence(weight=0.1, interval=EVERY),
        SharpnessAware(0.2, rule, aside, **settings),
    ]


BFLOAT16 = {"precision": "bfloat16"}
OURS = {
    "mean teacher": Row(method=MeanTeacher(THRESHOLD, RAMP_LENGTH)),
    "MiDSS, views one by one": Row(settings={"joint_forward": False}),
    "MiDSS": Row(like="MiDSS, views one by one"),
    "MiDSS, channels last": Row(channels_last=True, like="MiDSS, views one by one"),
    "MiDSS, torch.compile": Row(compiled=True, like="MiDSS, views one by one"),
    "MiDSS, bfloat16": Row(settings=BFLOAT16, like="MiDSS, views one by one"),
    "MiDSS, bfloat16, torch.compile": Row(
        settings=BFLOAT16, compiled=True, like="MiDSS, views one by one"
    ),
    "MiDSS, all": Row(
        settings=BFLOAT16, compiled=True, channels_last=True, like="MiDSS, views one by one"
    ),
    "DiM before its second passes": Row(_dim(1.0)),
    "DiM before, a measured step": Row(_dim(1.0), measured=True),
    "DiM with its second pass": Row(_dim(0.0)),
    "MiDSS with its second pass": Row(lambda: [SharpnessAware(0.2, "sam", ASIDE[:3])]),
    "SAM on all terms": Row(_climb()),
    "ESAM on all terms": Row(_climb("esam")),
    "ESAM on all terms, all weights": Row(_climb("esam", beta=1.0)),
    "DiM, SAM in every step": Row(_always("sam")),
    "DiM, ASAM in every step": Row(_always("asam")),
    "DiM, ESAM in every step": Row(_always("esam")),
    "DiM, LookSAM, a step without a second pass": Row(_always("looksam", every=STEPS)),
    "DiM, momentum SAM in every step": Row(_always("msam")),
}


class Ours:
    """One training by the trainer, step by step."""

    def __init__(self, size: Size, row: Row, device: torch.device, *probes: Any) -> None:
        network = size.network(device)
        if row.channels_last:
            network.to(memory_format=torch.channels_last)
        teacher = TeacherEMA(network)
        if row.compiled:
            compile_roles(network, teacher.network)
        self.batch = size.batch()
        if row.channels_last:
            self.batch = {
                stream: {
                    name: value.contiguous(memory_format=torch.channels_last)
                    for name, value in views.items()
                }
                for stream, views in self.batch.items()
            }
        before, after = probes[:1], probes[1:]
        self.trainer = SemiSupervisedTrainer(
            device,
            1,
            [self.batch] * STEPS,
            network,
            torch.optim.AdamW(network.parameters(), 1e-3),
            row.method,
            train_handlers=[*before, teacher, *row.handlers(), *after],
            **(row.settings or {}),
        )
        state = self.trainer.state
        state.epoch_length, state.max_epochs = STEPS, 1
        self.begin = int(PROGRESS * STEPS) + (EVERY if row.measured else 1)
        self.stride = EVERY if row.measured else 1
        state.iteration = self.begin - self.stride

    def step(self) -> None:
        """Make one step, outside of Ignite's loop."""
        trainer = self.trainer
        trainer.state.iteration += self.stride
        if self.stride == 1 and trainer.state.iteration % EVERY == 0:
            trainer.state.iteration += 1  # such a step is a row of its own
        make_step(trainer, self.batch)

    def gradient(self) -> Tensor:
        """Return the gradient that the optimizer got, as one vector."""
        return torch.cat([weight.grad.flatten() for weight in self.trainer.parameters()])
