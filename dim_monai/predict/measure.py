"""What is told of a mask: volume or area and confidence of each structure, uncertainty of a voxel.

Both measures of doubt come from the probabilities of the network and are as good as these: a
network that is sure of its error shows neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dim_monai.cup_to_disc import vertical_cup_to_disc_ratio
from dim_monai.errors import ConfigError

MM3_IN_ML = 1000.0
DISC, CUP = "disc", "cup"
"""Names of the two structures whose heights are compared, where a bundle has both."""


@dataclass(frozen=True)
class Structure:
    """What is measured, and how a DICOM SEG calls it.

    Attributes:
        name: in reports.
        classes: of the mask; a structure may hold another one.
        code: (value, scheme, meaning), such as ("41216001", "SCT", "Prostate"); None where the
            bundle gives none.
    """

    name: str
    classes: tuple[int, ...]
    code: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Measured:
    """One structure in one case.

    Attributes:
        size: its volume in ml, or its area in pixels of a photograph.
        confidence: see `confidence`; None where the mask has none of the structure.
    """

    size: float
    confidence: float | None


def structures_from_config(section: Any, num_classes: int) -> tuple[Structure, ...]:
    """Return the structures of the section ``structures`` of a config.

    Raises:
        ConfigError: there are none, one names a class that the network does not have, or a code is
            not of three parts.
    """
    if not isinstance(section, Mapping) or not section:
        raise ConfigError(
            "the bundle does not say what it segments",
            expected="structures: {name: {classes: [1, ...], code: [value, scheme, meaning]}}",
            do="add it to the bundle's inference.yaml or to an overlay",
        )
    found = []
    for name, given in section.items():
        entry = given if isinstance(given, Mapping) else {}
        classes, code = entry.get("classes") or [], entry.get("code")
        if not classes or not all(c in range(1, num_classes) for c in classes):
            raise ConfigError(
                f"structure {name}", got=f"classes {classes}", expected=f"of 1 to {num_classes - 1}"
            )
        if set(entry) - {"classes", "code"} or (code is not None and len(code) != 3):
            raise ConfigError(
                f"structure {name}",
                got=dict(entry),
                expected="classes, and a code of value, scheme and meaning",
            )
        three = None if code is None else (str(code[0]), str(code[1]), str(code[2]))
        found.append(Structure(str(name), tuple(classes), three))
    return tuple(found)


def measure(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    structures: Sequence[Structure],
    voxel: float,
) -> dict[str, Measured]:
    """Return size and confidence of each structure, by its name.

    Args:
        labels: class of every voxel or pixel, (*S).
        probabilities: of each class, (K, *S).
        structures: what to measure.
        voxel: size of one, in ml or pixels.
    """
    measured = {}
    for structure in structures:
        mask = np.logical_or.reduce([labels == c for c in structure.classes])
        probability = probabilities[list(structure.classes)].sum(0)
        size = float(np.count_nonzero(mask) * voxel)
        measured[structure.name] = Measured(size, confidence(mask, probability))
    return measured


def confidence(mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> float | None:
    """Return how far a mask and the probabilities it came from agree, 0 to 1.

    It is the Dice coefficient of the two, 2 sum(m p) / (sum m + sum p). If the probabilities were
    calibrated, it would be close to the Dice coefficient to expect against the truth. Unlike the
    mean probability inside of the mask it falls with what the mask leaves out, too.

    Args:
        mask: where the structure is, (*S).
        probability: of the structure, (*S).

    Returns:
        The coefficient; None for an empty mask, of which it would say nothing.
    """
    if not mask.any():
        return None
    inside = float((probability * mask).sum(dtype=np.float64))
    total = float(probability.sum(dtype=np.float64))
    return 2 * inside / (float(mask.sum()) + total)


def uncertainty(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy of the prediction, over that of a guess among all classes.

    Args:
        probabilities: of each class, (K, *S), those of a voxel summing to 1, or to less where the
            network has seen only a part of it. They are taken relative to their sum.

    Returns:
        (*S), 0 (sure) to 1 (all classes alike); 0 where all probabilities are 0: the network did
        not look there, and the mask is background by rule.
    """
    total = probabilities.sum(axis=0)
    p = probabilities / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=0)
    relative: NDArray[np.float32] = (entropy / math.log(len(probabilities))).astype(np.float32)
    return np.clip(relative, 0, 1)


def cup_to_disc(labels: NDArray[np.uint8], structures: Sequence[Structure]) -> float | None:
    """Return the vertical cup-to-disc ratio of a photograph's mask (W, H), upright.

    None where there is no disc, or the bundle does not segment both.
    """
    classes = {structure.name: structure.classes for structure in structures}
    if DISC not in classes or CUP not in classes:
        return None
    return vertical_cup_to_disc_ratio(labels, classes[DISC], classes[CUP])


def voxel_ml(affine: NDArray[np.float64]) -> float:
    """Return the volume of a voxel."""
    return float(abs(np.linalg.det(affine[:3, :3]))) / MM3_IN_ML
