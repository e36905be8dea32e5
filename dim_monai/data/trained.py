"""Which cases trained a network, by what the training left in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from dim_monai.data.datalist import DATALIST_NAME, Datalist, load_saved_datalist
from dim_monai.errors import DataError
from dim_monai.model_files import read_model, weights_digest

RUN_FILE = "run.json"
"""Written when a training ends, with the digest of the weights that it deployed."""


def split_of_training(output_dir: str, model_file: str) -> Datalist | None:
    """Return the split that trained the network of a model file; None in a folder of no training.

    A training writes its split when it starts and its weights when it ends. In between, and where
    it is cut off, the split in its folder is not that of the weights: taken for it, cases that
    trained them would pass for cases that did not.

    Args:
        output_dir: folder of the training.
        model_file: of the weights; one that is missing is for `require_model` to refuse.

    Raises:
        CheckpointError: the weights cannot be read.
        DataError: the training in the folder has not ended, or deployed other weights.
    """
    folder = Path(output_dir)
    if not (folder / DATALIST_NAME).is_file():
        return None
    if not (folder / RUN_FILE).is_file():
        raise DataError(
            "the training in this folder is not finished",
            file=folder,
            got=f"its {DATALIST_NAME}, and no {RUN_FILE}: the model is of another training",
            expected="the folder of the training that made the model",
            do="finish the training by the same command, or give the output_dir of the model's own",
        )
    if Path(model_file).is_file():
        _require_deployed(folder / RUN_FILE, model_file)
    return load_saved_datalist(folder / DATALIST_NAME)


def _require_deployed(run_file: Path, model_file: str) -> None:
    try:
        deployed = json.loads(run_file.read_text(encoding="utf-8"))["weights_sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            "the record of a training cannot be read",
            file=run_file,
            got=type(error).__name__,
            expected="JSON with weights_sha256, as the training wrote it",
            do="restore the file, or train again",
        ) from error
    if weights_digest(read_model(model_file)) != deployed:
        raise DataError(
            "the training in this folder deployed other weights",
            file=model_file,
            got=f"not those that {run_file} tells of",
            expected="the model of that training: of another one its folder does not tell what "
            "trained it",
            do="give the output_dir of the model's own training; where that is not at hand, a new "
            "output_dir and test cases that you know have not trained the model",
        )
