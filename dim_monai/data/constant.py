"""An image of one value is no image: an empty export, of which a network would still say much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dim_monai.errors import DataError


def require_variation(path: Path, values: NDArray[Any], element: str) -> None:
    """Refuse an image all of whose voxels or pixels are equal.

    Intensities are scaled by percentiles of the image, so that a network sees noise and names a
    structure in it. A label may be constant: nothing was drawn.

    Args:
        path: of the image.
        values: its voxels (X, Y, Z) or pixels (W, H, 3), at least one, all finite.
        element: what a message calls one of them, ``"voxel"`` or ``"pixel"``.

    Raises:
        DataError: the image is constant.
    """
    axes = (0, 1) if element == "pixel" else (0, 1, 2)
    if np.array_equal(lowest := values.min(axes), values.max(axes)):
        color = dict.fromkeys(np.atleast_1d(lowest).tolist())  # of grey one number
        raise DataError(
            "image is constant",
            file=path,
            got=f"{', '.join(f'{value:g}' for value in color)} in every {element}",
            do="export the image again, or take the case out",
        )
