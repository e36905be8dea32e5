"""The documented commands, as a user types them in some folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dim_monai.data.demo import MARKER
from tests.bundles.examples import EXAMPLES, Example, copy_bundle, demo_set, tree

REPOSITORY = Path(__file__).resolve().parents[2]


def run(bundle: Path, config: str, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run"]
    return subprocess.run(
        [*command, "--config_file", str(bundle / "configs" / config), *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def place(example: Example, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A bundle, and a folder with two data sets in which the commands are given."""
    root = tmp_path_factory.mktemp("place")
    for name in ("prostate_t2", "fundus"):
        (root / "work" / name).mkdir(parents=True)
    bundle = copy_bundle(root / example.name, example)
    if example.kind == "photograph":  # in which some of them stand for the demo set already
        few = demo_set(tmp_path_factory, example.kind)
        shutil.copytree(few, bundle / "eval" / "demo" / "data")
    return SimpleNamespace(bundle=bundle, work=root / "work")


def test_the_demo_writes_into_its_own_folder_alone(
    example: Example, place: SimpleNamespace
) -> None:
    before = tree(place.bundle)
    tiny = [part for key, value in example.tiny.items() for part in (f"--{key}", str(value))]
    done = run(place.bundle, "train.yaml", place.work, *tiny)
    assert done.returncode == 0, done.stderr
    after = tree(place.bundle)
    assert {name: after[name] for name in before} == before
    new = after.keys() - before.keys()
    assert all(name.startswith("eval/demo/") for name in new)  # nothing in models/
    results = {"datalist.json", "metrics.csv", "model.pt", "report.html", "run.json"}
    assert {f"eval/demo/{name}" for name in results} <= new
    assert f"eval/demo/data/{MARKER}" in after
    assert tree(place.work) == {}
    assert f"using the synthetic demo set in {place.bundle}/eval/demo/data" in done.stdout
    assert f"model: {place.bundle}/eval/demo/model.pt" in done.stdout
    warned = [line for line in done.stderr.splitlines() if "Warning:" in line]
    assert all("parsing config_file" in line for line in warned)  # what MONAI says of any config
    made = json.loads((place.bundle / "eval/demo/data/datalist.json").read_text())
    split = json.loads((place.bundle / "eval/demo/datalist.json").read_text())
    assert len(split["test"]) == len(made["test"]) > 0


MISTAKES = {
    "setting": (
        ["--steps_per_epok", "5"],
        "ConfigError: unknown setting 'steps_per_epok'; did you mean 'steps_per_epoch'?",
    ),
    "folder": (
        ["--dataset_dir", "prostat_t2"],
        "DataError: the dataset folder does not exist: {work}/prostat_t2; "
        "did you mean {work}/prostate_t2?",
    ),
}


@pytest.mark.parametrize(
    ("example", "mistake"),
    zip(EXAMPLES, MISTAKES, strict=True),  # one each: a command takes seconds to begin
    indirect=["example"],
    ids=MISTAKES,
)
def test_a_mistyped_command_fails_with_the_closest_name_and_leaves_nothing(
    place: SimpleNamespace, mistake: str
) -> None:
    options, last_line = MISTAKES[mistake]
    before = tree(place.bundle)
    done = run(place.bundle, "train.yaml", place.work, *options)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == last_line.format(work=place.work)
    assert tree(place.bundle) == before
    assert tree(place.work) == {}
