"""Four fundus cameras, and what each makes of the same retina.

The domain shift of the demo set is this file: resolution, field of view, sharpness, evenness of
the light, glare, colour, noise and file format, acting in the order in which a camera does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dim_monai.data.phantom.fundus.eye import Floats

MM_PER_DEGREE = 0.29  # on the retina of an average eye

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_LEVELS = 4096  # of the table that turns light into grey values


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera and how its hospital stores the photographs.

    Attributes:
        name: the domain, also the name of its folders.
        suffix: of its files, which says the format: ".png", ".jpg" or ".tif".
        jpeg_quality: of a ".jpg", 1 to 95; unused otherwise.
        matrix: width and height of a whole photograph in pixels.
        field_px: diameter of the field of view in a whole photograph.
        crop_px: side of the square that is cut out around the disc.
        field_deg: width of the round field of view.
        psf_fwhm_mm: blur on the retina, full width at half maximum.
        vignetting: part of the light that is missing at the edge of the field.
        unevenness: part of the light that a misaligned camera loses on one side.
        glare: (3,) red, green, blue; light that reaches the sensor from everywhere.
        edge_glare: (3,); the same, towards the edge of the field.
        gain: (3,); colour balance.
        exposure: grey value (0 to 1, linear) of a fundus of average reflectance.
        gamma: exponent of the grey scale.
        noise: deviation at full white, relative to it; shot noise, so dark parts have less.
        read_noise: deviation everywhere, relative to full white.
        turned: the sensor stands on its side and the file says so by its EXIF orientation.
    """

    name: str
    suffix: str
    jpeg_quality: int = 0
    matrix: tuple[int, int]
    field_px: int
    crop_px: int
    field_deg: float
    psf_fwhm_mm: float
    vignetting: float
    unevenness: float
    glare: tuple[float, float, float]
    edge_glare: tuple[float, float, float]
    gain: tuple[float, float, float]
    exposure: float
    gamma: float
    noise: float
    read_noise: float
    turned: bool = False


# The labelled camera: a sharp desk-top one, warm and even.
_CAMERA_A = Camera(
    name="camera_a",
    suffix=".png",
    matrix=(1400, 1050),
    field_px=1180,
    crop_px=512,
    field_deg=45,
    psf_fwhm_mm=0.022,
    vignetting=0.35,
    unevenness=0.20,
    glare=(0.005, 0.004, 0.003),
    edge_glare=(0.0, 0.0, 0.0),
    gain=(1.0, 0.95, 0.85),
    exposure=0.22,
    gamma=0.45,
    noise=0.012,
    read_noise=0.002,
)
# Pale and bluish, glare along the edge, large pictures.
_CAMERA_B = Camera(
    name="camera_b",
    suffix=".jpg",
    jpeg_quality=90,
    matrix=(1536, 1024),
    field_px=1240,
    crop_px=800,
    field_deg=45,
    psf_fwhm_mm=0.030,
    vignetting=0.15,
    unevenness=0.15,
    glare=(0.030, 0.030, 0.030),
    edge_glare=(0.02, 0.03, 0.06),
    gain=(0.90, 1.02, 1.30),
    exposure=0.27,
    gamma=0.48,
    noise=0.014,
    read_noise=0.002,
)
# Dark and red, hardly any blue, light falling off towards the edge.
_CAMERA_C = Camera(
    name="camera_c",
    suffix=".tif",
    matrix=(1360, 1020),
    field_px=1000,
    crop_px=640,
    field_deg=50,
    psf_fwhm_mm=0.026,
    vignetting=0.55,
    unevenness=0.20,
    glare=(0.002, 0.001, 0.0),
    edge_glare=(0.0, 0.0, 0.0),
    gain=(1.10, 0.72, 0.20),
    exposure=0.20,
    gamma=0.50,
    noise=0.018,
    read_noise=0.003,
)
# Held in the hand: small, soft, noisy, yellow-green, lit from one side, strongly compressed.
_CAMERA_D = Camera(
    name="camera_d",
    suffix=".jpg",
    jpeg_quality=72,
    matrix=(1320, 990),
    field_px=1060,
    crop_px=384,
    field_deg=40,
    psf_fwhm_mm=0.055,
    vignetting=0.40,
    unevenness=0.45,
    glare=(0.020, 0.022, 0.012),
    edge_glare=(0.05, 0.045, 0.02),
    gain=(1.0, 0.90, 0.52),
    exposure=0.21,
    gamma=0.45,
    noise=0.035,
    read_noise=0.008,
    turned=True,
)

CAMERAS: dict[str, Camera] = {c.name: c for c in (_CAMERA_A, _CAMERA_B, _CAMERA_C, _CAMERA_D)}

_AVERAGE = 0.24  # mean of a fundus over the three bands, which is what the exposure meter sees


def photograph(
    reflectance: Floats,
    from_axis_mm: tuple[Floats, Floats],
    camera: Camera,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Take a photograph: light, blur, glare, exposure, noise, grey scale, in this order.

    Args:
        reflectance: (3, W, H) red, green, blue, linear.
        from_axis_mm: (W, 1) and (1, H); mm to the right of and below the middle of the field.
        camera: the device.
        rng: draws alignment, exposure and noise.

    Returns:
        (W, H, 3) uint8, black outside of the field of view.
    """
    x, y = (axis / (camera.field_deg * MM_PER_DEGREE / 2) for axis in from_axis_mm)
    from_axis = np.sqrt(x * x + y * y)
    light = _light(x, y, from_axis, camera, rng)
    pixel_mm = float(from_axis_mm[1][0, 1] - from_axis_mm[1][0, 0])
    sigma = camera.psf_fwhm_mm / _FWHM_PER_SIGMA / pixel_mm
    edge = np.clip((1 - from_axis) / pixel_mm * 6, 0, 1)
    exposure = camera.exposure / _AVERAGE * rng.uniform(0.85, 1.18)
    image = np.empty((*from_axis.shape, 3), dtype=np.uint8)
    grey = _grey_scale(camera.gamma)
    for band in range(3):
        signal = gaussian_filter(reflectance[band] * light, sigma, truncate=3.0)
        signal += camera.glare[band] + camera.edge_glare[band] * from_axis**6
        signal *= exposure * camera.gain[band]
        deviation = np.sqrt(camera.noise**2 * signal + camera.read_noise**2)
        signal += deviation * rng.standard_normal(signal.shape, dtype=np.float32)
        level = np.clip(signal * edge, 0, 1) * (_LEVELS - 1)
        image[..., band] = grey[level.astype(np.int64)]
    return image


def _light(
    x: Floats, y: Floats, from_axis: Floats, camera: Camera, rng: np.random.Generator
) -> Floats:
    """Illumination of each point, 1 where nothing is lost."""
    turn = rng.uniform(0, 2 * math.pi)
    lost = camera.unevenness * rng.uniform(0.3, 1.0)
    across = (math.cos(turn) * x + math.sin(turn) * y + 1) / 2
    falloff = 1 - camera.vignetting * np.clip(from_axis, 0, 1.2) ** 2.5
    return np.asarray(falloff * (1 - lost * np.clip(across, 0, 1)), dtype=np.float32)


def _grey_scale(gamma: float) -> NDArray[np.uint8]:
    """Grey value of each level of light: a power law with a soft shoulder, as film has it."""
    light = np.linspace(0, 1, _LEVELS)
    shoulder = light / (0.35 * light + 0.65)  # keeps 0 and 1, lifts what lies between
    return np.asarray(np.rint(255 * shoulder**gamma), dtype=np.uint8)
