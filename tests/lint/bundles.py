"""A small sound bundle, and what spoils it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

TRAIN = """\
imports:
- $import os
- $import dim_monai.data.source as source
bundle_root: .
dataset_dir: null
output_dir: $@bundle_root + '/eval'
device: $torch.device('cpu')
rate: 0.1
net:
  _target_: UNet
  spatial_dims: 2
network: $@net.to(@device)
train:
  handlers:
  - _target_: CheckpointLoader
    load_path: $@output_dir + '/model.pt'
  trainer:
    _target_: monai.engines.SupervisedTrainer
    max_epochs: 2
    rates: $[@rate / i ** 2 for i in [1, 2]]
copy: '%train#trainer#max_epochs'
run:
- $@train#trainer.run()
"""
INFERENCE = """\
bundle_root: .
net: {_target_: UNet, spatial_dims: 2}
run: []
"""
OVERLAY = "rate: 0.2\ntrain#handlers#-1#_disabled_: $@rate > 1\n"
LOGGING = """\
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = line
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
formatter = line
args = (sys.stdout,)
[formatter_line]
format = %(message)s
"""
TENSOR = {
    "type": "image",
    "format": "magnitude",
    "num_channels": 1,
    "spatial_shape": [16, "2**p*n"],
    "dtype": "float32",
    "value_range": [0, 1],
}
METADATA: dict[str, Any] = {
    "schema": "https://project-monai.github.io/schema/meta_schema_20240725.json",
    "version": "0.1.0",
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.6",
    "required_packages_version": {"dim-monai": "0.1.0"},
    "task": "a test",
    "description": "a test",
    "authors": "nobody",
    "copyright": "nobody",
    "network_data_format": {"inputs": {"image": TENSOR}, "outputs": {"pred": TENSOR}},
}


def bundle(root: Path) -> Path:
    """Write the sound bundle."""
    for folder in ("configs/methods", "docs", "models"):
        (root / folder).mkdir(parents=True)
    write(root, "configs/train.yaml", TRAIN)
    write(root, "configs/inference.yaml", INFERENCE)
    write(root, "configs/methods/faster.yaml", OVERLAY)
    write(root, "configs/logging.conf", LOGGING)
    write(root, "docs/README.md", "Writes to eval/ of the bundle.\n")
    write(root, "large_files.yml", "large_files: []\n")
    metadata(root)
    torch.save(torch.nn.Linear(2, 3).state_dict(), root / "models" / "model.pt")
    return root


def write(root: Path, name: str, content: str | bytes) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def metadata(root: Path, **changes: Any) -> None:
    """Write the metadata with some entries changed, or taken out where they are None."""
    document = {k: v for k, v in {**METADATA, **changes}.items() if v is not None}
    write(root, "configs/metadata.json", json.dumps(document))


def add(root: Path, lines: str) -> None:
    """Add lines to the training config."""
    write(root, "configs/train.yaml", TRAIN + lines)
