"""A deployable model on disk: its weights in two formats, and the SHA-256 of both beside them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from dim_monai.errors import CheckpointError, one_line
from dim_monai.files import atomic_write, remove

TORCH, SAFETENSORS, HASHES = ".pt", ".safetensors", ".sha256"
CLASSES = "classes"

_EXPECTED = "tensors by name, as a training writes them"


def save_model(
    model_file: str | Path, weights: Mapping[str, Tensor], classes: Sequence[str] | None = None
) -> None:
    """Write ``model.pt``, ``model.safetensors`` and ``model.sha256``, which ``sha256sum -c`` reads.

    ``model.pt`` is what MONAI Label and the model zoo expect; safetensors can be read without
    Python's pickle. An older set is replaced in this order, each file at once:

    1. the new ``model.pt`` is written under another name: a full disk ends here, the set is whole;
    2. the old hashes and the old ``model.safetensors`` are removed;
    3. the new ``model.pt`` takes its place;
    4. the new ``model.safetensors`` appears;
    5. the new hashes appear.

    A process that is killed in between therefore leaves a ``model.pt`` that is whole, the old or
    the new one, no ``model.safetensors`` of other weights than that, and no hash that is wrong:
    the set lacks something, but what is there belongs together and loads.

    Args:
        model_file: either of the two files of weights, usually ``model.pt``; the names of the other
            two follow from it. Its folder must exist.
        weights: a bare state dict.
        classes: names of the network's classes in their order, kept in the header of
            ``model.safetensors``, see `read_classes`; None tells nothing.

    Raises:
        OSError: a file cannot be written.
    """
    tensors = {name: value.detach().cpu().clone() for name, value in weights.items()}
    pickled = io.BytesIO()
    torch.save(tensors, pickled)
    told = None if classes is None else {CLASSES: json.dumps(list(classes))}
    plain = save_safetensors({name: value.contiguous() for name, value in tensors.items()}, told)
    path = Path(model_file)
    torch_file = path.with_suffix(TORCH) if path.suffix == SAFETENSORS else path
    contents = {torch_file: pickled.getvalue(), safetensors_of(path): plain}
    hashes = "".join(f"{_sha256(content)}  {file.name}\n" for file, content in contents.items())

    first, second = contents
    with atomic_write(first, "wb") as file:
        file.write(contents[first])
        file.flush()
        remove(_beside(path, HASHES), second)
    with atomic_write(second, "wb") as file:
        file.write(contents[second])
    with atomic_write(_beside(path, HASHES), "w") as text:
        text.write(hashes)


def read_model(model_file: str | Path) -> dict[str, Tensor]:
    """Return the weights in a file, on the CPU.

    A file without hashes beside it is a user's own and is read as it is.

    Args:
        model_file: ``*.safetensors``, or whatever else holds a state dict of ``torch.save``.

    Raises:
        CheckpointError: the file is not the one that the hash beside it was taken of, it cannot be
            read, or it holds anything but tensors.
    """
    path = Path(model_file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    _verify(path, content)
    try:
        if path.suffix == SAFETENSORS:
            weights = load_safetensors(content)
        else:
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _unreadable(path, error) from error
    if wrong := _what_is_no_tensor(weights):
        raise CheckpointError(
            "the model does not hold weights alone",
            file=path,
            got=wrong,
            expected=_EXPECTED,
            do="name the model.pt of a training with --model_file",
        )
    return weights


def read_classes(safetensors_file: str | Path) -> tuple[str, ...] | None:
    """Return the names of a network's classes in their order, None where the file tells none.

    Args:
        safetensors_file: as `save_model` writes it; must be readable, see `read_model`.

    Raises:
        CheckpointError: what the header says of them is not a list of names.
    """
    with safe_open(str(safetensors_file), framework="pt") as file:
        told = (file.metadata() or {}).get(CLASSES)
    if told is None:
        return None
    try:
        names = json.loads(told)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            "the classes of the model cannot be read",
            file=safetensors_file,
            got=f"{CLASSES} {told}",
            expected='a list of names, as ["background", "prostate"]',
            do="name the model of a training",
        )
    return tuple(names)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors of a state dict with their names, in the order of these.

    By it a network is told from another one. It is of the weights and not of a file, so that it is
    the same for all formats of files.

    Args:
        state: dense tensors of any type, on any device.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def safetensors_of(model_file: str | Path) -> Path:
    """Return the file of safetensors of a model, given either of its two files."""
    return _beside(Path(model_file), SAFETENSORS)


def _beside(path: Path, suffix: str) -> Path:
    """Return the file of the same model with another suffix; ``a.pth`` has ``a.pth.sha256``."""
    if path.suffix in (TORCH, SAFETENSORS):
        return path.with_suffix(suffix)
    return path.with_name(path.name + suffix)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _verify(path: Path, content: bytes) -> None:
    hashes = _beside(path, HASHES)
    if not hashes.is_file():
        return
    # A name may hold spaces.
    words = (line.split(maxsplit=1) for line in hashes.read_text(errors="replace").splitlines())
    stated = {line[1].removeprefix("*"): line[0].lower() for line in words if len(line) == 2}
    if stated.get(path.name) != _sha256(content):
        raise CheckpointError(
            "the model is not the one that its hash was taken of",
            file=path,
            got=f"sha256 {_sha256(content)}",
            expected=f"{stated.get(path.name, 'a line of this file')} in {one_line(hashes)}",
            do=f"copy the model and {hashes.name} again; if you have put another model there "
            f"yourself, remove {hashes.name}",
        )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "the model cannot be read",
        file=path,
        got=type(error).__name__,
        expected=_EXPECTED,
        do="copy it again, or name the model.pt of a training with --model_file",
    )


def _what_is_no_tensor(content: object) -> str | None:
    if not isinstance(content, dict):
        return type(content).__name__
    others = (f"{k}: {type(v).__name__}" for k, v in content.items() if not isinstance(v, Tensor))
    return next(others, None)
