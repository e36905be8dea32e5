"""One synthetic case: a patient drawn at random, lying in one site's scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.phantom.prostate.anatomy import Patient, draw_patient, paint_pelvis
from dim_monai.data.phantom.prostate.scanner import Site, acquire

# Slices without prostate below and above the gland, as operators prescribe a stack.
_MARGINS = ((2, 3), (3, 2))


@dataclass(frozen=True)
class Phantom:
    """One synthetic case.

    Attributes:
        image: (X, Y, Z) int16, arbitrary units as in MR; axes run left, posterior, superior.
        label: (X, Y, Z) uint8; 0 background, 1 peripheral zone, 2 central gland.
        affine_ras: (4, 4) float64, voxel index to RAS millimetres.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine_ras: NDArray[np.float64]


def make_phantom(site: Site, case: int, seed: int) -> Phantom:
    """Build one case; the same arguments give the same voxels, whatever was built before.

    Args:
        site: the protocol, usually one of `SITES`.
        case: number of the patient within the site, >= 0.
        seed: seed of the whole set, >= 0.

    Returns:
        The image and its label on one grid of 12 to 16 slices (at the spacings of `SITES`). Two or
        three slices at either end hold no prostate.
    """
    rng = np.random.default_rng([seed, case, *site.name.encode()])
    patient = draw_patient(rng)
    axes = _slices(site, patient, rng)
    tissue, label, t2_factor = paint_pelvis(patient, *axes)
    affine_ras = _affine(site, tissue.shape, isocentre_mm=rng.uniform(-25, 25, 3))
    return Phantom(acquire(tissue, t2_factor, site, rng), label, affine_ras)


def _slices(
    site: Site, patient: Patient, rng: np.random.Generator
) -> tuple[NDArray[np.float32], ...]:
    """Voxel centres in the gland's frame, an open grid; centred about as well as operators do."""
    (dx, dy, dz), (nx, ny) = site.spacing_mm, site.matrix
    below, above = _MARGINS[rng.integers(len(_MARGINS))]
    gland = int(2 * patient.half_length / dz)
    x = rng.normal(0, 2.5) - (np.arange(nx) - (nx - 1) / 2) * dx
    y = rng.normal(-4, 4) - (np.arange(ny) - (ny - 1) / 2) * dy
    z = (np.arange(gland + below + above) - below - (gland - 1) / 2) * dz
    return np.ix_(*(axis.astype(np.float32) for axis in (x, y, z)))


def _affine(
    site: Site, shape: tuple[int, ...], isocentre_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """RAS affine of a stack that runs left, posterior, superior, tilted about left-right."""
    cos, sin = np.cos(np.deg2rad(site.tilt_deg)), np.sin(np.deg2rad(site.tilt_deg))
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-1.0, -1.0, 1.0]) * site.spacing_mm
    affine[:3, 3] = isocentre_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
