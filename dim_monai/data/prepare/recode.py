"""Masks in the codes of the public collections, as class indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.photograph import read_mask, read_photograph, write_mask
from dim_monai.data.prepare.found import Recoded
from dim_monai.errors import DataError

Classes = NDArray[np.uint8]


def grey(path: Path, codes: Mapping[int, int]) -> Classes:
    """Return the class index of every pixel of a grey mask, uint8 (W, H), upright.

    Args:
        path: the mask.
        codes: class index of each grey value.

    Raises:
        DataError: the mask cannot be read, or holds another value.
    """
    values = read_mask(path)
    present = np.unique(values)
    if not set(present.tolist()) <= set(codes):
        raise _foreign(path, f"grey values {_first(present)}", f"only {sorted(codes)}")
    table = np.zeros(256, dtype=np.uint8)
    table[list(codes)] = list(codes.values())
    return np.asarray(table[values])


def channels(path: Path) -> Classes:
    """Return the class index of every pixel of a colour mask, uint8 (W, H), upright.

    Pure red is 1, pure green 2, pure blue 3, black 0.

    Raises:
        DataError: the mask cannot be read, or holds another colour.
    """
    colours = read_photograph(path)
    pure = np.isin(colours, (0, 255)).all(axis=-1) & ((colours == 255).sum(axis=-1) <= 1)
    if not pure.all():
        expected = "black, pure red, pure green or pure blue"
        raise _foreign(path, f"RGB {colours[~pure][0].tolist()}", expected)
    return np.asarray((colours == 255) @ np.array([1, 2, 3], dtype=np.uint8), dtype=np.uint8)


def union(paths: Sequence[Path], codes: Mapping[int, int]) -> Classes:
    """Return the pixelwise largest class of several grey masks of one image; see `grey`.

    Raises:
        DataError: as `grey`; also where the masks differ in size.
    """
    masks = [grey(path, codes) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise _foreign(path, f"size {mask.shape}", f"{masks[0].shape} as {paths[0].name}")
    return np.asarray(np.maximum.reduce(masks))


def recoded(source: Path, read: Callable[[], Classes]) -> Recoded:
    """Return the label that `read` decodes, to be written as a class-index PNG."""
    return Recoded(source, ".png", partial(_write, read))


def _write(read: Callable[[], Classes], path: Path) -> None:
    write_mask(path, read())


def _first(values: NDArray[np.uint8], count: int = 6) -> str:
    shown = ", ".join(str(value) for value in values[:count])
    return f"{shown}, ..." if len(values) > count else shown


def _foreign(path: Path, got: str, expected: str) -> DataError:
    return DataError(
        "mask is not in the code of its layout",
        file=path,
        got=got,
        expected=expected,
        do="check the layout; a mask that was resized or saved with loss has lost its code",
    )
