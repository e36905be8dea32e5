"""The vertical cup-to-disc ratio of a fundus photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def vertical_cup_to_disc_ratio(
    labels: NDArray[Any], disc_classes: Sequence[int], cup_classes: Sequence[int]
) -> float | None:
    """Return the vertical extent of the cup over that of the disc.

    The extent of a structure is the number of pixel rows from its highest to its lowest pixel, both
    included, wherever in the image these two lie. Glaucoma thins the rim above and below first, so
    the vertical ratio is the one that is read (Gloster and Parry, Br J Ophthalmol 1974) and the one
    that segmentations are compared by (REFUGE challenge: Orlando et al., Med Image Anal 2020).

    Args:
        labels: class of every pixel, (W, H) upright: the second axis runs downward.
        disc_classes: classes that form the disc, the cup included, such as rim and cup (1, 2).
        cup_classes: classes that form the cup, such as (2,); none where the labels know no cup.

    Returns:
        The ratio, 0 where the disc holds no cup; None where there is no disc, or the labels know no
        cup: a label without a cup class does not say that there is no cup.

    Raises:
        ValueError: the labels are not on two axes.

    Example:
        >>> labels = np.zeros((8, 12), dtype=np.uint8)
        >>> labels[2:6, 1:11] = 1
        >>> labels[3:5, 4:8] = 2
        >>> vertical_cup_to_disc_ratio(labels, (1, 2), (2,))
        0.4
    """
    if labels.ndim != 2:
        raise ValueError(f"labels of a photograph are (W, H), got {labels.shape}")
    disc, cup = (_height(labels, classes) for classes in (disc_classes, cup_classes))
    return cup / disc if disc and len(cup_classes) else None


def _height(labels: NDArray[Any], classes: Sequence[int]) -> int:
    rows = np.flatnonzero(np.isin(labels, classes).any(axis=0))
    return int(rows[-1] - rows[0] + 1) if rows.size else 0
