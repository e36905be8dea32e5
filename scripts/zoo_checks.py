"""Check bundles as the CI of the MONAI model zoo does, before they are sent there: ``make zoo``.

    python scripts/zoo_checks.py [--schema FILE] [--demo DIR] [BUNDLE ...]

One line a check: ``ok``, ``note`` for what the zoo has to be told, or ``FAIL`` and the reason; the
exit status is 1 if one failed. MONAI's own functions do the checks that it has functions for. The
bundles stay as they are, and nothing but the schema is downloaded, which --schema spares.

What the zoo asks for: CONTRIBUTING.md and ci/verify_bundle.py of Project-MONAI/model-zoo.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from monai.bundle import (
    ConfigParser,
    ConfigWorkflow,
    ckpt_export,
    verify_metadata,
    verify_net_in_out,
)
from zoo_candidate import NETWORK, Candidate

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
REQUIRED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.yaml",
    "configs/train.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
)
SECTIONS = (
    *("Authors", "Tags", "Model description", "Data", "Preprocessing", "Training configuration"),
    *("Input", "Output", "Performance", "MONAI Bundle commands", "System configuration"),
    *("Limitations", "Citation", "References", "Licen[cs]e"),
)
LARGEST_BYTES = 25 * 1000**2
TRAIN_IDS = (
    *("bundle_root", "device", "dataset_dir", "output_dir", "val_interval", "train#trainer"),
    *("train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#handlers"),
    *("train#preprocessing", "train#inferer", "validate#evaluator", "validate#handlers"),
    *("validate#dataset", "validate#dataset#data", "validate#preprocessing", "validate#inferer"),
    *("validate#postprocessing", "validate#key_metric"),
)
INFERENCE_IDS = ("bundle_root", "device", "network_def", "inferer", "output_dir")


class Note(Exception):
    """What the zoo allows, but wants to be told."""


def require(condition: object, reason: str) -> None:
    """Raise ValueError, as MONAI's functions do."""
    if not condition:
        raise ValueError(reason)


def check_files(bundle: Candidate) -> None:
    """Everything is there that the zoo asks for, and it is not empty."""
    missing = [name for name in REQUIRED if not _has_content(bundle.folder / name)]
    require(not missing, f"missing or empty: {', '.join(missing)}")


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def check_readme(bundle: Candidate) -> None:
    """The README has the zoo's sections."""
    text = (bundle.folder / "docs" / "README.md").read_text("utf-8")
    headings = "\n".join(re.findall(r"^#+ *(.+?) *$", text, re.MULTILINE))
    missing = [s for s in SECTIONS if not re.search(rf"^{s}$", headings, re.MULTILINE | re.I)]
    require(not missing, f"sections missing: {', '.join(missing)}")


def check_large_files(bundle: Candidate) -> None:
    """What exceeds 25 MB is listed, and what is listed says where it is."""
    for entry in bundle.large_files:
        require(entry.get("path") and entry.get("url"), f"entry without path and url: {entry}")
    listed = {entry["path"] for entry in bundle.large_files}
    for file in sorted(bundle.folder.rglob("*")):
        name = file.relative_to(bundle.folder).as_posix()
        if file.is_file() and file.stat().st_size > LARGEST_BYTES and not name.startswith("eval/"):
            require(name in listed, f"{name} exceeds 25 MB and is not listed in large_files.yml")


def check_weights(bundle: Candidate) -> None:
    """There are weights, here or elsewhere."""
    listed = {entry.get("path") for entry in bundle.large_files}
    if not (bundle.folder / "models" / "model.pt").is_file() and "models/model.pt" not in listed:
        raise Note("no models/model.pt: the zoo must list it as a bundle without preferred files")


def check_version(bundle: Candidate) -> None:
    """The changelog has the version; the bundle is called as its folder is."""
    version, changes = bundle.metadata.get("version"), bundle.metadata.get("changelog", {})
    require(version in changes, f"version {version} is not in the changelog: {list(changes)}")
    name = bundle.metadata.get("name")
    require(name == bundle.folder.name, f"name {name!r} in a folder {bundle.folder.name!r}")


def check_metadata(bundle: Candidate) -> None:
    """The metadata meet the schema."""
    verify_metadata(meta_file=bundle.config("metadata.json"), filepath=str(bundle.schema))


def check_ids(bundle: Candidate) -> None:
    """The configs have the ids that the zoo's guide names."""
    for name, ids in (("train.yaml", TRAIN_IDS), ("inference.yaml", INFERENCE_IDS)):
        parser = ConfigParser()
        parser.read_config(bundle.config(name))
        missing = [id_ for id_ in ids if id_ not in parser]
        require(not missing, f"{name} lacks {', '.join(missing)}")


