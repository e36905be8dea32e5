"""What light an eye's fundus sends back: choroid, macula, disc and cup under the vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.phantom.fundus.eye import Eye, Floats, cup_radius, disc_radius
from dim_monai.data.phantom.fundus.paint import paint_vessels
from dim_monai.data.phantom.fundus.texture import smooth_field
from dim_monai.data.phantom.fundus.vessels import Vessel

RIM = 1
CUP = 2

# Reflectances for red, green and blue light, linear and relative to white; optical depths in the
# same order. Round values that give the colours of photographs, not measurements.
_CHOROID = (0.56, 0.195, 0.072)
_RIM_COLOUR = (0.80, 0.310, 0.115)
_CUP_COLOUR = (0.97, 0.640, 0.330)
_SCLERA = (0.80, 0.420, 0.200)
_MELANIN = (0.45, 1.00, 1.15)
_XANTHOPHYLL = (0.55, 1.00, 1.30)
_ARTERIAL = (0.22, 1.00, 0.75)
_VENOUS = (0.60, 1.50, 1.05)
_MACULA_MM = 0.75


@dataclass(frozen=True)
class Retina:
    """A fundus on a grid.

    Attributes:
        reflectance: (3, W, H) float32; red, green, blue, linear, 0 to about 1.
        label: (W, H) uint8; 0 background, 1 rim, 2 cup.
    """

    reflectance: Floats
    label: NDArray[np.uint8]


def paint_retina(
    eye: Eye, vessels: list[Vessel], x: Floats, y: Floats, rng: np.random.Generator
) -> Retina:
    """Paint a fundus from the choroid upward.

    Args:
        eye: disc, cup, macula and pigment.
        vessels: its vessels.
        x: (W, 1) mm towards the temple, evenly spaced.
        y: (1, H) mm downward, evenly spaced.
        rng: draws the textures.
    """
    disc, cup = disc_radius(eye, x, y), cup_radius(eye, x, y)
    label = np.zeros(disc.shape, dtype=np.uint8)
    label[disc < 1] = RIM
    label[cup < 1] = CUP
    depth = eye.pigment + _choroid(eye, x, y, rng) + _surround(eye, disc, x, y)
    macula = _macula(eye, x, y)
    in_disc = _fade(disc, float(eye.edge_softness[0] / eye.disc_half.mean()))
    in_cup = _fade(cup, float(eye.edge_softness[1] / (eye.disc_half * eye.cup_ratio).mean()))
    glow = _nerve_fibres(eye, disc, x, y, rng)
    mottle = smooth_field(x, y, (0.16, 0.16), rng)
    lamina = 1 - 0.07 * np.clip(smooth_field(x, y, (0.06, 0.06), rng), 0, 1.5) * in_cup
    blood = paint_vessels(vessels, x, y)
    reflex = blood.reflex * 0.24
    reflectance = np.empty((3, *disc.shape), dtype=np.float32)
    for band in range(3):
        fundus = _CHOROID[band] * np.exp(-_MELANIN[band] * depth - _XANTHOPHYLL[band] * macula)
        fundus = fundus + glow * _SCLERA[band]
        rim = _RIM_COLOUR[band] + eye.rim_pallor * (_CUP_COLOUR[band] - _RIM_COLOUR[band])
        tissue = rim * (1 + 0.05 * mottle)
        tissue += in_cup * (_CUP_COLOUR[band] * lamina - tissue)
        fundus += in_disc * (tissue - fundus)
        seen = np.exp(-_ARTERIAL[band] * blood.arterial - _VENOUS[band] * blood.venous)
        reflectance[band] = fundus * seen + reflex * _RIM_COLOUR[band]
    return Retina(reflectance, label)


def _fade(radius: Floats, width: float) -> Floats:
    """1 inside, 0 outside, half on the edge; `width` from 12 % to 88 %, in radii."""
    return np.asarray(0.5 - 0.5 * np.tanh((radius - 1) * (2 / width)), dtype=np.float32)


def _choroid(eye: Eye, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Optical depth of what is uneven: pigment, choroidal vessels, grain."""
    clouds = smooth_field(x, y, (2.4, 2.4), rng)
    blotches = smooth_field(x, y, (0.45, 0.45), rng)
    grain = smooth_field(x, y, (0.055, 0.055), rng)
    # Level sets of a smooth field are winding bands: they serve as vessels of the choroid.
    bands = smooth_field(x, y, (0.45, 0.26), rng)
    vessels = np.exp(-((bands / 0.5) ** 2)) * np.clip(0.5 + 0.6 * clouds, 0, 1.5)
    depth = 0.14 * clouds + 0.05 * blotches + 0.045 * grain - eye.tessellation * (vessels - 0.3)
    return np.asarray(depth, dtype=np.float32)


def _surround(eye: Eye, disc: Floats, x: Floats, y: Floats) -> Floats:
    """Optical depth of the ring around the disc, and of the crescent on its temporal side."""
    ring = 0.10 * np.exp(-(((disc - 1.14) / 0.07) ** 2))
    temporal = np.clip(x / (np.abs(x) + np.abs(y) + 0.1), 0, 1) ** 2
    width = 0.08 + 0.16 * temporal
    pale = np.exp(-(np.clip((disc - 1) / width, 0, 6) ** 2)) * temporal
    return np.asarray(ring - 0.9 * eye.crescent * pale, dtype=np.float32)


def _macula(eye: Eye, x: Floats, y: Floats) -> Floats:
    """Optical depth of the macula in green: a wide shade with a small dark middle."""
    (fx, fy), wide = eye.fovea.tolist(), 2 * _MACULA_MM**2
    squared = (x - fx) ** 2 + (y - fy) ** 2
    shade = 0.65 * np.exp(-squared / wide) + 0.35 * np.exp(-squared / (0.1 * wide))
    return np.asarray(eye.macula_darkness * shade, dtype=np.float32)


def _nerve_fibres(eye: Eye, disc: Floats, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Light of the nerve fibres: streaks that leave the disc above and below, and fade."""
    distance = np.sqrt(x * x + y * y)
    arch = np.abs(y) / (distance + 0.05)  # 1 straight above and below, 0 towards nose and temple
    sheet = arch**3 * np.exp(-distance / 2.2) * np.clip((disc - 0.95) * 4, 0, 1)
    # A field that is finely divided by angle and long along the radius.
    streaks = smooth_field(
        np.linspace(0, 1, 900, dtype=np.float32)[:, None], distance[:1, :1] * 0, (0.004, 1.0), rng
    ).ravel()
    turn = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * 899).astype(np.int64)
    return np.asarray(eye.nerve_fibres * sheet * (1 + 0.3 * streaks[turn]), dtype=np.float32)
