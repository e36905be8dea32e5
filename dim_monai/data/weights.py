"""The weights that a workflow starts from: there, whole, and of this network."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dim_monai.errors import CheckpointError
from dim_monai.model_files import read_classes, read_model, safetensors_of
from dim_monai.shipped import METADATA

logger = logging.getLogger(__name__)

MODEL = Path("models", "model.pt")
PRETRAINED = Path("models", "pretrained.safetensors")
"""In a bundle: what a training replaces, and what came with the bundle and no training touches."""


def model_of(bundle_root: str) -> str:
    """Return the weights that a bundle segments with: those of the last training, or its own.

    Args:
        bundle_root: folder of the bundle.

    Returns:
        ``models/model.pt``, which a training replaces; ``models/pretrained.safetensors`` where only
        that is there, as in the installed package.
    """
    model, pretrained = Path(bundle_root, MODEL), Path(bundle_root, PRETRAINED)
    return str(pretrained if pretrained.is_file() and not model.is_file() else model)


def pretrained_note(model_file: str, network: nn.Module) -> str | None:
    """Return what must be known of weights that came with a bundle; None of any other weights.

    Weights are compared, and not files: ``model.pt`` may be the bundle's or of a training since.

    Args:
        model_file: in the folder ``models`` of a bundle, whose metadata hold the note as
            ``pretrained``; a file anywhere else is a user's own.
        network: with the weights loaded.

    Raises:
        CheckpointError: the bundle's ``pretrained.safetensors`` cannot be read.
    """
    bundle = Path(model_file).absolute().parent.parent
    if not (bundle / PRETRAINED).is_file():
        return None
    if not _are_equal(read_model(bundle / PRETRAINED), network.state_dict()):
        return None
    metadata = json.loads((bundle / METADATA).read_text(encoding="utf-8"))
    return str(metadata["pretrained"])


def require_model(
    model_file: str, network: nn.Module, classes: Sequence[str] | None = None
) -> None:
    """Refuse to go on without weights that fit ``network``; load nothing into it.

    Networks of two organs may have the same shape. Which classes weights are of is told by the
    safetensors of the same weights, beside them or as those of the bundle; where there are none, as
    beside a ``model.pt`` that was copied alone, nothing is known and any passes.

    Args:
        model_file: a bare state dict, as the training writes it: ``*.pt`` or ``*.safetensors``.
        network: what the weights are for.
        classes: what its classes are called; None where that does not matter.

    Raises:
        CheckpointError: the file is missing, unreadable, not the one that the hash beside it was
            taken of, or holds anything but tensors; their names and shapes are not those of the
            network, and the first difference is named; or they are of other classes.
    """
    do_without = "train one first, or name one with --model_file"
    _read_fitting(model_file, network, classes, do_without)


def load_model(model_file: str, network: nn.Module, classes: Sequence[str] | None = None) -> None:
    """Load weights into the network they fit; the arguments are those of `require_model`.

    Raises:
        CheckpointError: see `require_model`. Nothing is loaded in part.
    """
    do_without = "name the model.pt of a training"
    network.load_state_dict(_read_fitting(model_file, network, classes, do_without))


def start_from(model_file: str | None, network: nn.Module) -> None:
    """Load the weights that a training starts from (fine-tuning); say in one line which they are.

    To be called before the teacher is made, which is a copy of the student.

    Args:
        model_file: a bare state dict, as a training writes it; None leaves the network as it is.
        network: the student.

    Raises:
        CheckpointError: see `require_model`. Nothing is loaded in part.
    """
    if model_file is not None:
        load_model(model_file, network)
        logger.info("starting from: %s", model_file)


def _require_classes(
    model_file: str, weights: Mapping[str, Tensor], classes: Sequence[str]
) -> None:
    told = _told_classes(Path(model_file).absolute(), weights)
    if told is not None and told != tuple(classes):
        raise CheckpointError(
            "the model is of other classes",
            file=model_file,
            got=", ".join(told),
            expected=", ".join(classes),
            do="use the overlay it was trained with, or name another model",
        )


def _told_classes(path: Path, weights: Mapping[str, Tensor]) -> tuple[str, ...] | None:
    for file in (safetensors_of(path), path.parent.parent / PRETRAINED):
        if file.is_file() and _are_equal(read_model(file), weights):
            return read_classes(file)
    return None


def _are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value.cpu(), other[name].cpu()) for name, value in one.items()
    )


def _read_fitting(
    model_file: str, network: nn.Module, classes: Sequence[str] | None, do_without: str
) -> dict[str, Tensor]:
    if not Path(model_file).is_file():
        raise CheckpointError("no model", file=model_file, do=do_without)
    weights = read_model(model_file)
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                "the model is of another network",
                file=model_file,
                got=f"{name} {found[name]}" if name in found else f"no {name}",
                expected=f"{name} {wanted[name]}" if name in wanted else f"no {name}",
                do="use the overlay and the network settings it was trained with",
            )
    if classes is not None:
        _require_classes(model_file, weights, classes)
    return weights
