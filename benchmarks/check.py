"""What a check costs: the time of checking volumes over that of loading them with nibabel.

    DIM_TEST_DATA=... python benchmarks/check.py

Both read every image and label of ``prostate_t2``, taking turns in one process; the smallest time
of each counts, because whatever else runs on the machine only adds to it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from dim_monai.data.checks.gate import inspect_all
from dim_monai.data.labels import LabelMapping

ROUNDS = 7
ZONES = LabelMapping({"background": [0], "peripheral_zone": [1], "central_gland": [2]})


def cases_of(folder: Path) -> list[tuple[dict[str, str], str]]:
    """Return the labelled cases of the folder, as the checks take them."""
    images = sorted(folder.glob("*/*_t2.nii.gz"))
    return [
        (
            {
                "image": str(image),
                "label": str(image).removesuffix("_t2.nii.gz") + "_seg.nii.gz",
                "domain": image.parent.name,
                "case": image.name,
            },
            "labeled",
        )
        for image in images
    ]


def load(cases: list[tuple[dict[str, str], str]]) -> None:
    """Load the voxels of every file with nibabel."""
    for entry, _ in cases:
        for key in ("image", "label"):
            np.asarray(nib.load(entry[key]).dataobj)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    cases = cases_of(Path(os.environ["DIM_TEST_DATA"], "prostate_t2"))
    works: dict[str, Callable[[], object]] = {
        "nibabel": lambda: load(cases),
        "check, 1 thread": lambda: list(inspect_all(cases, ZONES, "volume", threads=1)),
        "check": lambda: list(inspect_all(cases, ZONES, "volume")),
    }
    turns = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    times = {name: [turn[name] for turn in turns] for name in works}
    best = {name: min(values) for name, values in times.items()}
    write = sys.stdout.write
    write(f"{len(cases)} volumes with labels\n\n| | s | x nibabel |\n|---|---|---|\n")
    for name, value in best.items():
        write(f"| {name} | {value:.2f} | {value / best['nibabel']:.2f} |\n")


if __name__ == "__main__":
    main()
