"""Cases of a few numbers in files, and what prepares them and counts how often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

SHAPES = ((4, 5, 3), (6, 2, 7), (3, 3, 1), (5, 4, 2))
NBYTES = [int(np.prod(shape)) * (2 * 4 + 1) for shape in SHAPES]
"""Of a prepared case: two channels of float32 and a label of uint8."""


def write_cases(folder: Path, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[dict[str, str]]:
    """Write numbers that occur once in all cases."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, shape in enumerate(shapes):
        image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1000 * number
        entry = {"image": str(folder / f"image_{number}.npy"), "case": f"Doe^Jane{number}"}
        np.save(entry["image"], image)
        if number != 2:
            entry["label"] = str(folder / f"label_{number}.npy")
            np.save(entry["label"], (image % 3).astype(np.uint8))
        entries.append(entry)
    return entries


class Load(Transform):
    """Loads a case, an image with its negative as second channel, and notes which."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self._lock = Lock()

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.loaded.append(entry["image"])
        image = torch.from_numpy(np.load(entry["image"]))
        made: dict[str, Any] = {"image": MetaTensor(torch.stack([image, -image]))}
        if "label" in entry:
            made["label"] = MetaTensor(torch.from_numpy(np.load(entry["label"]))[None])
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"loaded": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
