"""Three sites' T2-weighted protocols, and what each makes of the same tissue.

The domain shift of the demo set is this file: echo and repetition time, fat saturation, coil
sensitivity, resolution, noise and grey scale, acting on tissues in the order in which a scanner
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dim_monai.data.phantom.prostate.anatomy import Codes, Floats, Tissue

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


class Relaxation(NamedTuple):
    """How one tissue answers a spin-echo sequence, and how uneven it is.

    Attributes:
        proton_density: relative to water, 0 to 1.
        t1_ms: longitudinal relaxation time in ms.
        t2_ms: apparent transverse relaxation time in ms; fat's is that of fast spin echo, which
            keeps it bright.
        fat_fraction: part of the signal that fat saturation can remove, 0 to 1.
        lobules: relative T2 variation at the 3 mm scale.
        grain: relative T2 variation at the 1 mm scale.
        septa: part of T2 that is lost in the thin septa and vessels running through the tissue.
    """

    proton_density: float
    t1_ms: float
    t2_ms: float
    fat_fraction: float
    lobules: float
    grain: float
    septa: float


RELAXATION: dict[Tissue, Relaxation] = {
    Tissue.FAT: Relaxation(0.90, 350, 150, 1.0, 0.05, 0.03, 0.40),
    Tissue.MUSCLE: Relaxation(0.80, 1300, 38, 0.05, 0.12, 0.10, 0.00),
    Tissue.MARROW: Relaxation(0.55, 500, 90, 0.7, 0.10, 0.08, 0.15),
    Tissue.CORTICAL_BONE: Relaxation(0.10, 900, 10, 0.0, 0.00, 0.00, 0.00),
    Tissue.BLADDER_WALL: Relaxation(0.80, 1300, 50, 0.05, 0.10, 0.08, 0.00),
    Tissue.URINE: Relaxation(1.00, 4000, 900, 0.0, 0.02, 0.01, 0.00),
    Tissue.SEMINAL_VESICLE: Relaxation(0.90, 1800, 220, 0.05, 0.15, 0.05, 0.85),
    Tissue.RECTAL_WALL: Relaxation(0.80, 1300, 62, 0.1, 0.18, 0.08, 0.00),
    Tissue.GAS: Relaxation(0.00, 1000, 10, 0.0, 0.00, 0.00, 0.00),
    Tissue.STOOL: Relaxation(0.75, 1200, 75, 0.2, 0.35, 0.20, 0.20),
    Tissue.VENOUS_PLEXUS: Relaxation(0.90, 1200, 120, 0.4, 0.35, 0.10, 0.60),
    Tissue.CAPSULE: Relaxation(0.75, 1300, 55, 0.0, 0.10, 0.05, 0.00),
    Tissue.STROMA: Relaxation(0.80, 1300, 50, 0.0, 0.12, 0.06, 0.00),
    Tissue.PERIPHERAL: Relaxation(0.90, 1700, 155, 0.0, 0.14, 0.06, 0.18),
    Tissue.CENTRAL: Relaxation(0.85, 1500, 88, 0.0, 0.20, 0.08, 0.00),
}
"""Round values of the order seen at 1.5 T and 3 T; the demo needs their order, not their digits."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One hospital's protocol.

    Attributes:
        name: the domain, also the name of its folders.
        file_format: how the site exports images, "nifti" or "dicom".
        spacing_mm: pixel size left-right and front-back, distance between slices.
        matrix: pixels left-right and front-back; field of view = matrix * spacing.
        repetition_time_ms: TR; short TR darkens tissues of long T1 (urine, peripheral zone).
        echo_time_ms: TE; short TE brings tissues closer together and lifts muscle.
        fat_suppression: part of the fat signal that is saturated; 0 leaves fat bright.
        psf_fwhm_mm: in-plane blur of the acquisition, full width at half maximum.
        coil_log_amplitude: largest |log| of the coil sensitivity, the bias field.
        snr: signal of an average peripheral zone over the noise of one receive channel.
        grey_gamma: exponent of the vendor's grey scale; below 1 lifts dark tissues.
        tilt_deg: rotation of the stack about the left-right axis (oblique axial slices).
    """

    name: str
    file_format: str
    spacing_mm: tuple[float, float, float]
    matrix: tuple[int, int]
    repetition_time_ms: float
    echo_time_ms: float
    fat_suppression: float
    psf_fwhm_mm: float
    coil_log_amplitude: float
    snr: float
    grey_gamma: float
    tilt_deg: float


# The labelled site: bright fat, strong zone contrast, 120 mm field of view.
_SITE_A = Site(
    name="site_a",
    file_format="nifti",
    spacing_mm=(0.625, 0.625, 3.6),
    matrix=(192, 192),
    repetition_time_ms=5000,
    echo_time_ms=105,
    fat_suppression=0.0,
    psf_fwhm_mm=0.9,
    coil_log_amplitude=0.10,
    snr=30,
    grey_gamma=1.0,
    tilt_deg=0.0,
)
# The mild shift: finer pixels, shorter echo, softer grey scale, 120 mm field of view.
_SITE_B = Site(
    name="site_b",
    file_format="nifti",
    spacing_mm=(0.5, 0.5, 3.0),
    matrix=(240, 240),
    repetition_time_ms=4000,
    echo_time_ms=85,
    fat_suppression=0.15,
    psf_fwhm_mm=1.1,
    coil_log_amplitude=0.25,
    snr=20,
    grey_gamma=0.85,
    tilt_deg=0.0,
)
# The strong shift: fat darker than the peripheral zone, strong coil profile, noise, 168 mm field
# of view, oblique slices.
_SITE_C = Site(
    name="site_c",
    file_format="dicom",
    spacing_mm=(0.75, 0.75, 4.0),
    matrix=(224, 224),
    repetition_time_ms=3000,
    echo_time_ms=75,
    fat_suppression=0.30,
    psf_fwhm_mm=1.4,
    coil_log_amplitude=0.45,
    snr=14,
    grey_gamma=0.8,
    tilt_deg=7.0,
)

SITES: dict[str, Site] = {site.name: site for site in (_SITE_A, _SITE_B, _SITE_C)}


def spin_echo_signal(tissue: Tissue, site: Site) -> float:
    """Noise-free signal of an average tissue, relative to fully relaxed water.

    M0 (1 - exp(-TR / T1)) exp(-TE / T2) (1 - s f), the spin-echo equation (Hahn, Phys. Rev. 80,
    1950) with the site's fat suppression s and the tissue's fat fraction f.
    """
    codes = np.array([tissue], dtype=np.uint8)
    return float(_spin_echo(codes, _table("t2_ms")[codes], site)[0])


def acquire(
    tissue: Codes, t2_factor: Floats, site: Site, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Scan a pelvis: texture, signal, blur, coil, noise and grey scale, in this order.

    Args:
        tissue: (X, Y, Z) `Tissue` codes on the site's grid.
        t2_factor: (X, Y, Z) T2 relative to the average of the tissue.
        site: the protocol.
        rng: draws texture, coil, noise and gain.

    Returns:
        (X, Y, Z) int16 >= 0. The gain is random: MR units are arbitrary and differ between scans.
    """
    signal = _spin_echo(tissue, _t2_map(tissue, t2_factor, site, rng), site)
    in_plane = [site.psf_fwhm_mm / _FWHM_PER_SIGMA / mm for mm in site.spacing_mm[:2]]
    # Through-plane the slice profile reaches a little into its neighbours: 3 % to each side.
    signal = gaussian_filter(signal, (*in_plane, 0.38), truncate=3.0)
    signal *= _coil(tissue.shape, site, rng) / spin_echo_signal(Tissue.PERIPHERAL, site)
    real, imaginary = rng.standard_normal((2, *tissue.shape), dtype=np.float32) / site.snr
    magnitude = np.sqrt((signal + real) ** 2 + imaginary**2)  # Rician, as in every magnitude image
    return np.asarray(np.rint(rng.uniform(350, 650) * magnitude**site.grey_gamma), dtype=np.int16)


