"""The cases of a training that MONAI Label starts: its labelled ones, and all the others.

The server lays the labelled cases over ``train#dataset#data`` and ``validate#dataset#data`` of a
config, and the weights to begin with into a CheckpointLoader at the head of ``train#handlers``. It
passes neither the study folder nor the cases without a label. What it passed is read from the
config that is being evaluated; what it left out is found in the folder where it keeps its labels.

In any other run, where ``train#dataset#data`` is an expression and no list, every function here
returns None.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from dim_monai.bundle.callers import nearest_self
from dim_monai.data.datalist import UNKNOWN_DOMAIN, Datalist, Entry, require_consistent
from dim_monai.data.datalist_json import make_entry
from dim_monai.data.kinds import get_kind
from dim_monai.errors import DataError

logger = logging.getLogger(__name__)

LABELS = "labels"
FINAL = Path(LABELS, "final")
"""Where, below the study folder, MONAI Label keeps the labels that a person has saved."""

_NOTE = "MONAI Label split the labelled cases by its val_split, without knowing the patients"


def study_folder() -> str | None:
    """Return the folder whose labels MONAI Label passed; None where it passed none.

    Raises:
        DataError: see `served_datalist`.
    """
    lists = _served()
    return None if lists is None else str(_folder_of(lists[0]))


def served_datalist(kind: str = "volume") -> Datalist | None:
    """Return the data list of a training that MONAI Label started; None in any other run.

    Labelled and validation cases are those that it passed. Unlabelled are all other cases in the
    study folder, wherever they lie below it, but for the folder of labels: a mask that a network
    has drawn (``labels/original``) is no label.

    Args:
        kind: of the cases, ``"volume"`` or ``"photograph"``.

    Raises:
        DataError: MONAI Label passed no labelled case, or one from outside its own folders; a case
            stands twice.
    """
    lists = _served()
    if lists is None:
        return None
    folder = _folder_of(lists[0])
    labelled, validation = (
        tuple(_entry(case["image"], folder, label=case["label"]) for case in cases)
        for cases in lists
    )
    taken = {os.path.realpath(case["image"]) for cases in lists for case in cases}
    unlabelled = tuple(_entry(str(path), folder) for path in _others(folder, taken, kind))
    datalist = Datalist(labelled, unlabelled, validation, (), "MONAI Label", (_NOTE,))
    require_consistent(datalist, folder)
    logger.info("unlabelled studies found in %s: %d", folder, len(unlabelled))
    return datalist


def pretrained_model() -> str | None:
    """Return the weights that MONAI Label asks to begin with; None where it asks for none.

    The server loads them when the training starts and would skip what does not fit. Named as
    ``start_from``, they are held against the network first, and the teacher begins with them too.
    """
    parser = nearest_self(ConfigParser)
    if parser is None or _served() is None:
        return None
    handlers = parser.get("train#handlers", [])
    first: Mapping[str, Any] = handlers[0] if handlers else {}
    return first.get("load_path") if first.get("_target_") == "CheckpointLoader" else None


def _served() -> tuple[Sequence[Entry], Sequence[Entry]] | None:
    """Return the labelled and the validation cases that the running config holds as plain lists."""
    parser = nearest_self(ConfigParser)
    if parser is None:
        return None
    labelled, validation = (parser.get(f"{name}#dataset#data") for name in ("train", "validate"))
    if not isinstance(labelled, list):
        return None
    return labelled, validation if isinstance(validation, list) else []


def _folder_of(labelled: Iterable[Entry]) -> Path:
    labels = [Path(case["label"]).parent for case in labelled]
    if not labels:
        raise DataError(
            "no labelled case", do="save a label in the MONAI Label client, then train again"
        )
    folder = labels[0].parents[len(FINAL.parts) - 1]
    for parent in labels:
        if parent != folder / FINAL:
            raise DataError(
                "not a label of this study folder", file=parent, expected=folder / FINAL
            )
    return folder


def _others(folder: Path, taken: set[str], kind: str) -> list[Path]:
    return [
        path
        for path in get_kind(kind).find(folder)
        if folder / LABELS not in path.parents and os.path.realpath(path) not in taken
    ]


def _entry(image: str, folder: Path, **label: str) -> Entry:
    """Complete an entry; its domain is the folder it lies in, below the study folder."""
    parent = Path(image).parent
    below = parent.relative_to(folder).parts if parent.is_relative_to(folder) else ()
    return make_entry(image=image, domain="-".join(below) or UNKNOWN_DOMAIN, **label)
