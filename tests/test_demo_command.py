"""The demo runs a user's commands, and its last lines are what they measured."""

from __future__ import annotations

import ast
import csv
import subprocess
from pathlib import Path
from statistics import fmean
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dim_monai import demo
from dim_monai.errors import ConfigError, DimError
from dim_monai.metrics import ClassScore, ScoreRow
from dim_monai.report.scores import write_scores_csv

SITES = ("site_a", "site_b", "site_c")
LENGTH = {"max_epochs": 3, "steps_per_epoch": 7}

Command = list[str]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole file: the demo makes its data there once."""
    return tmp_path_factory.mktemp("results")


def option(command: Command, name: str) -> str:
    return command[command.index(f"--{name}") + 1]


def files_of(command: Command) -> list[str]:
    given = option(command, "config_file")
    return [Path(file).name for file in (ast.literal_eval(given) if given[0] == "[" else [given])]


class Shell:
    """Stands in for the processes: keeps each command and leaves what an evaluation leaves."""

    def __init__(self, dice: dict[str, dict[str, list[float | None]]], fails_at: int = -1) -> None:
        self.dice, self.fails_at = dice, fails_at
        self.commands: list[Command] = []

    def __call__(self, command: Command, **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if "evaluate.yaml" in files_of(command):
            folder = Path(option(command, "output_dir"))
            folder.mkdir(exist_ok=True)
            write_scores_csv(folder / "metrics.csv", self._rows(folder.name))
        failed = len(self.commands) - 1 == self.fails_at
        return subprocess.CompletedProcess(command, 7 if failed else 0)

    def _rows(self, method: str) -> list[ScoreRow]:
        # A validation case that would shift the mean of its site if it were counted.
        scores = [("site_a", "validation", 0.0)]
        for site, values in self.dice[method].items():
            scores += [(site, "test", value) for value in values]
        return [
            ScoreRow(str(n), site, split, ClassScore("prostate", dice, None, None, None, None))
            for n, (site, split, dice) in enumerate(scores)
        ]


def some_dice() -> dict[str, dict[str, list[float | None]]]:
    return {
        "supervised": {"site_a": [0.5, 0.75], "site_b": [0.25, 0.5], "site_c": [0.125, None]},
        "dim": {"site_a": [0.5, 0.5], "site_b": [0.75, 0.5], "site_c": [None, None]},
    }


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    stand_in = Shell(some_dice())
    monkeypatch.setattr(subprocess, "run", stand_in)
    return stand_in


def table_of(text: str) -> dict[str, list[str]]:
    """The numbers of each site; the header and the mean of the domains are left out."""
    cells = (line.split() for line in text.splitlines())
    return {row[0]: row[1:] for row in cells if row and row[0] in SITES}


def test_both_methods_learn_from_the_same_data_for_the_same_time(
    results: Path, shell: Shell
) -> None:
    demo.run_demo(demo.find_bundle(), results, LENGTH)
    trainings = [c for c in shell.commands if c[4] == "training"]
    assert [files_of(command) for command in trainings] == [
        ["train.yaml", "supervised.yaml"],
        ["train.yaml"],
    ]
    for command in trainings:
        assert option(command, "dataset_dir") == str(results / "data")
        assert {name: int(option(command, name)) for name in LENGTH} == LENGTH
    places = {option(command, "output_dir") for command in trainings}
    assert places == {str(results / "supervised"), str(results / "dim")}


def test_each_training_is_evaluated_and_dim_segments(results: Path, shell: Shell) -> None:
    demo.run_demo(demo.find_bundle(), results, LENGTH)
    _, supervised, _, dim, segment = shell.commands
    assert files_of(supervised) == ["train.yaml", "supervised.yaml", "evaluate.yaml"]
    assert files_of(dim) == ["train.yaml", "evaluate.yaml"]
    assert files_of(segment) == ["inference.yaml"]
    assert option(segment, "dataset_dir") == str(results / "data" / "test_images")
    assert option(segment, "model_file") == option(dim, "model_file")


def test_every_config_that_is_named_exists(results: Path, shell: Shell) -> None:
    demo.run_demo(demo.find_bundle(), results, LENGTH)
    for command in shell.commands:
        given = option(command, "config_file")
        for file in ast.literal_eval(given) if given[0] == "[" else [given]:
            assert Path(file).is_file()


def test_the_table_holds_the_means_of_the_test_cases_win_or_lose(
    results: Path, shell: Shell
) -> None:
    summary = demo.run_demo(demo.find_bundle(), results, LENGTH)
    # labelled and test cases of the site, then the two means; a case of None is not scored
    assert table_of(summary) == {
        "site_a": ["2", "2", "0.625", "0.500"],
        "site_b": ["0", "2", "0.375", "0.625"],
        "site_c": ["0", "2", "0.125", "-"],
    }
    (means,) = (line.split() for line in summary.splitlines() if line.startswith("mean of"))
    assert means[-2:] == ["0.375", "0.562"]  # of 0.625, 0.375, 0.125 and of 0.5, 0.625


def test_the_summary_names_reports_and_masks(results: Path, shell: Shell) -> None:
    last = demo.run_demo(demo.find_bundle(), results, LENGTH).splitlines()[-3:]
    assert [line.split()[-1] for line in last] == [
        str(results / "supervised" / "report.html"),
        str(results / "dim" / "report.html"),
        str(results / "predictions"),
    ]


@pytest.mark.parametrize("failing", range(5))
def test_nothing_runs_after_a_command_that_failed(
    results: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    shell = Shell(some_dice(), fails_at=failing)
    monkeypatch.setattr(subprocess, "run", shell)
    with pytest.raises(DimError, match="exit status 7"):
        demo.run_demo(demo.find_bundle(), results, LENGTH)
    assert len(shell.commands) == failing + 1


def test_apart_from_its_repository_the_demo_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "site-packages/dim_monai/demo.py"))
    with pytest.raises(ConfigError, match="checkout of the repository"):
        demo.find_bundle()


@pytest.mark.parametrize("argv", [["--qick"], ["--quick", "--quick"], ["out"]])
def test_a_wrong_option_runs_nothing(
    argv: Command, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(argv) == 2
    assert shell.commands == []
    captured = capsys.readouterr()
    assert captured.err.strip().startswith("ConfigError: unknown options")
    assert captured.out == ""


@pytest.mark.slow
def test_the_real_commands_leave_masks_reports_and_the_scores_of_the_table(tmp_path: Path) -> None:
    summary = demo.run_demo(demo.find_bundle(), tmp_path, demo.QUICK)
    images = sorted((tmp_path / "data" / "test_images").glob("site_[ab]/*.nii.gz"))
    assert images
    for image in images:
        name = image.name.replace(".nii.gz", "_seg.nii.gz")
        mask = nib.load(tmp_path / "predictions" / image.parent.name / name)
        assert mask.shape == nib.load(image).shape
        np.testing.assert_allclose(mask.affine, nib.load(image).affine, atol=1e-4)
    series = list((tmp_path / "data" / "test_images" / "site_c").iterdir())
    masks = list((tmp_path / "predictions" / "site_c").iterdir())
    assert {f"{folder.name}_seg.nii.gz" for folder in series} == {mask.name for mask in masks}

    table = table_of(summary)
    for column, method in enumerate(("supervised", "dim"), start=2):
        assert (tmp_path / method / "report.html").stat().st_size > 0
        with (tmp_path / method / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        for site in SITES:
            mean = fmean(float(row["dice"]) for row in rows if row["domain"] == site)
            assert float(table[site][column]) == pytest.approx(mean, abs=5.1e-4)
