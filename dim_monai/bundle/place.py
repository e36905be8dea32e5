"""Where a bundle, its data and its results stand, whatever folder the shell is in."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from monai.bundle import ConfigWorkflow

from dim_monai.bundle.callers import frames
from dim_monai.errors import ConfigError, DataError
from dim_monai.shipped import METADATA


def bundle_root() -> str:
    """Return the absolute path of the bundle whose config is being evaluated.

    The bundle is the nearest folder at or above the (first) config file that holds
    ``configs/metadata.json``. MONAI tells a config nothing of its own place, and its usual
    ``bundle_root: .`` means the shell's folder, so results land wherever the user happens to
    stand. The file is therefore read from the call stack: from the running ``ConfigWorkflow``
    (``run``), or from the command of ``monai.bundle`` that parses the file without a workflow
    (``ckpt_export``, ``onnx_export``, ``trt_export``, ``verify_net_in_out``). Where neither runs,
    the current folder counts if it is a bundle.

    Raises:
        ConfigError: the config file, or without one the current folder, stands in no bundle.
    """
    configs = _config_folder()
    candidates = [Path.cwd()] if configs is None else [configs, *configs.parents]
    for folder in candidates:
        if (folder / METADATA).is_file():
            return str(folder)
    raise ConfigError(
        "no bundle around the config that is being read",
        file=candidates[0],
        expected=f"{METADATA} in that folder or, for a config file, in one above it",
        do="pass --bundle_root FOLDER",
    )


def _config_folder() -> Path | None:
    """Return the absolute folder of the config file that is being evaluated, if any."""
    for frame in frames():
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return Path(os.path.abspath(owner.config_root_path))
        if frame.f_globals.get("__name__") == "monai.bundle.scripts":
            files = frame.f_locals.get("config_file_")
            if isinstance(files, str) and not os.path.isfile(files):
                files = files.split(",")  # MONAI reads "a.yaml,b.yaml" as two files
            if files:
                first = files if isinstance(files, str) else files[0]
                return Path(os.path.abspath(first)).parent
    return None


def resolve_dataset_dir(dataset_dir: str | os.PathLike[str]) -> str:
    """Return ``dataset_dir`` as an absolute path of a folder that exists.

    Args:
        dataset_dir: a folder; ``~`` is the home folder, and a relative path starts at the shell's
            folder, as for any other command.

    Raises:
        DataError: it is missing or is a file; the message names the nearest folder beside it.
    """
    folder = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if folder.is_dir():
        return str(folder)
    if folder.exists():
        raise DataError("the dataset is not a folder", file=folder, expected="a folder of images")
    parent = folder.parent
    beside = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    close = get_close_matches(folder.name, beside, n=1)
    raise DataError(
        "the dataset folder does not exist",
        file=folder,
        do=f"did you mean {parent / close[0]}?" if close else "pass --dataset_dir FOLDER",
    )
