"""What a training costs: the mean of its steps, which are of several kinds."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from speed_ours import EVERY, TRAIN

START = float(yaml.safe_load(TRAIN.read_text(encoding="utf-8"))["sharpness_start"])
LOOKSAM_INTERVAL = 5  # steps from one second pass of LookSAM to the next, as SharpnessAware has it

BASE = "MiDSS"
_PLAIN, _MEASURED = "DiM before its second passes", "DiM before, a measured step"
_SAM = "DiM, SAM in every step"
PARTS: dict[str, dict[str, float]] = {
    "mean_teacher": {"mean teacher": 1.0},
    "midss": {BASE: 1.0},
    "no_divergence": {BASE: START, "MiDSS with its second pass": 1 - START},
    "no_sharpness": {_PLAIN: 1 - 1 / EVERY, _MEASURED: 1 / EVERY},
    "dim": {
        _PLAIN: START - 1 / EVERY,
        _MEASURED: 1 / EVERY,
        "DiM with its second pass": 1 - START,
    },
    "always_sam": {_SAM: 1.0},
    "always_asam": {"DiM, ASAM in every step": 1.0},
    "always_looksam": {
        _SAM: 1 / LOOKSAM_INTERVAL,
        "DiM, LookSAM, a step without a second pass": 1 - 1 / LOOKSAM_INTERVAL,
    },
    "always_esam": {"DiM, ESAM in every step": 1.0},
    "always_msam": {"DiM, momentum SAM in every step": 1.0},
}
"""Variant of ``evidence.py`` to rows of ``speed.py`` and their shares of its steps."""


def mean_steps(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Return the mean step of each variant as a ratio to a step of MiDSS.

    Every `EVERY` steps the shares of the gradient are measured, in MiDSS, too. There these steps
    are left out; with them every ratio would be some 2 % smaller.

    A variant of which a row is not there is left out.

    Args:
        milliseconds: of a step, by row of ``speed.py``.
    """
    ms = {row.removeprefix("ours: "): value for row, value in milliseconds.items()}
    return {
        variant: sum(share * ms[row] for row, share in parts.items()) / ms[BASE]
        for variant, parts in PARTS.items()
        if ms.keys() >= {BASE, *parts}
    }
