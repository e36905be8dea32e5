"""One eye's optic disc, cup and pigment: everything that varies between people but the vessels.

Coordinates are millimetres on the retina, the origin in the middle of the disc: x towards the
temple (where the macula is), y downward as in a photograph. A left and a right eye are mirror
images in these coordinates, so that nothing here depends on the side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_RIM_MIN = 0.08  # of the disc's radius: the thinnest rim, a cup never reaches the disc's edge


@dataclass(frozen=True)
class Eye:
    """One eye; lengths in mm.

    Attributes:
        right: a right eye, whose temple is on the left of a photograph.
        disc_half: (2,); semi-axes of the disc, horizontal and vertical before the tilt.
        disc_tilt: turn of the disc in rad.
        disc_outline: (3, 2); amplitude and phase of harmonics 2 to 4 of the disc's outline.
        cup_ratio: (2,); extent of the cup over extent of the disc, horizontal and vertical.
        cup_centre: (2,); in units of the disc's semi-axes.
        cup_outline: (3, 2); as `disc_outline`, of the cup.
        edge_softness: (2,); widths over which disc and cup fade into what surrounds them.
        rim_pallor: 0 to 1, how far the rim's colour approaches that of the cup.
        crescent: darkness of the choroidal crescent on the temporal side, 0 to 1.
        fovea: (2,); place of the fovea.
        macula_darkness: optical depth of the macular pigment in green.
        pigment: optical depth of the fundus in green beyond that of the palest one.
        tessellation: contrast of the choroidal vessels, 0 to 0.5.
        nerve_fibres: contrast of the nerve fibre layer, 0 to 0.1.
    """

    right: bool
    disc_half: NDArray[np.float64]
    disc_tilt: float
    disc_outline: NDArray[np.float64]
    cup_ratio: NDArray[np.float64]
    cup_centre: NDArray[np.float64]
    cup_outline: NDArray[np.float64]
    edge_softness: NDArray[np.float64]
    rim_pallor: float
    crescent: float
    fovea: NDArray[np.float64]
    macula_darkness: float
    pigment: float
    tessellation: float
    nerve_fibres: float


def draw_eye(rng: np.random.Generator) -> Eye:
    """Draw an eye; disc 1.5 to 2.1 mm high, vertical cup-to-disc ratio 0.2 to 0.8."""
    height = rng.uniform(0.75, 1.05)
    vertical = rng.uniform(0.2, 0.8)
    horizontal = min(vertical * rng.uniform(0.88, 1.15), 0.8)
    cup_outline = _outline(rng, 0.03)
    # The cup lies a little towards the temple, as far as it has room within the rim.
    reach = max(horizontal, vertical) * (1 + np.abs(cup_outline[:, 0]).sum())
    room = max(1 - _RIM_MIN - reach, 0.0)
    towards = rng.normal(0.0, 0.6)
    return Eye(
        right=bool(rng.integers(2)),
        disc_half=height * np.array([rng.uniform(0.84, 0.99), 1.0]),
        disc_tilt=rng.normal(0.0, 0.12),
        disc_outline=_outline(rng, 0.02),
        cup_ratio=np.array([horizontal, vertical]),
        cup_centre=min(0.8 * room, 0.16) * np.array([np.cos(towards), np.sin(towards)]),
        cup_outline=cup_outline,
        edge_softness=rng.uniform((0.05, 0.06), (0.13, 0.16)),
        rim_pallor=rng.uniform(0.0, 0.25),
        crescent=max(rng.uniform(-0.5, 0.6), 0.0),
        fovea=rng.normal((4.6, 0.45), (0.25, 0.2)),
        macula_darkness=rng.uniform(0.45, 1.1),
        pigment=rng.uniform(0.0, 0.7),
        tessellation=max(rng.uniform(-0.15, 0.35), 0.0),
        nerve_fibres=rng.uniform(0.01, 0.10),
    )


def disc_radius(eye: Eye, x: Floats, y: Floats) -> Floats:
    """Return how far out a point lies: 0 in the middle of the disc, 1 on its edge.

    Args:
        eye: whose disc.
        x: mm towards the temple; broadcast against `y`.
        y: mm downward.
    """
    u, v = _disc_axes(eye, x, y)
    return _radius(u, v, eye.disc_outline)


def cup_radius(eye: Eye, x: Floats, y: Floats) -> Floats:
    """Return how far out a point lies: 0 in the middle of the cup, 1 on its edge."""
    u, v = _disc_axes(eye, x, y)
    # The disc's outline scales the cup as well, which is how the cup is sure to stay inside.
    bulge = _bulge(u, v, eye.disc_outline)
    (cx, cy), (ax, ay) = eye.cup_centre.tolist(), eye.cup_ratio.tolist()
    return _radius((u / bulge - cx) / ax, (v / bulge - cy) / ay, eye.cup_outline)


def _outline(rng: np.random.Generator, amplitude: float) -> NDArray[np.float64]:
    sizes = np.clip(rng.normal(0.0, amplitude / np.array([1, 1.5, 2])), -amplitude, amplitude)
    return np.column_stack([sizes, rng.uniform(0, 2 * np.pi, 3)])


def _disc_axes(eye: Eye, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coordinates along the disc's own axes, in units of its semi-axes."""
    cos, sin = float(np.cos(eye.disc_tilt)), float(np.sin(eye.disc_tilt))
    ax, ay = eye.disc_half.tolist()
    u = np.asarray((cos * x + sin * y) / ax, dtype=np.float32)
    v = np.asarray((cos * y - sin * x) / ay, dtype=np.float32)
    return u, v


def _radius(u: Floats, v: Floats, outline: NDArray[np.float64]) -> Floats:
    return np.asarray(np.sqrt(u * u + v * v) / _bulge(u, v, outline), dtype=np.float32)


def _bulge(u: Floats, v: Floats, outline: NDArray[np.float64]) -> Floats:
    """Radius of the outline in the direction of each point, about 1."""
    angle = np.arctan2(v, u)
    bulge = np.ones_like(angle)
    for order, (amplitude, phase) in enumerate(outline.tolist(), start=2):
        bulge += amplitude * np.cos(order * angle + phase)
    return np.asarray(bulge, dtype=np.float32)
