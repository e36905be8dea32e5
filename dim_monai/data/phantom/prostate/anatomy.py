"""A schematic male pelvis around the prostate, different in every patient.

Coordinates are millimetres in the gland's own frame: x towards the patient's right, y anterior,
z superior, the origin in the middle of the gland. Tissues are painted from the outside in: what
comes later covers what came before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

PERIPHERAL_ZONE = 1
CENTRAL_GLAND = 2


class Tissue(IntEnum):
    """What fills a voxel."""

    FAT = 0
    MUSCLE = 1
    MARROW = 2
    CORTICAL_BONE = 3
    BLADDER_WALL = 4
    URINE = 5
    SEMINAL_VESICLE = 6
    RECTAL_WALL = 7
    GAS = 8
    STOOL = 9
    VENOUS_PLEXUS = 10
    CAPSULE = 11
    STROMA = 12
    PERIPHERAL = 13
    CENTRAL = 14


@dataclass(frozen=True)
class Patient:
    """Everything that varies between patients; lengths in mm.

    Attributes:
        half_width: semi-axis of the gland, left-right.
        half_height: semi-axis of the gland, front-back.
        half_length: semi-axis of the gland, apex to base.
        lean: how far the gland moves back per mm up.
        outline: (4, 3); amplitude, phase (rad) and twist (rad/mm) of harmonics 2 to 5 of the
            gland's cross-section.
        central_size: extent of the central gland at mid-height, as a fraction of the gland.
        nodules: (n, 5); centre x, y, z as fractions of the semi-axes, radius, T2 factor.
        rectum_radius: outer radius behind the gland.
        rectum_shift: sideways position of the rectum.
        stool_level: height of stool under gas, in radii from the middle of the rectum.
        bladder_radius: mean radius of the bladder.
        muscle_gap: from the midline to the inner face of the obturator muscles.
        warp: (4, 3); amplitude, wave number (rad/mm), phase (rad) of the sinusoidal shears that
            make the surroundings asymmetric.
        tissue_t2: (15,); T2 of each tissue relative to the average man.
    """

    half_width: float
    half_height: float
    half_length: float
    lean: float
    outline: NDArray[np.float64]
    central_size: float
    nodules: NDArray[np.float64]
    rectum_radius: float
    rectum_shift: float
    stool_level: float
    bladder_radius: float
    muscle_gap: float
    warp: NDArray[np.float64]
    tissue_t2: NDArray[np.float64]


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a patient; the ranges give glands of roughly 20 to 50 ml."""
    n = int(rng.integers(5, 11))
    place = rng.uniform((-0.65, -0.35, -0.5), (0.65, 0.6, 0.8), (n, 3))
    radius, factor = rng.uniform(3.0, 7.5, n), rng.choice([0.6, 0.75, 1.2, 1.8], n)
    tissue_t2 = rng.normal(1.0, 0.06, len(Tissue))
    tissue_t2[Tissue.PERIPHERAL] = rng.uniform(0.88, 1.18)
    tissue_t2[Tissue.CENTRAL] = rng.uniform(0.85, 1.10)
    phases = rng.uniform(0, 2 * np.pi, (2, 4))
    amplitudes = rng.normal(0.0, (0.035, 0.025, 0.018, 0.012))
    return Patient(
        half_width=rng.uniform(21, 29),
        half_height=rng.uniform(14.5, 21),
        half_length=rng.uniform(15, 17.9),
        lean=rng.uniform(0.05, 0.25),
        outline=np.column_stack([amplitudes, phases[0], rng.normal(0.0, 0.03, 4)]),
        central_size=rng.uniform(0.72, 0.88),
        nodules=np.column_stack([place, radius, factor]),
        rectum_radius=rng.uniform(11, 18),
        rectum_shift=rng.normal(0, 3),
        stool_level=rng.uniform(-1.2, 1.2),
        bladder_radius=rng.uniform(26, 36),
        muscle_gap=rng.uniform(38, 44),
        warp=np.column_stack([rng.uniform(1, 3, 4), rng.uniform(0.04, 0.09, 4), phases[1]]),
        tissue_t2=tissue_t2,
    )


