"""Three cases of two domains with their predictions: a hit, a miss, and a core that is nowhere."""

from __future__ import annotations

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import nn

from dim_monai.handlers import CaseScores

SPACING_MM = (0.5, 0.75, 3.0)
REGIONS = {"gland": [1, 2], "core": [2]}


def ball(radius_mm: float, inner_mm: float = 0.0) -> np.ndarray:
    """Class 1 within the radius, class 2 within the inner one, on an anisotropic grid."""
    axes = [mm * (np.arange(n) - n // 2) for mm, n in zip(SPACING_MM, (24, 20, 8), strict=True)]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    return ((distance < radius_mm).astype(int) + (distance < inner_mm)).astype(np.float32)


def volume(array: np.ndarray) -> MetaTensor:
    # Left, posterior, superior: the picture has to be turned, the scores have not.
    affine = torch.diag(torch.tensor([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0]))
    return MetaTensor(torch.from_numpy(array)[None], affine=affine)


def item(case: str, domain: str, truth: np.ndarray) -> dict[str, object]:
    noise = np.random.default_rng(0).normal(size=truth.shape).astype(np.float32)
    names = {"case": case, "domain": domain, "split": "validation"}
    return {"native_image": volume(truth + noise), "native_label": volume(truth), **names}


CASES = [
    (item("a0", "site_a", ball(4.0, 2.0)), ball(4.5, 2.5)),
    (item("a1", "site_a", ball(4.0, 2.0)), np.zeros_like(ball(1.0))),
    (item("b0", "site_b", ball(4.0)), ball(3.0)),
]


def evaluate(handler: CaseScores, network: nn.Module | None = None) -> None:
    """Run over the cases; an evaluator of MONAI would tell the network, too."""

    def process(engine: Engine, number: int) -> list[dict[str, MetaTensor]]:
        entry, prediction = CASES[number]
        engine.state.batch = [entry]  # as an evaluator leaves it: decollated
        return [{"pred": volume(prediction)}]

    engine = Engine(process)
    if network is not None:
        engine.network = network
    handler.attach(engine)
    engine.run(list(range(len(CASES))))
