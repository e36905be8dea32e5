"""What puts trained weights into a bundle: the files, the card and the metadata say the same."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import weights

from dim_monai.errors import CheckpointError
from dim_monai.metrics import ClassScore, ScoreRow
from dim_monai.model_files import read_model, save_model
from dim_monai.report.scores import read_scores_csv, write_scores_csv
from tests.bundles.examples import PROSTATE, copy_bundle

ROWS = (  # domain, split, dice, hd95
    ("a", "test", 0.5, 4.0),
    ("a", "test", 0.7, 6.0),
    ("b", "test", 0.0, None),  # a missed gland has no distance
    ("a", "validation", 0.9, 1.0),
)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a repository of its own in which DiM has been trained."""
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    monkeypatch.setattr(weights, "WORK", tmp_path / "work")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    copy_bundle(tmp_path / "bundles" / "dim_prostate", PROSTATE)
    output = tmp_path / "work" / "dim_prostate" / "dim"
    output.mkdir(parents=True)
    save_model(output / "model.pt", {"weight": torch.arange(3.0)})
    rows = [
        ScoreRow(f"c{n}", domain, split, ClassScore("prostate", dice, dice, far, far, 0.0))
        for n, (domain, split, dice, far) in enumerate(ROWS)
    ]
    write_scores_csv(output / "metrics.csv", rows)
    entries = {"labeled": ["x"], "unlabeled": ["y", "z"], "validation": ["c3"], "test": ["c0"]}
    lists = {k: [{"domain": "a", "case": case} for case in v] for k, v in entries.items()}
    (output / "datalist.json").write_text(json.dumps(lists))
    return weights


def test_the_bundle_gets_each_format_once_with_its_hash(script: ModuleType) -> None:
    script.install("dim_prostate")
    models = script.ROOT / "bundles" / "dim_prostate" / "models"
    assert {file.name for file in models.iterdir() if not file.name.startswith(".")} == {
        *("model.pt", "model.sha256", "pretrained.safetensors", "pretrained.sha256")
    }
    for name in ("model.pt", "pretrained.safetensors"):
        assert torch.equal(read_model(models / name)["weight"], torch.arange(3.0))
    content = bytearray((models / "pretrained.safetensors").read_bytes())
    content[-1] ^= 1
    (models / "pretrained.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="hash"):
        read_model(models / "pretrained.safetensors")


def test_the_card_has_the_scores_and_lists_of_this_training_alone(script: ModuleType) -> None:
    card = script.ROOT / "bundles" / "dim_prostate" / "docs" / "data_card.md"
    before = card.read_text().partition(script.BEGIN)[0]
    for _ in range(2):  # a second time it replaces what it wrote
        script.install("dim_prostate")
    text = card.read_text()
    assert text.startswith(before)
    assert text.count(script.BEGIN) == text.count(script.END) == 1
    # (0.5 + 0.7) / 2 and its standard deviation of a sample, 0.1 * sqrt(2)
    assert text.count("| test | a | prostate | 2 | 0.600 ± 0.141 | 0.500 | 5.0 ± 1.4 |") == 1
    assert "| test | b | prostate | 1 | 0.000 | 0.000 |  |" in text
    assert "- Unlabelled (2): a y, z." in text


def test_the_readme_has_the_scores_of_the_test_cases_alone(script: ModuleType) -> None:
    readme = script.ROOT / "bundles" / "dim_prostate" / "docs" / "README.md"
    for _ in range(2):
        script.install("dim_prostate")
    told = readme.read_text().partition(script.BEGIN)[2].partition(script.END)[0]
    assert "| test | a | prostate | 2 | 0.600 ± 0.141 | 0.500 | 5.0 ± 1.4 |" in told
    assert "validation" not in told


@pytest.mark.parametrize("bundle", sorted(weights.RECIPES))
def test_the_readmes_say_what_the_table_of_cases_says(bundle: str) -> None:
    rows = read_scores_csv(weights.ROOT / "benchmarks/results" / f"weights_{bundle}.csv")
    lines = weights.score_table(rows, weights.RECIPES[bundle].distance, ("test",))
    readme = (weights.ROOT / "bundles" / bundle / "docs" / "README.md").read_text("utf-8")
    assert "\n".join([weights.BEGIN, *lines, weights.END]) in readme


def test_settings_are_merged_over_the_recipe_into_a_folder_of_their_own(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script.WORK / "dim_prostate" / "data").mkdir()
    (script.WORK / "dim_prostate" / "data" / "datalist.json").write_text("{}")
    commands: list[list[str]] = []
    monkeypatch.setattr(script.subprocess, "run", lambda words, **_: commands.append(words))
    monkeypatch.setattr(script, "read_scores_csv", lambda _: [])
    words = ["max_epochs=40", "sharpness_rule=asam", "learning_rate=3e-3", "roi_size=[64, 64]"]
    script.main(["dim_prostate", "--set", *words])
    training, _ = (" ".join(command) for command in commands)
    output = "max_epochs_40-sharpness_rule_asam-learning_rate_0.003-roi_size_64_64_"
    assert f"dim_prostate/{output}/model.pt" in training
    for given in ("--max_epochs 40 ", "--learning_rate 0.003 ", "--trust_empty True "):
        assert given in f"{training} "
    assert "80" not in training.split()


@pytest.mark.parametrize("words", [["--set", "max_epochs"], ["--set", "=1"]])
def test_a_setting_without_key_or_value_is_refused(script: ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["dim_prostate", *words])


def test_only_the_recipe_is_installed(script: ModuleType) -> None:
    with pytest.raises(SystemExit):
        script.main(["dim_prostate", "--install", "--set", "max_epochs=1"])


def test_the_metadata_have_the_mean_of_the_test_cases(script: ModuleType) -> None:
    script.install("dim_prostate")
    file = script.ROOT / "bundles" / "dim_prostate" / "configs" / "metadata.json"
    assert json.loads(file.read_text())["eval_metrics"] == {
        "dice_a_prostate": 0.6,
        "dice_b_prostate": 0.0,
    }
