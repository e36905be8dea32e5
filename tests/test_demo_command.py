"""The demo runs a user's commands, and its last lines are what they measured."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dim_monai import demo
from dim_monai.data.demo import DEMO_SETS
from dim_monai.errors import ConfigError, DimError
from dim_monai.metrics import ClassScore, ScoreRow
from dim_monai.report.scores import write_scores_csv

SITES = ("site_a", "site_b", "site_c")
CAMERAS = ("camera_a", "camera_b", "camera_c", "camera_d")
LENGTH = {"max_epochs": 3, "steps_per_epoch": 7}

Command = list[str]


@pytest.fixture(scope="module", params=demo.BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Path:
    return demo.find_bundle(request.param)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each bundle, where the demo makes its data once.

    Of the photographs few are made: the commands do not depend on their number.
    """
    photographs = DEMO_SETS["photograph"]
    split = {
        "labeled": {"camera_a": 2},
        "unlabeled": {"camera_b": 1},
        "validation": {"camera_a": 1},
        "test": {"camera_d": 1},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEMO_SETS, "photograph", replace(photographs, split=split))
        yield tmp_path_factory.mktemp("results")


def option(command: Command, name: str) -> str:
    return command[command.index(f"--{name}") + 1]


def files_of(command: Command) -> list[Path]:
    given = option(command, "config_file")
    return [Path(file) for file in (ast.literal_eval(given) if given[0] == "[" else [given])]


def names_of(command: Command) -> list[str]:
    return [file.name for file in files_of(command)]


Dice = dict[str, dict[str, list[float | None]]]
"""Method, domain -> Dice of the test cases."""