def _table(column: str) -> Floats:
    return np.array([getattr(RELAXATION[t], column) for t in Tissue], dtype=np.float32)


def _spin_echo(tissue: Codes, t2_ms: Floats, site: Site) -> Floats:
    relaxed = 1 - np.exp(-site.repetition_time_ms / _table("t1_ms"))
    kept = 1 - site.fat_suppression * _table("fat_fraction")
    m0 = (_table("proton_density") * relaxed * kept)[tissue]
    return np.asarray(m0 * np.exp(-site.echo_time_ms / t2_ms), dtype=np.float32)


def _t2_map(tissue: Codes, t2_factor: Floats, site: Site, rng: np.random.Generator) -> Floats:
    """T2 in ms of every voxel: the tissue's average x the patient's factor x texture."""
    lobules = _noise_field(tissue.shape, 3.0, site, rng)
    grain = _noise_field(tissue.shape, 1.2, site, rng)
    uneven = 1 + _table("lobules")[tissue] * lobules + _table("grain")[tissue] * grain
    # Level sets of a smooth field are thin sheets: they serve as septa and vessel walls.
    septa = 1 - _table("septa")[tissue] * np.exp(-((lobules / 0.15) ** 2))
    t2_ms = _table("t2_ms")[tissue] * t2_factor * np.maximum(uneven, 0.3) * septa
    return np.asarray(t2_ms, dtype=np.float32)


def _noise_field(
    shape: tuple[int, ...], scale_mm: float, site: Site, rng: np.random.Generator
) -> Floats:
    """Smooth random field of deviation 1 whose features measure about `scale_mm`."""
    white = rng.standard_normal(shape, dtype=np.float32)
    field = gaussian_filter(white, [scale_mm / 2 / mm for mm in site.spacing_mm], truncate=2.5)
    return np.asarray(field / field.std(), dtype=np.float32)


def _coil(shape: tuple[int, ...], site: Site, rng: np.random.Generator) -> Floats:
    """Sensitivity of the receive coil: smooth, within exp(+-coil_log_amplitude)."""
    x, y, z = np.ix_(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape))
    a, b, c = rng.normal(0, (0.5, 0.5, 0.3)).tolist()
    d, e = rng.uniform(0.4, 1.0, 2).tolist()
    # A tilt of random direction plus what an array coil does: bright rim, dark centre.
    log_field = a * x + b * y + c * z + d * x**2 + e * y**2
    log_field -= log_field.mean()
    log_field *= site.coil_log_amplitude / np.abs(log_field).max()
    return np.asarray(np.exp(log_field), dtype=np.float32)
