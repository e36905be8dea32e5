"""Where the cases of a workflow come from, and that they are sound before it begins."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dim_monai.bundle import resolve_dataset_dir
from dim_monai.data.checks import require_sound
from dim_monai.data.checks.ends import hidden_ends
from dim_monai.data.checks.unused import unused_images
from dim_monai.data.constant import require_variation
from dim_monai.data.datalist import (
    DATALIST_NAME,
    Datalist,
    Entry,
    TrainingData,
    load_saved_datalist,
    open_datalist,
    save_datalist,
)
from dim_monai.data.demo import make_demo
from dim_monai.data.kinds import get_kind
from dim_monai.data.labels import LabelMapping
from dim_monai.data.output import UNCERTAINTY, mirrored
from dim_monai.data.run_lock import lock_run
from dim_monai.data.trained import RUN_FILE, split_of_training
from dim_monai.data.weights import require_model
from dim_monai.errors import DataError
from dim_monai.files import absolute, atomic_write, require_writable

logger = logging.getLogger(__name__)

DEMO_FOLDER = "data"
RESULTS = ("metrics.csv", "metrics_paper.csv", "report.html", RUN_FILE, "training_log.csv")
"""What a run leaves in its folder and a later one there must not be taken for."""
CONFIG_FILE = "config.json"
"""All settings of a run: a config file that repeats it."""


def training_datalist(
    dataset_dir: str | None,
    output_dir: str,
    seed: int,
    validation_fraction: float,
    *,
    kind: str = "volume",
) -> Datalist:
    """Return the split of the user's folder, or of the demo set where there is none.

    The demo set is made under ``output_dir`` on first use and announced in one line. Images in a
    format that is not read are warned of, unless a ``datalist.json`` says what is used.

    Args:
        dataset_dir: the user's folder; None for the demo set.
        output_dir: folder of the run.
        seed: of the draw, see `open_datalist`.
        validation_fraction: of the labelled patients, see `open_datalist`.
        kind: of the cases, ``"volume"`` or ``"photograph"``, as in all functions of this module.
    """
    if dataset_dir is None:
        folder = Path(output_dir) / DEMO_FOLDER
        logger.info("no dataset_dir: using the synthetic demo set in %s", folder)
        return load_saved_datalist(make_demo(folder, kind=kind) / DATALIST_NAME)
    folder = Path(resolve_dataset_dir(dataset_dir))
    datalist = open_datalist(folder, seed=seed, validation_fraction=validation_fraction, kind=kind)
    if not (folder / DATALIST_NAME).is_file():
        entries = (*datalist.labeled, *datalist.unlabeled, *datalist.validation)
        _warn_of_unread(folder / "images", entries, kind)
    return datalist


def evaluation_datalist(
    dataset_dir: str | None,
    output_dir: str,
    seed: int,
    validation_fraction: float,
    model_file: str,
    *,
    kind: str = "volume",
) -> Datalist:
    """Return the split to evaluate, and say in one line which it is.

    A folder with a ``datalist.json`` of its own is evaluated as that says. Otherwise the split that
    the training saved in ``output_dir`` is taken if all its cases lie in the folder: it stays true
    when labels were added since, so a case that trained the network does not become a test case.
    Failing both, the folder is split as for a training.

    Args:
        dataset_dir: as of `training_datalist`, and so are ``seed`` and ``validation_fraction``.
        output_dir: folder of the training, or one without a training.
        seed: see above.
        validation_fraction: see above.
        model_file: of the weights that are evaluated.
        kind: of the cases.

    Raises:
        CheckpointError: the weights cannot be read.
        DataError: a validation or test case of the folder's ``datalist.json`` has trained the
            network, by the saved split; or that split is not of these weights, see
            `split_of_training`.
    """
    saved = Path(output_dir) / DATALIST_NAME
    trained = split_of_training(output_dir, model_file)
    if dataset_dir is not None:
        folder = Path(resolve_dataset_dir(dataset_dir))
        if (folder / DATALIST_NAME).is_file():
            stated = load_saved_datalist(folder / DATALIST_NAME)
            if trained is not None:
                _refuse_trained_on(stated, trained, saved)
            logger.info("split: %s", folder / DATALIST_NAME)
            return stated
        if trained is not None and not _lies_in(trained, folder):
            trained = None
    if trained is not None:
        logger.info("split: %s, saved by the training", saved)
        return trained
    split = training_datalist(dataset_dir, output_dir, seed, validation_fraction, kind=kind)
    logger.info("split: %s, for %s holds none of these cases", split.source, output_dir)
    return split


def with_split(lists: Datalist | TrainingData, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the entries of the named lists, each with its list's name as ``split``."""
    return [{**entry, "split": name} for name in names for entry in getattr(lists, name)]


