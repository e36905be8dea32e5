"""A training that the server starts without a server: its overrides, on two studies and on more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundles.examples import Example, last_terms, start
from tests.label.server import make_studies, tiny_bundle

# The configs ignore this themselves, but pytest forgets that between the tests of one workflow.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")


@pytest.mark.parametrize("others", [False, True], ids=["labelled alone", "with unlabelled"])
def test_unlabelled_studies_are_used_where_there_are_any(
    example: Example, demo: Path, tmp_path: Path, others: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = tiny_bundle(tmp_path, example)
    studies, labels = make_studies(tmp_path / "studies", demo)
    labelled = [save_label(path, labels[path.name]) for path in studies if path.name in labels][:1]
    kept = [path for path in studies if str(path) != labelled[0]["image"]] if others else []
    folder = Path(labelled[0]["image"]).parent
    for path in studies:
        if path not in kept and str(path) != labelled[0]["image"]:
            path.rename(tmp_path / path.name)
    # As BundleTrainTask of MONAI Label 0.8.5 lays them over the config, val_split 0.
    overrides = {
        "bundle_root": str(bundle),
        "train#trainer#max_epochs": 3,
        "train#dataset#data": labelled,
        "validate#dataset#data": [],
        "device": torch.device("cpu"),
    }
    with caplog.at_level("INFO"):
        workflow = start(bundle, "train.yaml", **overrides)
        workflow.run()
    assert f"unlabelled studies found in {folder}: {len(kept)}" in caplog.text
    assert ("this training is supervised" in caplog.text) == (not others)
    terms = last_terms(workflow)
    assert (terms.keys() == {"supervised"}) == (not others)
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration == 3 * workflow.parser["steps_per_epoch"]
    assert (bundle / "models" / "model.pt").is_file()
    saved = json.loads((bundle / "eval" / "datalist.json").read_text())
    assert len(saved.get("unlabeled", [])) == len(kept)


def save_label(image: Path, label: Path) -> dict[str, Any]:
    """Do what the server does when a person saves a label; return what it passes of the case."""
    final = image.parent / "labels" / "final" / image.name
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(label.read_bytes())
    return {"image": str(image), "label": str(final)}
