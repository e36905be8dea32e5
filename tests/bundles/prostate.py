"""What tests of the dim_prostate bundle share: a copy of it, a small data set, tiny settings."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from dim_monai.data.demo import make_demo

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "dim_prostate"

NETWORK: dict[str, Any] = {
    "roi_size": [32, 32],
    "network_def#channels": [4, 8],
    "network_def#strides": [2],
}
TINY: dict[str, Any] = {
    **NETWORK,
    "max_epochs": 1,
    "steps_per_epoch": 2,
    "val_interval": 1,
    "labelled_batch": 2,
    "unlabelled_batch": 2,
}
"""Settings of a training that takes a second."""


def copy_bundle(folder: Path) -> Path:
    """Copy the bundle without weights and results: tests never write into the repository."""
    return Path(
        shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("eval", "*.pt", "*.ts"))
    )


def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the demo set, made once a session."""
    return make_demo(tmp_path_factory.getbasetemp() / "demo")


def small_set(folder: Path, demo: Path, **counts: int) -> Path:
    """Write a data list of so many cases of each list of the demo set, spread over its sites."""
    lists = json.loads((demo / "datalist.json").read_text())
    chosen = {}
    for name, count in counts.items():
        entries = lists[name][:: max(1, len(lists[name]) // max(1, count))][:count]
        paths = [{k: str(demo / e[k]) for k in ("image", "label") if k in e} for e in entries]
        chosen[name] = [{**e, **p} for e, p in zip(entries, paths, strict=True)]
    folder.mkdir(parents=True)
    (folder / "datalist.json").write_text(json.dumps(chosen))
    return folder


def start(bundle: Path, *configs: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
    """Return the initialised workflow of config files named from the bundle's ``configs``."""
    hook = sys.excepthook
    try:
        workflow = ConfigWorkflow(
            config_file=[str(bundle / "configs" / name) for name in configs],
            logging_file=False,  # logging belongs to pytest
            workflow_type=kind,
            **overrides,
        )
        workflow.initialize()
    finally:
        sys.excepthook = hook
    return workflow


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def last_terms(workflow: ConfigWorkflow) -> dict[str, float]:
    """Return the unweighted terms of the last training step."""
    (output,) = workflow.parser.get_parsed_content("train#trainer").state.output
    return {name: float(value) for name, value in output["terms"].items()}