def require_sound_training(
    data: TrainingData,
    labels: LabelMapping,
    *,
    kind: str = "volume",
    cache_dir: str | None = None,
) -> None:
    """Refuse unsound cases before the first step and say what the training will see.

    Args:
        data: the cases.
        labels: which label values are allowed.
        kind: of the cases.
        cache_dir: folder that remembers the cases that were sound and have not changed since.

    Raises:
        DataError: with one line for every fault; or ``cache_dir`` cannot be written.
    """
    facts = require_sound(data, labels, kind=kind, cache_dir=cache_dir)
    logger.info(
        "cases: %d labelled, %d unlabelled, %d for validation",
        *(len(cases) for cases in (data.labeled, data.unlabeled, data.validation)),
    )
    if get_kind(kind).unit == "mm":
        logger.info(
            "spacing: %s mm in the plane, %s mm between slices",
            _range(f"{mm:.2f}" for case in facts for mm in case.spacing_mm[:2]),
            _range(f"{case.spacing_mm[2]:.2f}" for case in facts),
        )
    else:
        longest, shortest = (_range(f"{side(case.shape)}" for case in facts) for side in (max, min))
        logger.info("size: %s px the longer side, %s px the shorter", longest, shortest)
    if not data.unlabeled:
        logger.warning("no unlabelled case: this training is supervised")
    for remark in hidden_ends(facts):
        logger.warning("%s", remark)
    if not data.validation:
        logger.warning("no validation case: nothing is selected, the last network is deployed")


def require_sound_evaluation(
    datalist: Datalist,
    labels: LabelMapping,
    model_file: str,
    network: nn.Module,
    *,
    kind: str = "volume",
) -> None:
    """Refuse unsound cases, an empty list and an unusable model before the evaluation begins.

    Raises:
        CheckpointError: see `require_model`.
        DataError: there is nothing to score, or a case has a fault.
    """
    require_model(model_file, network, labels.class_names)
    if not datalist.validation and not datalist.test:
        raise DataError(
            "nothing to evaluate",
            expected="validation or test cases",
            do=f"write a {DATALIST_NAME} into dataset_dir that lists labelled cases which were not "
            "trained on under 'test', and those that were under 'labeled'",
        )
    require_sound(datalist, labels, splits=("validation", "test"), kind=kind)


def inference_cases(dataset_dir: str, *, kind: str = "volume") -> list[dict[str, str]]:
    """Return the cases of a folder, see `find_cases` and `find_photographs`.

    Images in a format that is not read are warned of.

    Args:
        dataset_dir: the folder, or one NIfTI file or photograph.
        kind: of the cases.

    Raises:
        DataError: there is no case, or two of them would be written to one mask.
    """
    given = absolute(dataset_dir)
    find, case_name = get_kind(kind).find, get_kind(kind).case_name
    paths = find(given if given.is_file() else Path(resolve_dataset_dir(given)))
    paths = [path for path in paths if not case_name(path).endswith(f"_{UNCERTAINTY}")]
    masks: dict[Path, Path] = {}
    for path in paths:
        if (first := masks.setdefault(mirrored(path, given, get_kind(kind)), path)) != path:
            raise DataError(
                "two cases of one name", file=path, got=f"also {first}", do="rename one of them"
            )
    cases = [{"image": str(path), "case": case_name(path)} for path in paths]
    _warn_of_unread(given, cases, kind)
    return cases


