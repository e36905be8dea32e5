"""The dry run of docs/how-to/multi-gpu.md: two machines in small, with the commands of the page."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.bundles.examples import PROSTATE, copy_bundle, demo_set
from tests.docs.pages import DOCS, REPOSITORY, code_lines

LINES = [line for line in code_lines(DOCS / "how-to" / "multi-gpu.md") if "dry_run" in line]
PORT = "29500"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_two_commands_differ_in_the_rank_alone() -> None:
    first, second = LINES
    assert first.replace("--node_rank=0", "--node_rank=1") == second != first


@pytest.mark.slow
@pytest.mark.timeout(900)  # two processes at once
@pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)
def test_two_machines_train_one_network(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_bundle(tmp_path / "bundles" / "dim_prostate", PROSTATE)
    (tmp_path / "DATASET").symlink_to(demo_set(tmp_path_factory))
    port = free_port()
    nodes = []
    for line in LINES:
        variable, program, *words = shlex.split(re.sub(rf"\b{PORT}\b", port, line))
        assert (variable, program) == ("CUDA_VISIBLE_DEVICES=", "torchrun")
        # A small network: two processes share what one core gives.
        tiny = [
            word for name, value in PROSTATE.network.items() for word in (f"--{name}", str(value))
        ]
        nodes.append(
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *words, *tiny],
                cwd=tmp_path,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        told = [node.communicate(timeout=400)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(told)
    run = json.loads((tmp_path / "dry_run" / "run.json").read_text())
    assert (run["steps"], run["skipped_steps"]) == (2, 0)
    assert (tmp_path / "dry_run" / "model.pt").is_file()
    # The first machine alone writes: one log with one line for the one epoch.
    with (tmp_path / "dry_run" / "training_log.csv").open(newline="") as file:
        losses = [row["step"] for row in csv.DictReader(file) if row["name"] == "loss"]
    assert losses == ["2"]
