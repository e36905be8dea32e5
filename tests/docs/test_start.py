"""The commands of docs/start.md run as they stand there, one after the other."""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.examples import PROSTATE, copy_bundle, demo_set, tree
from tests.docs.pages import DOCS, REPOSITORY, code_lines

COMMANDS = code_lines(DOCS / "start.md")
FIRST = ["make demo", "source .venv/bin/activate"]
"""These install, train for minutes and choose an environment; the rest builds on their files."""
TESTED = 15
"""Cases of the demo set's test list: five of each site."""


@pytest.fixture
def after_the_demo(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle and with what `make demo` leaves, a network without training."""
    bundle = copy_bundle(tmp_path / "bundles" / "dim_prostate", PROSTATE)
    demo = bundle / "eval" / "demo"
    (demo / "dim").mkdir(parents=True)
    (demo / "data").symlink_to(demo_set(tmp_path_factory))
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), demo / "dim" / "model.pt")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)  # several commands, each of which takes seconds to begin
def test_the_commands_run_as_written(after_the_demo: Path) -> None:
    assert COMMANDS[: len(FIRST)] == FIRST
    before = set(tree(after_the_demo))
    for line in COMMANDS[len(FIRST) :]:
        words = shlex.split(line)
        program = {"dim-monai": ["-m", "dim_monai.cli"], "python": []}[words[0]]
        done = subprocess.run(
            [sys.executable, *program, *words[1:]],
            cwd=after_the_demo,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, line + done.stdout + done.stderr
    left = set(tree(after_the_demo)) - before
    assert {"masks.json", "look.html", "my_run/model.pt", "my_run/report.html"} <= left
    masks, own = (
        {path for path in left if path.startswith(f"{name}/")} for name in ("masks", "my_masks")
    )
    assert len(masks) == len(own) == TESTED
    assert all(path.endswith("_seg.nii.gz") for path in masks | own)
    with (after_the_demo / "my_run" / "metrics.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert (splits.count("validation"), splits.count("test")) == (2, TESTED)
