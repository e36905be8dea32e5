"""The server of ``make label``: it trains, scores what has no label, and serves the best next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bundles.examples import PROSTATE, demo_set
from tests.label.server import make_studies, serving, tiny_bundle

pytest.importorskip("monailabel", reason="needs the environment of make test-label")
pytestmark = pytest.mark.slow

NAME = PROSTATE.name
SCORE = f"disagreement_{NAME}"


def test_the_case_to_label_next_is_the_one_the_networks_disagree_on(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    bundle = tiny_bundle(tmp_path, PROSTATE)
    _, labels = make_studies(tmp_path / "studies", demo_set(tmp_path_factory))
    places = ["--studies", str(tmp_path / "studies"), "--bundle", str(bundle)]
    command = [sys.executable, "-m", "dim_monai.label", *places, "--app", str(tmp_path / "app")]
    with serving(command, tmp_path / "log") as server:
        info = server.call("GET", "/info/")
        assert {"first", "random", SCORE} <= info["strategies"].keys()
        assert SCORE in info["scoring"]

        labelled = sorted(labels)[:2]
        for image in labelled:
            server.save_label(image.partition(".")[0], labels[image])
        # The stock app cannot begin with new weights.
        request = {"max_epochs": 1, "val_split": 0, "pretrained": False, "device": "cpu"}
        server.call("POST", f"/train/{NAME}", json=request)
        server.finish("train")
        server.finish("scoring")
        assert "starting from" not in server.log.read_text()
        assert "0 for validation" in server.log.read_text()

        objects = server.call("GET", "/datastore/?output=all")["objects"]
        scores = {
            name: case["image"]["info"][SCORE]
            for name, case in objects.items()
            if not case["labels"]
        }
        assert len(scores) == len(objects) - len(labelled)
        assert all(0 < score < 1 for score in scores.values())
        chosen = server.call("POST", f"/activelearning/{SCORE}")
        assert chosen["id"] == max(scores, key=lambda name: scores[name])
        assert chosen[SCORE] == scores[chosen["id"]]
        server.finish("scoring")
