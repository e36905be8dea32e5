"""Every config and every overlay trains, evaluates and segments from one end to the other."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from dim_monai.handlers import SharpnessAware
from dim_monai.methods import Supervised
from dim_monai.report.scores import COLUMNS
from tests.bundles.prostate import BUNDLE, NETWORK, TINY, last_terms, start

METHODS = sorted(f"methods/{path.name}" for path in (BUNDLE / "configs").glob("methods/*.yaml"))
VOLUMES = {"roi_size": [32, 32, 8]}  # the overlay's network is 3-D, so is its patch
SHAPES: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "slices": ([], {}, ["prostate"]),
    "zones": (["zones.yaml"], {}, ["peripheral_zone", "central_gland"]),
    "volumes": (["volumes.yaml"], VOLUMES, ["prostate"]),
    "volumes of zones": (
        ["volumes.yaml", "zones.yaml"],
        VOLUMES,
        ["peripheral_zone", "central_gland"],
    ),
}
"""Name of a task to its overlays, what they need to stay tiny, and its classes."""


def get(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def train(
    bundle: Path, dataset: Path, output_dir: Path, *overlays: str, **settings: Any
) -> ConfigWorkflow:
    places = {
        "dataset_dir": str(dataset),
        "output_dir": str(output_dir),
        "model_file": str(output_dir / "model.pt"),
    }
    workflow = start(bundle, "train.yaml", *overlays, **{**TINY, **settings, **places})
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    return workflow


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def require_complete_training(workflow: ConfigWorkflow, output_dir: Path) -> dict[str, Any]:
    """Check what every training must leave, and return the terms of its last step."""
    trainer = get(workflow, "train#trainer")
    assert trainer.state.iteration == 2
    assert trainer.state.skipped_steps == 0
    terms = last_terms(workflow)
    assert all(math.isfinite(value) for value in terms.values())

    run = json.loads((output_dir / "run.json").read_text())
    deployed = {"student": get(workflow, "network"), "teacher": get(workflow, "teacher").network}
    weights = torch.load(output_dir / "model.pt", weights_only=True)
    trained = deployed[run["deployed"]].state_dict()
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name].cpu()) for name in weights)

    report = (output_dir / "report.html").read_text()
    for case in {row["case"] for row in read_table(output_dir / "metrics.csv")}:
        assert case in report
    return terms


@pytest.mark.parametrize("overlay", METHODS)
def test_a_method_does_what_its_overlay_says(
    prostate: Path, dataset: Path, tmp_path: Path, overlay: str
) -> None:
    workflow = train(prostate, dataset, tmp_path, overlay)
    terms = require_complete_training(workflow, tmp_path)
    assert "supervised" in terms
    assert ("f_divergence" in terms) == workflow.parser["use_divergence"]
    if isinstance(get(workflow, "method"), Supervised):
        assert terms.keys() == {"supervised"}
    else:
        assert terms.keys() > {"supervised"}
    # A disabled component is None, which is not hung on the engine.
    sharp = [h for h in get(workflow, "train#handlers") if isinstance(h, SharpnessAware)]
    assert len(sharp) == workflow.parser["use_sharpness"]


@pytest.mark.parametrize("task", SHAPES)
def test_a_task_trains_evaluates_and_segments_with_one_overlay(
    prostate: Path, dataset: Path, tmp_path: Path, task: str
) -> None:
    overlays, settings, classes = SHAPES[task]
    trained = train(prostate, dataset, tmp_path, *overlays, **settings)
    terms = require_complete_training(trained, tmp_path)
    assert terms.keys() >= {"supervised", "labelled_in_box", "unlabelled_in_box", "f_divergence"}
    assert_table(tmp_path / "metrics.csv", ["validation"], classes)

    places = {"output_dir": str(tmp_path), "model_file": str(tmp_path / "model.pt")}
    files = ("train.yaml", "evaluate.yaml", *overlays)
    evaluation = start(prostate, *files, **{**TINY, **settings}, dataset_dir=str(dataset), **places)
    evaluation.run()
    assert_table(tmp_path / "metrics.csv", ["validation", "test", "test", "test"], classes)

    image = json.loads((dataset / "datalist.json").read_text())["test"][0]["image"]
    places |= {"output_dir": str(tmp_path / "masks"), "dataset_dir": image}
    start(
        prostate, "inference.yaml", *overlays, kind="inference", **NETWORK | settings, **places
    ).run()
    (mask,) = (tmp_path / "masks").iterdir()
    found = nib.load(mask)
    assert found.shape == nib.load(image).shape
    assert found.get_data_dtype() == np.uint8
    assert set(np.unique(found.dataobj)) <= set(range(len(classes) + 1))


def assert_table(path: Path, splits: list[str], classes: list[str]) -> None:
    rows = read_table(path)
    assert tuple(rows[0]) == COLUMNS
    assert [row["split"] for row in rows[:: len(classes)]] == splits
    assert [row["class"] for row in rows] == classes * len(splits)
