"""The overlay for several processes, from the command line to the report."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "bundles" / "dim_prostate" / "configs"


@pytest.mark.slow
@pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo"
)
def test_torchrun_trains_the_demo_in_two_processes(tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = {
        "config_file": str([str(CONFIGS / "train.yaml"), str(CONFIGS / "multi_gpu_train.yaml")]),
        "output_dir": str(output),
        "max_epochs": "1",
        "steps_per_epoch": "2",
        "val_interval": "1",
        "labelled_batch": "1",
        "unlabelled_batch": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "training"]
    command += [word for name, value in settings.items() for word in (f"--{name}", value)]
    # Without GPUs even where there are some: two processes want two of them.
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    run = json.loads((output / "run.json").read_text())
    assert run["steps"] == 2
    assert run["skipped_steps"] == 0
    # The keys of a bare network: what is deployed does not know that it was trained in parallel.
    weights = torch.load(output / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    with (output / "metrics.csv").open(newline="") as file:
        scored = [row["case"] for row in csv.DictReader(file)]
    validation = json.loads((output / "datalist.json").read_text())["validation"]
    assert scored == [entry["case"] for entry in validation]
    assert all(case in (output / "report.html").read_text() for case in scored)
    # One rank writes: one log, one file of events for the training and one for the validation.
    with (output / "training_log.csv").open(newline="") as file:
        losses = [row["step"] for row in csv.DictReader(file) if row["name"] == "loss"]
    assert losses == ["2"]
    assert len(list((output / "tensorboard").iterdir())) == 2
