"""Where the cases of a workflow come from, and that they are sound before it begins."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from dim_monai.bundle import resolve_dataset_dir
from dim_monai.data.checks import require_sound
from dim_monai.data.datalist import (
    Datalist,
    TrainingData,
    load_saved_datalist,
    open_datalist,
    save_datalist,
)
from dim_monai.data.demo import make_demo
from dim_monai.data.labels import LabelMapping
from dim_monai.data.output import case_name
from dim_monai.data.reader import read_case
from dim_monai.dicom.series import find_cases
from dim_monai.errors import CheckpointError, DataError

logger = logging.getLogger(__name__)

SPLIT_FILE = "datalist.json"
DEMO_FOLDER = "data"


def training_datalist(
    dataset_dir: str | None, output_dir: str, seed: int, validation_fraction: float
) -> Datalist:
    """Return the split of the user's folder, or of the demo set where there is none.

    The demo set is made under ``output_dir`` on first use and announced in one line.
    """
    if dataset_dir is None:
        folder = Path(output_dir) / DEMO_FOLDER
        logger.info("no dataset_dir: using the synthetic demo set in %s", folder)
        return load_saved_datalist(make_demo(folder) / SPLIT_FILE)
    return open_datalist(
        resolve_dataset_dir(dataset_dir), seed=seed, validation_fraction=validation_fraction
    )


def evaluation_datalist(
    dataset_dir: str | None, output_dir: str, seed: int, validation_fraction: float
) -> Datalist:
    """Return the split that the training saved; without one, that of the folder itself.

    The saved split stays true when labels were added to the folder since: a case that trained the
    network does not become a test case. It is taken if all its cases lie in ``dataset_dir``.
    """
    saved = Path(output_dir) / SPLIT_FILE
    if saved.is_file():
        split = load_saved_datalist(saved)
        if dataset_dir is None or _lies_in(split, Path(resolve_dataset_dir(dataset_dir))):
            return split
    return training_datalist(dataset_dir, output_dir, seed, validation_fraction)


def with_split(lists: Datalist | TrainingData, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the entries of the named lists, each with its list's name as ``split``."""
    return [{**entry, "split": name} for name in names for entry in getattr(lists, name)]


def require_sound_training(data: TrainingData, labels: LabelMapping) -> None:
    """Refuse unsound cases before the first step and say what the training will see.

    Raises:
        DataError: with one line for every fault.
    """
    require_sound(data, labels)
    logger.info(
        "cases: %d labelled, %d unlabelled, %d for validation",
        *(len(cases) for cases in (data.labeled, data.unlabeled, data.validation)),
    )
    if not data.unlabeled:
        logger.warning("no unlabelled case: this training is supervised")
    if not data.validation:
        logger.warning("no validation case: nothing is selected, the last network is deployed")


def require_sound_evaluation(datalist: Datalist, labels: LabelMapping, model_file: str) -> None:
    """Refuse unsound cases, an empty list and a missing model before the evaluation begins.

    Raises:
        CheckpointError: there is no model.
        DataError: there is nothing to score, or a case has a fault.
    """
    require_model(model_file)
    if not datalist.validation and not datalist.test:
        raise DataError(
            "nothing to evaluate",
            expected="validation or test cases",
            do="list labelled cases under 'test' in datalist.json",
        )
    require_sound(datalist, labels, splits=("validation", "test"))


def inference_cases(dataset_dir: str) -> list[dict[str, str]]:
    """Return the cases of a folder, see :func:`dim_monai.dicom.series.find_cases`.

    Args:
        dataset_dir: the folder, or one NIfTI file.

    Raises:
        DataError: there is no case, or two of them would be written to one mask.
    """
    given = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    paths = find_cases(given if given.is_file() else resolve_dataset_dir(given))
    masks: dict[Path, Path] = {}
    for path in paths:
        if (first := masks.setdefault(path.parent / case_name(path), path)) != path:
            raise DataError(
                "two cases of one name", file=path, got=f"also {first}", do="rename one of them"
            )
    return [{"image": str(path), "case": case_name(path)} for path in paths]


def require_sound_inference(cases: Sequence[dict[str, str]], model_file: str) -> None:
    """Refuse a missing model and every unreadable case before anything is segmented.

    Raises:
        CheckpointError: there is no model.
        DataError: with one line for every case that cannot be read.
    """
    require_model(model_file)
    faults = []
    for case in cases:
        try:
            read_case(case["image"])
        except (DataError, OSError) as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            "\n  ".join(["nothing was segmented, these cases cannot be read:", *faults])
        )
    logger.info("cases: %d to segment", len(cases))


def require_model(model_file: str) -> None:
    """Refuse to go on without the weights.

    Raises:
        CheckpointError: the file is missing.
    """
    if not Path(model_file).is_file():
        raise CheckpointError(
            "no model", file=model_file, do="train one first, or name one with --model_file"
        )


def save_split(datalist: Datalist, output_dir: str) -> None:
    """Write the split beside the results of the run."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    save_datalist(Path(output_dir) / SPLIT_FILE, datalist)


def _lies_in(datalist: Datalist, folder: Path) -> bool:
    lists = (datalist.labeled, datalist.unlabeled, datalist.validation, datalist.test)
    return all(folder in Path(entry["image"]).parents for entries in lists for entry in entries)
