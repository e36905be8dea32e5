"""The retinal vessels: arteries and veins that leave the disc, arch around the macula and branch.

A vessel grows step by step. Its heading follows a course (the arcade around the fovea, or a
straight line) and meanders about it; it tapers, and it gives off branches that share its
cross-section by Murray's law (J Gen Physiol 9, 1926): r^3 = r1^3 + r2^3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.phantom.fundus.eye import Eye, cup_radius, disc_radius

STEP_MM = 0.06
REACH_MM = 13.5  # from the disc: beyond every photograph
THINNEST_MM = 0.011
_BRANCH_EVERY_MM = 1.0
_DEEPEST = 4
_AVASCULAR_MM = 0.3  # radius around the fovea


@dataclass(frozen=True)
class Vessel:
    """One vessel between its origin and its end.

    Attributes:
        artery: an artery, otherwise a vein.
        points_mm: (n, 2) float64; its middle line, towards the temple and down, n >= 2.
        radius_mm: (n,) float64; half of its width.
    """

    artery: bool
    points_mm: NDArray[np.float64]
    radius_mm: NDArray[np.float64]


@dataclass(frozen=True)
class _Bud:
    """A vessel that is about to grow.

    Attributes:
        artery: what it will be.
        place: where it starts.
        heading: direction in rad, 0 towards the temple, positive downward.
        radius_mm: at its origin.
        course: heading that it strives for, in rad; None for the arcade around the fovea.
        side: -1 above the disc, 1 below: the way around the fovea.
        depth: number of branchings between it and the disc.
        length_mm: where it ends at the latest.
        fork: course of the large branch that a trunk gives off near the disc; None for others.
    """

    artery: bool
    place: tuple[float, float]
    heading: float
    radius_mm: float
    course: float | None
    side: int
    depth: int
    length_mm: float
    fork: float | None = None


def grow_vessels(eye: Eye, rng: np.random.Generator) -> list[Vessel]:
    """Return all vessels of an eye, 60 to 200 of them."""
    buds = [bud for artery in (True, False) for bud in _trunks(eye, artery=artery, rng=rng)]
    vessels = []
    while buds:
        vessel, branches = _grow(buds.pop(), eye, rng)
        if len(vessel.radius_mm) > 1:
            vessels.append(vessel)
        buds.extend(branches)
    return [_dip(vessel, eye) for vessel in vessels]


def _trunks(eye: Eye, *, artery: bool, rng: np.random.Generator) -> Iterator[_Bud]:
    """The trunk above, that below, and small vessels straight out of the disc."""
    width, height = eye.disc_half.tolist()
    # Vessels come up along the nasal wall of the cup; the artery lies on the nasal side.
    nasal = -0.22 - 0.1 * artery - 0.25 * float(eye.cup_ratio[0]) + rng.normal(0, 0.05)
    hilum = (nasal * width, rng.normal(0.02, 0.06) * height)
    for side in (-1, 1):
        heading = side * math.pi / 2 + rng.normal(0, 0.4)
        radius_mm = rng.uniform(0.058, 0.072) if artery else rng.uniform(0.076, 0.096)
        to_nose = side * rng.uniform(0.55, 0.88) * math.pi
        yield _Bud(artery, hilum, heading, radius_mm, None, side, 0, 16.0, to_nose)
    for _ in range(int(rng.integers(1, 4))):
        course = rng.choice((0.0, math.pi)) + rng.normal(0, 0.45)
        yield _Bud(artery, hilum, course, rng.uniform(0.016, 0.028), course, 0, 2, 5.0)


def _grow(bud: _Bud, eye: Eye, rng: np.random.Generator) -> tuple[Vessel, list[_Bud]]:
    (x, y), heading, radius = bud.place, bud.heading, bud.radius_mm
    fovea_x, fovea_y = eye.fovea.tolist()
    steps = int(bud.length_mm / STEP_MM)
    # Thin vessels wind more than thick ones.
    winding = rng.normal(0, 0.45 + 0.009 / radius, steps).tolist()
    chance = rng.random(steps).tolist()
    points, radii, branches = [(x, y)], [radius], []
    fork_at = int(rng.uniform(0.35, 1.0) / STEP_MM)
    curvature, since, hand = 0.0, 0.0, int(rng.choice((-1, 1)))
    for step in range(steps):
        curvature = 0.88 * curvature + winding[step] * 0.45
        course = _arcade(x, y, eye, bud.side) if bud.course is None else bud.course
        pull = math.remainder(course - heading, 2 * math.pi)
        heading += (0.8 * pull + curvature) * STEP_MM
        x, y = x + math.cos(heading) * STEP_MM, y + math.sin(heading) * STEP_MM
        radius *= 1 - STEP_MM / 30
        to_fovea = math.hypot(x - fovea_x, y - fovea_y) - _AVASCULAR_MM
        # Thin where it ends: at its full length, or before the fovea, which has no vessels.
        seen = radius * (1 - (step / steps) ** 2) * min(1.0, to_fovea / 1.2)
        if seen < THINNEST_MM or math.hypot(x, y) > REACH_MM:
            break
        points.append((x, y))
        radii.append(seen)
        since += STEP_MM
        branch = None
        if step == fork_at and bud.fork is not None:
            branch = replace(
                bud, place=(x, y), radius_mm=0.78 * radius, course=bud.fork, depth=1, fork=None
            )
        elif math.hypot(x, y) > 0.9 and since > 0.35 and chance[step] < STEP_MM / _BRANCH_EVERY_MM:
            branch = _branch(bud, (x, y), heading, radius, hand, rng)
            since, hand = 0.0, -hand
        if branch is not None and branch.depth <= _DEEPEST and branch.radius_mm > THINNEST_MM:
            branches.append(branch)
            radius = (radius**3 - branch.radius_mm**3) ** (1 / 3)
    return Vessel(bud.artery, np.array(points), np.array(radii)), branches


def _branch(
    bud: _Bud,
    place: tuple[float, float],
    heading: float,
    radius_mm: float,
    hand: int,
    rng: np.random.Generator,
) -> _Bud:
    """A branch to one side, `hand` = 1 or -1."""
    share = rng.uniform(0.42, 0.80)
    angle = hand * rng.uniform(0.5, 1.1)
    wander = rng.normal(0, 0.25)
    return replace(
        bud,
        place=place,
        heading=heading + angle,
        radius_mm=share * radius_mm,
        course=heading + 0.8 * angle + wander,
        depth=bud.depth + 1,
        fork=None,
        length_mm=rng.uniform(1.2, 7.0) * (0.4 + share),
    )


def _arcade(x: float, y: float, eye: Eye, side: int) -> float:
    """Heading along an arch around a point temporal of the fovea, opening as it goes."""
    middle_x, middle_y = 1.25 * float(eye.fovea[0]), 0.6 * float(eye.fovea[1])
    p, q = x - middle_x, y - middle_y
    distance = math.hypot(p, q)
    around = math.atan2(q, p) - side * math.pi / 2  # along the circle, away from the disc
    wanted = middle_x * 0.86
    # Too near the middle, turn outward; too far, turn inward.
    # Outward is against `side` times the sense of the arch.
    return around - side * max(-0.6, min(0.6, 0.35 * (distance - wanted)))


def _dip(vessel: Vessel, eye: Eye) -> Vessel:
    """Push what lies in the cup towards the nose: vessels bend where they climb over its edge."""
    x, y = vessel.points_mm[:, 0], vessel.points_mm[:, 1]
    if not (np.hypot(x, y) < 1.2).any():
        return vessel
    deep = np.clip(1.15 - cup_radius(eye, x.astype(np.float32), y.astype(np.float32)), 0, 0.5)
    inside = disc_radius(eye, x.astype(np.float32), y.astype(np.float32)) < 1
    shift = 0.35 * float(eye.cup_ratio.mean()) * np.where(inside, deep, 0)
    points = vessel.points_mm - np.column_stack([shift, np.zeros_like(shift)])
    return replace(vessel, points_mm=points)