def check_training(bundle: Candidate) -> None:
    """The training has the properties of its workflow, on the demo set."""
    _check_properties(bundle, "train", "train.yaml")


def check_evaluation(bundle: Candidate) -> None:
    """The evaluation, an overlay of the training, has them too."""
    _check_properties(bundle, "train", "train.yaml", "evaluate.yaml")


def check_inference(bundle: Candidate) -> None:
    """The inference has the properties of its workflow, on an image of the demo set."""
    _check_properties(bundle, "inference", "inference.yaml")


def _check_properties(bundle: Candidate, kind: str, *configs: str) -> None:
    output = Path(tempfile.mkdtemp(dir=bundle.scratch))
    (output / "datalist.json").write_text(json.dumps(bundle.cases))
    dataset = output if kind == "train" else bundle.cases["test"][0]["image"]
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=[bundle.config(name) for name in configs],
        meta_file=bundle.config("metadata.json"),
        logging_file=False,
        bundle_root=str(bundle.folder),
        dataset_dir=str(dataset),
        output_dir=str(output / "results"),
        model_file=str(bundle.weights),
    )
    workflow.initialize()
    wrong = workflow.check_properties()
    require(not wrong, f"{' with '.join(configs)} without the properties {wrong}")


def check_network(bundle: Candidate) -> None:
    """The network takes and gives what the metadata say."""
    verify_net_in_out(
        net_id=NETWORK,
        meta_file=bundle.config("metadata.json"),
        config_file=bundle.config("inference.yaml"),
        bundle_root=str(bundle.folder),
    )


def check_torchscript(bundle: Candidate) -> None:
    """The network goes into a TorchScript module that can be read again."""
    exported = bundle.scratch / "model.ts"
    ckpt_export(
        net_id=NETWORK,
        filepath=str(exported),
        ckpt_file=str(bundle.weights),
        meta_file=bundle.config("metadata.json"),
        config_file=bundle.config("inference.yaml"),
        bundle_root=str(bundle.folder),
    )
    for file in (exported, bundle.folder / "models" / "model.ts"):
        if file.is_file():
            torch.jit.load(str(file), map_location="cpu")


CHECKS: dict[str, Callable[[Candidate], None]] = {
    "files": check_files,
    "README sections": check_readme,
    "large files": check_large_files,
    "weights": check_weights,
    "version and changelog": check_version,
    "metadata schema": check_metadata,
    "ids of the configs": check_ids,
    "properties of the training": check_training,
    "properties of the evaluation": check_evaluation,
    "properties of the inference": check_inference,
    "input and output of the network": check_network,
    "export to TorchScript": check_torchscript,
}


def run_checks(bundle: Candidate) -> Iterator[tuple[str, str, str]]:
    """Yield status, name and reason of each check."""
    for name, check in CHECKS.items():
        try:
            with _quiet():
                check(bundle)
        except Note as note:
            yield "note", name, str(note)
        except Exception as error:  # whatever a bundle does wrong, the next check is made
            yield "FAIL", name, _reason(error)
        else:
            yield "ok", name, ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MONAI's log of its arguments; a config may not replace how errors are shown."""
    hook = sys.excepthook
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        sys.excepthook = hook


def _reason(error: BaseException) -> str:
    """Return the first cause on one line: MONAI wraps what a component raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="What the MONAI model zoo checks of a bundle.")
    parser.add_argument("bundles", nargs="*", type=Path, help="folders; default: all here")
    parser.add_argument("--schema", type=Path, help="MONAI's schema of metadata; else downloaded")
    parser.add_argument("--demo", type=Path, help="folder of demo sets, made there if need be")
    given = parser.parse_args(arguments)
    bundles = given.bundles or sorted(p.parents[1] for p in BUNDLES.glob("*/configs/metadata.json"))
    failed = False
    with tempfile.TemporaryDirectory() as name:
        for folder in bundles:
            scratch = Path(tempfile.mkdtemp(dir=name))
            schema = given.schema or scratch / "schema.json"
            candidate = Candidate(folder.resolve(), scratch, schema, given.demo or Path(name))
            for status, check, reason in run_checks(candidate):
                failed |= status == "FAIL"
                line = f"{status:4}  {candidate.folder.name}  {check}"
                sys.stdout.write(f"{line}: {reason}\n" if reason else f"{line}\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
