"""One synthetic photograph: an eye drawn at random, in front of one camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.phantom.fundus.camera import MM_PER_DEGREE, Camera, photograph
from dim_monai.data.phantom.fundus.eye import Eye, Floats, draw_eye
from dim_monai.data.phantom.fundus.retina import paint_retina
from dim_monai.data.phantom.fundus.vessels import grow_vessels


@dataclass(frozen=True)
class Phantom:
    """One synthetic photograph, upright; the first axis runs rightward, the second downward.

    Attributes:
        image: (W, H, 3) uint8; red, green, blue.
        label: (W, H) uint8; 0 background, 1 rim, 2 cup.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


def make_phantom(camera: Camera, case: int, seed: int, *, whole: bool = False) -> Phantom:
    """Build one case; the same arguments give the same pixels, whatever was built before.

    Args:
        camera: the device, usually one of `CAMERAS`.
        case: number of the eye within the camera, >= 0.
        seed: seed of the whole set, >= 0.
        whole: the whole photograph, of `camera.matrix` pixels, with the macula in the middle of its
            field of view or near it; otherwise the square around the disc, 2.2 to 2.8 disc heights
            wide, of `camera.crop_px` pixels, as data sets of the disc have it.
    """
    rng = np.random.default_rng([seed, case, *camera.name.encode()])
    eye = draw_eye(rng)
    vessels = grow_vessels(eye, rng)
    axis = _aim(eye, rng)
    x, y = _whole(camera, axis) if whole else _crop(eye, camera, rng)
    retina = paint_retina(eye, vessels, _to_temple(eye) * x, y, rng)
    image = photograph(retina.reflectance, (x - axis[0], y - axis[1]), camera, rng)
    return Phantom(image, retina.label)


def _to_temple(eye: Eye) -> int:
    """Where the temple is in a photograph: -1 left (of a right eye), 1 right."""
    return -1 if eye.right else 1


def _aim(eye: Eye, rng: np.random.Generator) -> tuple[float, float]:
    """Where the camera's axis meets the retina: near the macula, or between it and the disc.

    In mm to the right of and below the disc, as all that follows.
    """
    share = rng.uniform(0.5, 1.0)
    x, y = share * eye.fovea + rng.normal(0, 0.25, 2)
    return _to_temple(eye) * float(x), float(y)


def _whole(camera: Camera, axis: tuple[float, float]) -> tuple[Floats, Floats]:
    pixel_mm = camera.field_deg * MM_PER_DEGREE / camera.field_px
    return _grid(axis, camera.matrix, pixel_mm)


def _crop(eye: Eye, camera: Camera, rng: np.random.Generator) -> tuple[Floats, Floats]:
    height_mm = 2 * float(eye.disc_half[1])
    across, down = rng.normal(0, 0.06 * height_mm, 2)
    pixel_mm = rng.uniform(2.2, 2.8) * height_mm / camera.crop_px
    return _grid((float(across), float(down)), (camera.crop_px, camera.crop_px), pixel_mm)


def _grid(
    middle: tuple[float, float], matrix: tuple[int, int], pixel_mm: float
) -> tuple[Floats, Floats]:
    """Pixel centres as an open grid."""
    x, y = (
        middle[axis] + (np.arange(n, dtype=np.float32) - (n - 1) / 2) * pixel_mm
        for axis, n in enumerate(matrix)
    )
    return x.astype(np.float32)[:, None], y.astype(np.float32)[None, :]