def paint_pelvis(patient: Patient, x: Floats, y: Floats, z: Floats) -> tuple[Codes, Codes, Floats]:
    """Say what lies at each point of an open grid.

    Args:
        patient: whose pelvis.
        x: (X, 1, 1) mm towards the patient's right.
        y: (1, Y, 1) mm anterior.
        z: (1, 1, Z) mm superior.

    Returns:
        `Tissue` codes, label (0, 1, 2) and T2 relative to the tissue's average, each (X, Y, Z).
    """
    (ax, bx, cx), (dx, ex, fx), (ay, by, cy), (dy, ey, fy) = patient.warp.tolist()
    leaned = np.asarray(y + patient.lean * z, dtype=np.float32)
    u = x + ax * np.sin(bx * y + cx) + dx * np.sin(ex * z + fx)
    v = leaned + ay * np.sin(by * x + cy) + dy * np.sin(ey * z + fy)
    tissue = np.full((x.size, y.size, z.size), Tissue.FAT, dtype=np.uint8)
    _paint_wall(tissue, patient, u, v, z)
    _paint_bladder(tissue, patient, u, v, z)
    _paint_rectum(tissue, patient, u, v, z)
    label = _paint_gland(tissue, patient, x, leaned, z)
    t2_factor = patient.tissue_t2.astype(np.float32)[tissue]
    _add_nodules(t2_factor, tissue == Tissue.CENTRAL, patient, (x, leaned, z))
    return tissue, label, t2_factor


def _ellipse(
    u: Floats, v: Floats, centre: tuple[Any, Any], half: tuple[Any, Any], turn_deg: float = 0.0
) -> Floats:
    """Normalised radius: 0 at the centre, 1 on the ellipse, which is turned counter-clockwise."""
    turn = math.radians(turn_deg)
    cos, sin = math.cos(turn), math.sin(turn)
    p, q = u - centre[0], v - centre[1]
    along, across = (cos * p + sin * q) / half[0], (cos * q - sin * p) / half[1]
    # Not np.hypot: several times slower, and nothing here is near overflow.
    return np.asarray(np.sqrt(along * along + across * across), dtype=np.float32)


def _ramp(z: Floats, start: float, stop: float) -> Floats:
    """0 up to `start`, 1 from `stop` on, linear between; `stop` may lie below `start`."""
    return np.asarray(np.clip((z - start) / (stop - start), 0, 1), dtype=np.float32)


def _paint_bone(tissue: Codes, radius: Floats, cortex: float) -> None:
    tissue[radius < 1] = Tissue.CORTICAL_BONE
    tissue[radius < 1 - cortex] = Tissue.MARROW


def _paint_wall(tissue: Codes, patient: Patient, u: Floats, v: Floats, z: Floats) -> None:
    """Bones and muscles around the organs; left mirrors right, apart from the warp."""
    side = np.abs(u)
    front, gap = patient.half_height, patient.muscle_gap
    low = _ramp(z, 4.0, -14.0)
    # In front: adductors and obturator externus low down, abdominal wall higher up, fat outside.
    tissue[v > front + 34 - 28 * low - 0.35 * low * side] = Tissue.MUSCLE
    tissue[v > front + 58] = Tissue.FAT
    # At the sides: gluteus maximus, ischium and acetabulum, obturator internus; behind: coccyx.
    tissue[_ellipse(side, v, (78.0, -66.0), (44.0, 17.0), 35.0) < 1] = Tissue.MUSCLE
    _paint_bone(tissue, _ellipse(side, v, (gap + 32, 6.0), (17.0, 33.0), 8.0), cortex=0.13)
    obturator = _ellipse(side, v, (gap + 10 - 6 * low, 2.0), (10 + 3 * low, 38.0), 14.0)
    tissue[obturator < 1] = Tissue.MUSCLE
    _paint_bone(tissue, _ellipse(u, v, (0.0, -78.0), (15.0, 8.0)), cortex=0.25)
    # The pubic bones meet at the symphysis and end above mid-gland.
    pubis = _ellipse(side, v, (21.0, front + 24), (22.0, 9.0), -24.0)
    pubis = np.where(z < 9, pubis, np.float32(2))
    _paint_bone(tissue, pubis, cortex=0.16)
    tissue[(pubis < 1.1) & (side < 2.5)] = Tissue.CORTICAL_BONE
    # Levator ani: a sling open to the front, thick at the apex and thin at the base.
    half = (patient.half_width + 6 - 9 * low, patient.half_height + 15)
    sling = _ellipse(u, v, (0.0, -13.0), half)
    wall = (sling < 1) & (sling > 0.93 - 0.12 * low)
    tissue[wall & (v < 0.5 * front)] = Tissue.MUSCLE