def require_sound_inference(
    cases: Sequence[dict[str, str]],
    model_file: str,
    network: nn.Module,
    classes: Sequence[str],
    output_dir: str,
    *,
    kind: str = "volume",
) -> None:
    """Refuse an unusable model or folder and every unusable case before anything is segmented.

    Args:
        cases: what is to be segmented.
        model_file: of the weights.
        network: what they are for.
        classes: what its classes are called.
        output_dir: where the masks go.
        kind: of the cases.

    Raises:
        CheckpointError: see `require_model`.
        DataError: ``output_dir`` cannot be written; or with one line for every case that cannot be
            read or whose image is constant.
    """
    require_writable(Path(output_dir))
    require_model(model_file, network, classes)
    case_kind = get_kind(kind)
    faults = []
    for case in cases:
        path = Path(case["image"])
        try:
            values, _ = case_kind.read_image(path)
            require_variation(path, values, case_kind.element)
        except (DataError, OSError) as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            "\n  ".join(["nothing was segmented, these cases cannot be used:", *faults])
        )
    logger.info("cases: %d to segment", len(cases))


def refuse_test_cases(datalist: Datalist, *read: Iterable[Entry]) -> None:
    """Refuse to train on a test case, or to choose by one, whatever the config says.

    A config can name any list; this is held against what its datasets will read.

    Args:
        datalist: knows the test cases.
        read: the entries of every dataset of the training, of the validation too.

    Raises:
        DataError: an entry is a test case, by image or by patient.
    """
    images = {os.path.realpath(entry["image"]) for entry in datalist.test}
    patients = {entry["patient"] for entry in datalist.test}
    for entry in (entry for entries in read for entry in entries):
        if os.path.realpath(entry["image"]) in images or entry.get("patient") in patients:
            raise DataError(
                "a test case cannot be opened in training",
                file=entry["image"],
                expected="cases that are not in the test list",
                do="leave train#dataset#data, train#unlabelled_dataset#data and "
                "validate#dataset#data as train.yaml has them",
            )


def begin_run(datalist: Datalist, output_dir: str, config: Mapping[str, Any]) -> None:
    """Write the split and the settings of a run into its folder; remove an earlier run's results.

    A run that is interrupted would otherwise lie beside scores that are not its own. No other
    process can begin one there until this one ends, see `lock_run`.

    Args:
        datalist: of the training.
        output_dir: folder of the run.
        config: see :func:`dim_monai.bundle.running_config`; becomes `CONFIG_FILE`.

    Raises:
        DataError: the folder cannot be written, or another training is running there.
    """
    folder = Path(output_dir)
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock_run(folder)
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
    save_datalist(folder / DATALIST_NAME, datalist)
    with atomic_write(folder / CONFIG_FILE, "w") as file:
        json.dump(config, file, indent=1, default=str)


def _warn_of_unread(root: Path, entries: Sequence[Entry], kind: str) -> None:
    for remark in unused_images(root, entries, get_kind(kind)):
        logger.warning("%s", remark)


def _refuse_trained_on(stated: Datalist, trained: Datalist, saved: Path) -> None:
    entries = (*trained.labeled, *trained.unlabeled)
    images = {os.path.realpath(entry["image"]) for entry in entries}
    patients = {entry["patient"] for entry in entries}
    for entry in with_split(stated, ("validation", "test")):
        if os.path.realpath(entry["image"]) in images:
            got = "the image"
        elif entry["patient"] in patients:
            got = f"patient {entry['patient']}"
        else:
            continue
        raise DataError(
            f"a {entry['split']} case has trained the network",
            file=entry["image"],
            got=f"{got} on the training side of {saved}",
            expected="cases and patients that were not trained on",
            do=f"take it out of the list; if these are other patients, say so with 'patient' in "
            f"{DATALIST_NAME}; if it is another network, use the output_dir of its training",
        )


def _range(numbers: Iterable[str]) -> str:
    ordered = sorted(set(numbers), key=float)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _lies_in(datalist: Datalist, folder: Path) -> bool:
    lists = (datalist.labeled, datalist.unlabeled, datalist.validation, datalist.test)
    return all(folder in Path(entry["image"]).parents for entries in lists for entry in entries)
