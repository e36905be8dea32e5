"""What must be true before the server starts, and the app folder it starts from."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from monai.bundle import ConfigParser

from dim_monai.data.photograph import SUFFIXES
from dim_monai.data.weights import MODEL, PRETRAINED, require_model
from dim_monai.dicom.series import NIFTI_SUFFIXES
from dim_monai.errors import CheckpointError, ConfigError
from dim_monai.model_files import read_classes, read_model, save_model
from dim_monai.shipped import INFERENCE

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""The server has no password: only programs on this machine may reach it."""

MAIN = "from dim_monai.label.app import DimApp\n\n__all__ = ['DimApp']\n"


def require_torchvision() -> None:
    """Refuse to start without the one package that the indexes of pip may give a wrong build of.

    Raises:
        ConfigError: torchvision cannot be loaded; says which build to install.
    """
    try:
        import_module("torchvision")
    except Exception as error:  # a build for another PyTorch fails in many ways
        torch = import_module("torch").__version__
        raise ConfigError(
            "MONAI Label needs torchvision, and the installed build cannot be loaded",
            got=f"{type(error).__name__}: {error}",
            expected=f"a build of torchvision for torch {torch}",
            do="install the torchvision of the same place and kind (CPU or CUDA version) as torch: "
            "where PyTorch publishes its CPU builds, torchvision==0.28.0+cpu belongs to "
            "torch==2.13.0+cpu",
        ) from error


def require_servable(bundle: Path) -> None:
    """Make sure that the bundle has a model of its network: MONAI Label leaves out one without.

    Where ``models/model.pt`` is missing, the weights that came with the bundle take its place.

    Args:
        bundle: folder of the bundle.

    Raises:
        CheckpointError: there are no weights, or they do not fit the network of ``inference.yaml``.
            MONAI Label would load of them what fits, and only warn.
    """
    model, pretrained = bundle / MODEL, bundle / PRETRAINED
    if not model.is_file():
        if not pretrained.is_file():
            raise CheckpointError(
                "the bundle has no model, and MONAI Label does not offer a bundle without one",
                file=model,
                do="train one",
            )
        save_model(model, read_model(pretrained), read_classes(pretrained))
        logger.info("serving the weights that came with the bundle: %s", pretrained)
    parser = ConfigParser()
    parser.read_config(bundle / INFERENCE)
    network, classes = (parser.get_parsed_content(id_) for id_ in ("network_def", "label_classes"))
    require_model(str(model), network, list(classes))


def make_app(folder: Path, bundle: Path) -> Path:
    """Make ``folder`` an app that serves ``bundle``, which stays where it is; return the folder.

    The app holds a link to the bundle, so that what the server trains is the bundle's own model.
    Everything in the folder can be made again.
    """
    models = folder / "model"
    models.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(MAIN, encoding="utf-8")
    link = models / bundle.name
    link.unlink(missing_ok=True)
    link.symlink_to(bundle.resolve(), target_is_directory=True)
    return folder


def server_arguments(app: Path, studies: str, bundle: str) -> Sequence[str]:
    """Return the arguments of MONAI Label, but for the port, for a server that downloads nothing.

    Its default source of bundles is asked for a list at every start, even for a bundle that lies in
    the app; with any other source it is not. The models of sam2 would be downloaded, too.
    """
    settings = {"models": bundle, "zoo_source": "ngc", "sam2": "false"}
    conf = [word for key, value in settings.items() for word in ("--conf", key, value)]
    places = ["--app", str(app), "--studies", studies, "--host", HOST]
    return ["start_server", *places, *conf]


def server_environment() -> dict[str, str]:
    """Return the environment of the server.

    By the PATH it finds ``torchrun``. Of its own it would list neither .jpeg nor .tiff.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    listed = json.dumps([f"*{suffix}" for suffix in (*NIFTI_SUFFIXES, *SUFFIXES)])
    return {"MONAI_LABEL_DATASTORE_FILE_EXT": listed, **os.environ, "PATH": path}