def _paint_bladder(tissue: Codes, patient: Patient, u: Floats, v: Floats, z: Floats) -> None:
    """Bladder above the base, seminal vesicles behind it."""
    base, radius = patient.half_length, patient.bladder_radius
    across = _ellipse(u, v, (0.0, 0.55 * radius), (1.1 * radius, 0.85 * radius))
    bladder = np.hypot(across, (z - base - 0.55 * radius) / (0.9 * radius))
    tissue[bladder < 1] = Tissue.BLADDER_WALL
    tissue[bladder < 0.84] = Tissue.URINE
    vesicle = _ellipse(np.abs(u), v, (14.0, -12.0), (16.0, 6.0), -12.0)
    tissue[np.hypot(vesicle, (z - base - 3) / 8) < 1] = Tissue.SEMINAL_VESICLE


def _paint_rectum(tissue: Codes, patient: Patient, u: Floats, v: Floats, z: Floats) -> None:
    """Anal canal below, rectum behind the gland; gas floats above stool, the patient is supine."""
    wide = _ramp(z, -16.0, -4.0)
    radius = 9.5 + (patient.rectum_radius - 9.5) * wide
    middle = -0.80 * patient.half_height - 3.0 - radius - 0.3 * np.maximum(z, 0)
    ring = _ellipse(u, v, (patient.rectum_shift * wide, middle), (1.08 * radius, radius))
    tissue[ring < 1] = Tissue.RECTAL_WALL
    wall_mm = 3.2 * (2 - wide)  # the sphincter is twice as thick as the rectal wall
    lumen = ring < 1 - wall_mm / radius
    tissue[lumen] = Tissue.GAS
    tissue[lumen & (v - middle < patient.stool_level * radius)] = Tissue.STOOL


def _paint_gland(tissue: Codes, patient: Patient, x: Floats, y: Floats, z: Floats) -> Codes:
    """Paint the prostate with its venous plexus and return the label."""
    half = (patient.half_width, patient.half_height)
    along = z / patient.half_length
    within = np.abs(along) < 1
    # The apex tapers like a cone, the base is blunt: exponents of a super-ellipse.
    power = np.where(along < 0, 1.9, 3.2)
    taper = np.maximum(1 - np.abs(along) ** power, 1e-6) ** (1 / power)
    taper = taper.astype(np.float32)
    angle = np.arctan2(y, x)
    outline = 1 - 0.14 * np.exp(-(((angle + np.pi / 2) / 0.55) ** 2))  # pressed by the rectum
    for order, (amplitude, phase, twist) in enumerate(patient.outline.tolist(), start=2):
        outline = outline + amplitude * np.cos(order * angle + (phase + twist * z))
    scale = taper * outline
    gland = _ellipse(x, y, (0.0, 0.0), half) / scale
    # The central gland takes little of the apex and most of the base, and lies in front.
    part = patient.central_size * (0.88 + 0.20 * along)
    lift = (1 - part) * 0.85 * half[1] * taper
    central = _ellipse(x, y, (0.0, lift), half) / (scale * part)

    plexus = (gland < 1.12 + 0.14 * np.abs(x) / half[0]) & (y > -0.7 * half[1])
    tissue[plexus & within] = Tissue.VENOUS_PLEXUS
    inside = (gland < 1) & within
    tissue[inside] = Tissue.CAPSULE
    tissue[inside & (gland < 0.955)] = Tissue.PERIPHERAL
    is_central = inside & (central < 1)
    tissue[is_central] = Tissue.CAPSULE
    tissue[is_central & (central < 0.94)] = Tissue.CENTRAL
    stroma = y > (0.72 + 0.1 * np.abs(x) / half[0]) * half[1] * taper
    tissue[is_central & stroma] = Tissue.STROMA

    label = np.zeros_like(tissue)
    label[inside] = PERIPHERAL_ZONE
    label[is_central] = CENTRAL_GLAND
    return label


def _add_nodules(
    t2_factor: Floats,
    central: NDArray[np.bool_],
    patient: Patient,
    axes: tuple[Floats, Floats, Floats],
) -> None:
    """Hyperplastic nodules: bright or dark balls, each in a dark pseudo-capsule."""
    half = (patient.half_width, patient.half_height, patient.half_length)
    for cx, cy, cz, radius, factor in patient.nodules.tolist():
        centre = (cx * half[0], cy * half[1], cz * half[2])
        p, q, r = ((axis - c) / radius for axis, c in zip(axes, centre, strict=True))
        squared = p**2 + q**2 + r**2
        inside = central & (squared < 1)
        t2_factor[inside] *= np.where(squared[inside] > 0.7, 0.7, factor)
