"""The simulated data set of ``scale.py``: as many volumes as wanted, of which few are different."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from cells import ROOT
from monai.bundle import ConfigParser

TRAIN = ROOT / "bundles" / "dim_prostate" / "configs" / "train.yaml"
SIDE, SLICES = 48, 8
LABELLED, VALIDATION, DIFFERENT = 4, 1, 20
SETTINGS: dict[str, Any] = {
    "roi_size": [SIDE, SIDE],
    "spacing": [2.5, 2.5, -1],
    "network_def#channels": [4, 8],
    "network_def#strides": [2],
    "max_epochs": 1,
    "steps_per_epoch": 2,
    "val_interval": 1,
    "device": "cpu",
}
"""A network so small that what is measured is the data."""


def make_set(folder: Path, unlabelled: int) -> Path:
    """Write a few noisy discs, and a data list of them and of further names of their images.

    Every case is a file of its own for whoever opens it by its path; the names are hard links, so
    that 10,000 of them take no room.
    """
    base, more = folder / "base", folder / "images"
    base.mkdir(parents=True)
    more.mkdir()
    axis = np.linspace(-1, 1, SIDE)
    radius = np.hypot(axis[:, None, None], axis[None, :, None]) + np.zeros(SLICES)
    affine, generator = np.diag([2.5, 2.5, 3.0, 1.0]), np.random.default_rng(0)
    for n in range(DIFFERENT):
        image = 1000 * np.exp(-3 * radius**2) + generator.normal(0, 30, radius.shape)
        nib.save(nib.Nifti1Image(image.astype(np.int16), affine), base / f"{n}.nii")
        label = (radius < 0.3 + 0.01 * n).astype(np.uint8)
        nib.save(nib.Nifti1Image(label, affine), base / f"{n}_label.nii")
    labelled = [
        {"image": str(base / f"{n}.nii"), "label": str(base / f"{n}_label.nii"), "case": f"l{n}"}
        for n in range(LABELLED + VALIDATION)
    ]
    names = [more / f"{n:05d}.nii" for n in range(unlabelled)]
    for n, name in enumerate(names):
        os.link(base / f"{n % DIFFERENT}.nii", name)
    lists = {
        "labeled": labelled[:LABELLED],
        "validation": labelled[LABELLED:],
        "unlabeled": [{"image": str(name)} for name in names],
    }
    (folder / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def settings(data: Path, out: Path, memory_gb: float) -> dict[str, Any]:
    """Return what a training on the set overrides in ``train.yaml``."""
    places = {"dataset_dir": data, "output_dir": out, "model_file": out / "model.pt"}
    return {**SETTINGS, **{k: str(v) for k, v in places.items()}, "cache_memory_gb": memory_gb}


def config(data: Path, out: Path, memory_gb: float) -> ConfigParser:
    """Return ``train.yaml`` with those settings."""
    parser = ConfigParser()
    parser.read_config(str(TRAIN))
    overrides = {"bundle_root": str(TRAIN.parents[1]), **settings(data, out, memory_gb)}
    for name, value in overrides.items():
        parser[name] = value
    return parser
