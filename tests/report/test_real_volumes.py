"""Scores and pictures on real prostate volumes, against the published table of volumes."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest

from dim_monai.metrics import MISSED, score_case
from dim_monai.report.figures import overlay_png

DATA = os.environ.get("DIM_TEST_DATA")
pytestmark = pytest.mark.skipif(
    DATA is None, reason="DIM_TEST_DATA does not name the folder of test images"
)
CLASSES = {"peripheral zone": [1], "central gland": [2]}


def volume(name):
    image = nibabel.as_closest_canonical(nibabel.load(Path(DATA, "prostate_t2", name)))
    return np.asarray(image.dataobj), image.header.get_zooms()


@pytest.mark.parametrize("case", ["rumc_320/Case01", "rumc_384/Case34"])
def test_a_missed_gland_costs_its_published_volume(case):
    with open(Path(DATA, "prostate_t2", "cases.csv"), encoding="utf-8", newline="") as file:
        published = next(line for line in csv.DictReader(file) if line["id"] == case)
    truth, spacing_mm = volume(case + "_seg.nii.gz")
    truth = truth.astype(np.int64)
    scores = score_case(np.zeros_like(truth), truth, spacing_mm, CLASSES)
    for score, column in zip(scores, ("pz_ml", "cg_or_wg_ml"), strict=True):
        assert score.note == MISSED
        assert score.size_error == pytest.approx(-float(published[column]), abs=0.05)


def test_a_real_case_is_drawn_as_five_slices_in_a_row():
    image, spacing_mm = volume("rumc_320/Case01_t2.nii.gz")
    truth, _ = volume("rumc_320/Case01_seg.nii.gz")
    png = overlay_png(image, np.roll(truth, 3, axis=0), truth, spacing_mm, "Case01")
    height, width, _ = matplotlib.image.imread(io.BytesIO(png), format="png").shape
    assert width > 3 * height
