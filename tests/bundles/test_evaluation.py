"""What the evaluation of a bundle writes, and that training has no way to the test cases."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from dim_monai.errors import DataError
from tests.bundles.examples import Example, start

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

READERS = ("train#dataset#data", "train#unlabelled_dataset#data", "validate#dataset#data")


@pytest.mark.parametrize("setting", [*READERS, "evaluate#cases"])
def test_training_that_asks_for_the_test_cases_stops(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path, setting: str
) -> None:
    places = {"dataset_dir": str(dataset), "output_dir": str(tmp_path)}
    wish = {setting: "$list(@training_data.test)"}

    def read() -> None:
        workflow = start(bundle, "train.yaml", **example.tiny, **places, **wish)
        workflow.parser.get_parsed_content(setting)

    with pytest.raises(RuntimeError) as caught:
        read()
    assert isinstance(caught.value.__cause__, DataError)
    assert "cannot be opened in training" in str(caught.value.__cause__)


@pytest.mark.parametrize("setting", READERS)
def test_training_that_goes_round_the_lists_stops_before_its_first_step(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path, setting: str
) -> None:
    """A config is code and can name the list that knows the test cases."""
    places = {"dataset_dir": str(dataset), "output_dir": str(tmp_path / "out")}
    wish = {setting: "$list(@datalist.test)"}
    with pytest.raises(RuntimeError) as caught:
        start(bundle, "train.yaml", **example.tiny, **places, **wish)
    assert "a test case cannot be opened in training" in str(caught.value.__cause__)
    assert not (tmp_path / "out" / "datalist.json").exists()


def test_no_config_but_the_evaluation_reaches_the_list_that_knows_the_test_cases(
    example: Example,
) -> None:
    begun = "$source.begin_run(@datalist, @output_dir, bundle.running_config())"
    allowed = {
        "$source.refuse_test_cases(@datalist, " + ", ".join(f"@{name}" for name in READERS) + ")",
        "$@datalist.for_training()",
        "$@datalist.notes",
        "$@datalist.source",
        begun,
        f"{begun} if dist.get_rank() == 0 else None",
    }
    configs = example.folder / "configs"
    for file in sorted({*configs.rglob("*.yaml")} - {configs / "evaluate.yaml"}):
        for value in leaves(ConfigParser.load_config_file(file)):
            assert "@datalist" not in value or value in allowed, file


def test_the_evaluation_marks_and_separates_the_scores_of_the_papers(
    example: Example, bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    places = {
        "dataset_dir": str(dataset),
        "output_dir": str(tmp_path),
        "model_file": str(tmp_path / "model.pt"),
    }
    begun = {**places, "output_dir": str(tmp_path / "begun")}
    training = start(bundle, "train.yaml", **example.network, **begun)
    torch.save(training.parser.get_parsed_content("network_def").state_dict(), places["model_file"])
    files = ("train.yaml", "evaluate.yaml")
    choices = {"paper_protocol": True, "surface_tolerance": 4.5}
    start(bundle, *files, **example.network, **places, **choices).run()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [v for k, v in rows[0].items() if k.startswith("tolerance_")] == ["4.5"]
    assert not any(name.startswith("paper_") for name in rows[0])
    with (tmp_path / "metrics_paper.csv").open(newline="") as file:
        slices = list(csv.DictReader(file))
    assert {row["split"] for row in slices} == {row["split"] for row in rows}
    per_case = len(slices) / len(rows)
    assert per_case == 1 if example.kind == "photograph" else per_case > 1


def leaves(config: object) -> list[str]:
    if isinstance(config, dict | list):
        values = config.values() if isinstance(config, dict) else config
        return [leaf for value in values for leaf in leaves(value)]
    return [config] if isinstance(config, str) else []
