"""Beside the scores of a bundle stand the lists and the network that were scored, no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.report.scores import read_scores_csv
from tests.bundles.examples import Example, small_set, start

BESIDE = r"SHA-256 [0-9a-f]{64}, surface Dice within \d \w+\. Split: (.+?)\. Rule: (.+?)\. "


def text_of(report: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", report.read_text(encoding="utf-8")).split())


def test_an_evaluation_of_another_list_or_network_says_so(
    example: Example, bundle: Path, demo: Path, tmp_path: Path
) -> None:
    trained = small_set(tmp_path / "trained", demo, labeled=1, unlabeled=1, validation=1)
    out, model = tmp_path / "out", tmp_path / "model.pt"
    places = {"output_dir": str(out), "model_file": str(model)}
    start(bundle, "train.yaml", **example.tiny, **places, dataset_dir=str(trained)).run()
    rule = json.loads((out / "run.json").read_text())["rule"]
    assert "highest mean Dice" in rule
    text = text_of(out / "report.html")
    assert re.findall(BESIDE, text) == [("datalist.json", rule)]
    assert SELECTED_ON_TEST not in text
    settings = text.partition("Settings of the training")[2]
    assert f" max epochs {example.tiny['max_epochs']} steps per epoch " in settings
    assert " method dim_monai.methods.MiDSS " in settings
    assert not re.search(r"[@$%]", settings)

    other = small_set(tmp_path / "other", demo, labeled=1, test=1)
    lists = json.loads((other / "datalist.json").read_text())
    lists |= {"source": "another list", "notes": [f"{SELECTED_ON_TEST}: so"]}
    (other / "datalist.json").write_text(json.dumps(lists))
    weights = torch.load(model, weights_only=True)
    shifted = {name: value + 0.5 for name, value in weights.items()}
    torch.save(shifted, tmp_path / "shifted.pt")
    files, places["dataset_dir"] = ("train.yaml", "evaluate.yaml"), str(other)
    elsewhere = "chosen elsewhere, for there is no run"  # .json
    for file, told in ((model, rule), (tmp_path / "shifted.pt", elsewhere)):
        places["model_file"] = str(file)
        if told == elsewhere:
            with pytest.raises(RuntimeError) as refused:
                start(bundle, *files, **example.network, **places)
            assert "deployed other weights" in str(refused.value.__cause__)
            out = tmp_path / "new"
            places["output_dir"] = str(out)
        start(bundle, *files, **example.network, **places).run()
        text = text_of(out / "report.html")
        assert re.findall(BESIDE.removesuffix(" "), text) == [("another list", told)]
        lists = "lists of the training split datalist.json labeled cases"
        assert (lists in text) == (told == rule)
        assert f"test: {SELECTED_ON_TEST}" in text
        rows = read_scores_csv(out / "metrics.csv")
        assert {(row.split, row.selection) for row in rows} == {("test", SELECTED_ON_TEST)}