class Shell:
    """Stands in for the processes: keeps each command and leaves what an evaluation leaves.

    Args:
        dice: of each region.
        fails_at: number of the command that fails.
    """

    def __init__(self, dice: dict[str, Dice], fails_at: int = -1) -> None:
        self.dice, self.fails_at = dice, fails_at
        self.commands: list[Command] = []

    def __call__(self, command: Command, **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if "evaluate.yaml" in names_of(command):
            folder = Path(option(command, "output_dir"))
            folder.mkdir(exist_ok=True)
            write_scores_csv(folder / "metrics.csv", self._rows(folder.name))
        failed = len(self.commands) - 1 == self.fails_at
        return subprocess.CompletedProcess(command, 7 if failed else 0)

    def _rows(self, method: str) -> list[ScoreRow]:
        rows = []
        for region, methods in self.dice.items():
            # A validation case that would shift the mean of its site if it were counted.
            scores = [("site_a", "validation", 0.0)]
            for domain, values in methods[method].items():
                scores += [(domain, "test", value) for value in values]
            rows += [
                ScoreRow(str(n), domain, split, ClassScore(region, dice, None, None, None, None))
                for n, (domain, split, dice) in enumerate(scores)
            ]
        return rows


def some_dice() -> Dice:
    return {
        "supervised": {"site_a": [0.5, 0.75], "site_b": [0.25, 0.5], "site_c": [0.125, None]},
        "dim": {"site_a": [0.5, 0.5], "site_b": [0.75, 0.5], "site_c": [None, None]},
    }


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    stand_in = Shell({"prostate": some_dice()})
    monkeypatch.setattr(subprocess, "run", stand_in)
    return stand_in


def run(bundle: Path, results: Path) -> str:
    return demo.run_demo(bundle, results / bundle.name, LENGTH)


def table_of(text: str, domains: tuple[str, ...] = SITES) -> dict[str, list[str]]:
    """The numbers of each site; the header and the mean of the domains are left out."""
    cells = (re.split(" {2,}", line) for line in text.splitlines())
    return {row[0]: row[1:] for row in cells if row[0] in domains}


def test_both_methods_learn_from_the_same_data_for_the_same_time(
    bundle: Path, results: Path, shell: Shell
) -> None:
    run(bundle, results)
    trainings = [c for c in shell.commands if c[4] == "training"]
    assert [names_of(command) for command in trainings] == [
        ["train.yaml", "supervised.yaml"],
        ["train.yaml"],
    ]
    folder = results / bundle.name
    for command in trainings:
        assert option(command, "dataset_dir") == str(folder / "data")
        assert {name: int(option(command, name)) for name in LENGTH} == LENGTH
    places = {option(command, "output_dir") for command in trainings}
    assert places == {str(folder / "supervised"), str(folder / "dim")}


def test_each_training_is_evaluated_and_dim_segments(
    bundle: Path, results: Path, shell: Shell
) -> None:
    run(bundle, results)
    _, supervised, _, dim, segment = shell.commands
    assert names_of(supervised) == ["train.yaml", "supervised.yaml", "evaluate.yaml"]
    assert names_of(dim) == ["train.yaml", "evaluate.yaml"]
    assert names_of(segment) == ["inference.yaml"]
    assert option(segment, "dataset_dir") == str(results / bundle.name / "data" / "test_images")
    assert option(segment, "model_file") == option(dim, "model_file")


def test_every_command_is_given_the_same_grid(bundle: Path, results: Path, shell: Shell) -> None:
    run(bundle, results)
    grid = demo.BUNDLES[bundle.name].grid
    assert len(shell.commands) == 5
    for command in shell.commands:
        assert {name: ast.literal_eval(option(command, name)) for name in grid} == grid


def test_every_config_is_a_file_of_the_bundle(bundle: Path, results: Path, shell: Shell) -> None:
    run(bundle, results)
    for file in (file for command in shell.commands for file in files_of(command)):
        assert file.is_file()
        assert bundle in file.parents


def test_each_bundle_gets_cases_of_its_kind(results: Path, shell: Shell) -> None:
    for name, suffix in (("dim_prostate", ".nii.gz"), ("dim_fundus", ".png")):
        run(demo.find_bundle(name), results)
        labels = [p for p in (results / name / "data" / "labels").rglob("*") if p.is_file()]
        assert labels
        assert all(path.name.endswith(suffix) for path in labels)


def test_the_table_holds_the_means_of_the_test_cases_win_or_lose(
    results: Path, shell: Shell
) -> None:
    summary = run(demo.find_bundle("dim_prostate"), results)
    # labelled and test cases of the site, then the two means with how many of how many cases they
    # are of; a case of None is not scored
    assert table_of(summary) == {
        "site_a": ["2", "5", "0.625 (2/2)", "0.500 (2/2)"],
        "site_b": ["0", "5", "0.375 (2/2)", "0.625 (2/2)"],
        "site_c": ["0", "5", "0.125 (1/2)", "- (0/2)"],
    }
    (line,) = (line for line in summary.splitlines() if line.startswith("mean of"))
    # of 0.625, 0.375, 0.125 and of 0.5, 0.625
    assert re.split(" {2,}", line)[-2:] == ["0.375 (5/6)", "0.562 (4/6)"]


def test_each_region_has_a_table_of_its_own(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = {
        region: {method: {"camera_d": [value]} for method in ("supervised", "dim")}
        for region, value in (("disc", 0.875), ("cup", 0.25))
    }
    monkeypatch.setattr(subprocess, "run", Shell(dice))
    _, disc, cup = run(demo.find_bundle("dim_fundus"), results).split("Mean Dice of the ")
    for table, region, value in ((disc, "disc", "0.875"), (cup, "cup", "0.250")):
        assert table.startswith(f"{region} on the test cases")
        mean = f"{value} (1/1)"
        assert table_of(table, CAMERAS) == {"camera_d": ["0", "1", mean, mean]}


def test_the_summary_names_reports_and_masks(bundle: Path, results: Path, shell: Shell) -> None:
    last = run(bundle, results).splitlines()[-3:]
    assert [line.split()[-1] for line in last] == [
        str(results / bundle.name / "supervised" / "report.html"),
        str(results / bundle.name / "dim" / "report.html"),
        str(results / bundle.name / "predictions"),
    ]


@pytest.mark.parametrize("failing", range(5))
def test_nothing_runs_after_a_command_that_failed(
    results: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    shell = Shell({"prostate": some_dice()}, fails_at=failing)
    monkeypatch.setattr(subprocess, "run", shell)
    with pytest.raises(DimError, match="exit status 7"):
        run(demo.find_bundle("dim_prostate"), results)
    assert len(shell.commands) == failing + 1


def test_apart_from_its_repository_the_demo_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "site-packages/dim_monai/demo.py"))
    with pytest.raises(ConfigError, match="checkout of the repository"):
        demo.find_bundle("dim_prostate")


@pytest.mark.parametrize(
    ("argv", "folder", "length"),
    [
        ([], "dim_prostate/eval/demo", demo.LENGTH),
        (["--quick"], "dim_prostate/eval/demo_quick", demo.QUICK),
        (["--bundle", "dim_fundus"], "dim_fundus/eval/demo", demo.LENGTH),
        (["--quick", "--bundle", "dim_fundus"], "dim_fundus/eval/demo_quick", demo.QUICK),
    ],
)
def test_options_choose_bundle_and_length(
    argv: Command, folder: str, length: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(demo, "run_demo", lambda *given: called.append(given) or "")
    assert demo.main(argv) == 0
    ((bundle, results, given),) = called
    assert results.as_posix().endswith(f"bundles/{folder}")
    assert bundle in results.parents
    assert given == length


@pytest.mark.parametrize(
    "argv",
    [["--qick"], ["--bundle"], ["--bundle", "dim_liver"], ["--bundl", "dim_fundus"], ["out"]],
)
def test_a_wrong_option_runs_nothing(
    argv: Command, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(argv) == 2
    assert shell.commands == []
    captured = capsys.readouterr()
    assert captured.err.strip().startswith("ConfigError: ")
    assert captured.out == ""


@pytest.mark.slow
def test_the_real_commands_leave_masks_reports_and_the_scores_of_the_table(tmp_path: Path) -> None:
    summary = demo.run_demo(demo.find_bundle("dim_prostate"), tmp_path, demo.QUICK)
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

    compare_with_the_scores(table_of(summary), tmp_path)


def compare_with_the_scores(table: dict[str, list[str]], results: Path) -> None:
    """Every method has a report and the means of its table of scores."""
    assert table
    for column, method in enumerate(("supervised", "dim"), start=2):
        assert (results / method / "report.html").stat().st_size > 0
        with (results / method / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        for domain, cells in table.items():
            dice = [row["dice"] for row in rows if row["domain"] == domain]
            mean, counts = cells[column].split()
            assert float(mean) == pytest.approx(fmean(map(float, dice)), abs=5.1e-4)
            assert counts == f"({len(dice)}/{len(dice)})"
