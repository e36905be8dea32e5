"""Synthetic prostate MRI: reproducible voxels, plausible anatomy, sites that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from dim_monai.data.phantom.prostate import SITES, Phantom, make_phantom
from dim_monai.data.phantom.prostate.anatomy import (
    CENTRAL_GLAND,
    PERIPHERAL_ZONE,
    Tissue,
    draw_patient,
    paint_pelvis,
)
from dim_monai.data.phantom.prostate.scanner import RELAXATION, spin_echo_signal


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[Phantom]]:
    return {name: [make_phantom(site, n, seed=1) for n in range(3)] for name, site in SITES.items()}


def _all(phantoms: dict[str, list[Phantom]]) -> list[Phantom]:
    return [phantom for cases in phantoms.values() for phantom in cases]


def _world(affine_ras: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Centroid of a mask in RAS mm."""
    return affine_ras[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine_ras[:3, 3]


def test_seed_site_and_case_each_change_the_voxels():
    site = SITES["site_a"]
    base = make_phantom(site, 0, seed=0)
    assert base.image.tobytes() == make_phantom(site, 0, seed=0).image.tobytes()
    for other in (
        make_phantom(site, 0, seed=1),
        make_phantom(site, 1, seed=0),
        make_phantom(replace(site, name="site_z"), 0, seed=0),
    ):
        assert other.label.shape != base.label.shape or (other.label != base.label).any()


@pytest.mark.parametrize("name", SITES)
def test_affine_is_an_axial_stack_with_the_spacing_and_tilt_of_the_site(phantoms, name):
    site = SITES[name]
    for phantom in phantoms[name]:
        assert nib.aff2axcodes(phantom.affine_ras) == ("L", "P", "S")
        columns = phantom.affine_ras[:3, :3]
        np.testing.assert_allclose(np.linalg.norm(columns, axis=0), site.spacing_mm)
        cosines = columns / site.spacing_mm
        np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-12)
        tilt_deg = math.degrees(math.acos(cosines[2, 2]))
        assert tilt_deg == pytest.approx(site.tilt_deg, abs=1e-6)
        assert phantom.image.shape[:2] == site.matrix
        assert 12 <= phantom.image.shape[2] <= 16


# --- anatomy


def test_gland_volume_is_plausible(phantoms):
    volumes_ml = [
        (p.label > 0).sum() * np.linalg.det(p.affine_ras[:3, :3]) / 1000 for p in _all(phantoms)
    ]
    assert 10 < min(volumes_ml) < max(volumes_ml) < 120
    assert max(volumes_ml) > 1.3 * min(volumes_ml)  # patients differ


def test_stack_starts_and_ends_outside_the_gland(phantoms):
    for phantom in _all(phantoms):
        slices = np.flatnonzero((phantom.label > 0).any(axis=(0, 1)))
        np.testing.assert_array_equal(slices, np.arange(slices[0], slices[-1] + 1))
        assert 2 <= slices[0] <= 4
        assert 2 <= phantom.label.shape[2] - 1 - slices[-1] <= 4
        area = (phantom.label > 0).sum(axis=(0, 1))[slices]
        assert max(area[0], area[-1]) < area.max()  # apex and base taper


def test_gland_is_one_solid_piece_inside_the_field_of_view(phantoms):
    for phantom in _all(phantoms):
        gland = phantom.label > 0
        assert ndimage.label(gland)[1] == 1
        for k in range(gland.shape[2]):
            np.testing.assert_array_equal(ndimage.binary_fill_holes(gland[..., k]), gland[..., k])
        inner = gland[4:-4, 4:-4]
        assert inner.sum() == gland.sum()


def test_peripheral_zone_encloses_the_central_gland_from_behind(phantoms):
    for phantom in _all(phantoms):
        central = phantom.label == CENTRAL_GLAND
        behind = np.roll(central, 1, axis=1)  # axis 1 runs posterior
        assert (phantom.label[behind] > 0).all()
        front_of_it = _world(phantom.affine_ras, central) - _world(
            phantom.affine_ras, phantom.label == PERIPHERAL_ZONE
        )
        assert front_of_it[1] > 2  # mm anterior in patient space


@pytest.mark.parametrize("seed", range(4))
def test_organs_lie_around_the_gland_as_in_a_man(seed):
    """Tissues on a grid of our own, in the gland's frame: right, anterior, superior."""
    axes = [np.arange(-half, half + 1, 2, dtype=np.float32) for half in (80, 90, 40)]
    tissue, label, _ = paint_pelvis(draw_patient(np.random.default_rng(seed)), *np.ix_(*axes))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def middle(*tissues: Tissue) -> np.ndarray:
        return points[np.isin(tissue, tissues)].mean(axis=0) - points[label > 0].mean(axis=0)

    bladder, rectum = middle(Tissue.URINE), middle(Tissue.GAS, Tissue.STOOL)
    vesicles = middle(Tissue.SEMINAL_VESICLE)
    assert bladder[2] > 15
    assert bladder[1] > 0 > vesicles[1] > rectum[1]
    assert vesicles[2] > 10
    obturator = (tissue == Tissue.MUSCLE) & (np.abs(points[..., 1]) < 20)
    right, left = (obturator & (side * points[..., 0] > 20) for side in (1, -1))
    assert 0.7 < right.sum() / left.sum() < 1.4


# --- sites


def _ratio(a: Tissue, b: Tissue, site: str) -> float:
    return spin_echo_signal(a, SITES[site]) / spin_echo_signal(b, SITES[site])


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("tissue", [Tissue.PERIPHERAL, Tissue.FAT, Tissue.URINE])
def test_signal_follows_the_spin_echo_equation(name, tissue):
    site, r = SITES[name], RELAXATION[tissue]
    expected = (
        r.proton_density
        * -math.expm1(-site.repetition_time_ms / r.t1_ms)
        * math.exp(-site.echo_time_ms / r.t2_ms)
        * (1 - site.fat_suppression * r.fat_fraction)
    )
    assert spin_echo_signal(tissue, site) == pytest.approx(expected, rel=1e-5)


def test_contrast_of_the_model_shifts_from_site_to_site():
    muscle = [_ratio(Tissue.PERIPHERAL, Tissue.MUSCLE, site) for site in sorted(SITES)]
    assert muscle == sorted(muscle, reverse=True)
    assert muscle[0] > 1.5 * muscle[-1]
    # Fat turns from brighter than the peripheral zone into darker.
    assert _ratio(Tissue.FAT, Tissue.PERIPHERAL, "site_a") > 1
    assert _ratio(Tissue.FAT, Tissue.PERIPHERAL, "site_c") < 0.9
    for site in SITES:
        assert _ratio(Tissue.PERIPHERAL, Tissue.CENTRAL, site) > 1.2


def test_contrast_and_noise_of_the_images_shift_with_it(phantoms):
    contrast, noise = {}, {}
    for name, cases in phantoms.items():
        zone = [p.image[p.label == PERIPHERAL_ZONE].astype(float) for p in cases]
        # At least a tenth of every pelvis is muscle, the darkest large tissue.
        dark = [np.percentile(p.image, 10) for p in cases]
        contrast[name] = np.mean([z.mean() / d for z, d in zip(zone, dark, strict=True)])
        # Second differences between neighbouring pixels keep the noise and little else.
        rough = [
            np.median(np.abs(np.diff(p.image.astype(float), n=2, axis=0))[p.label[1:-1] > 0])
            for p in cases
        ]
        noise[name] = np.mean([r / z.mean() for r, z in zip(rough, zone, strict=True)])
    assert contrast["site_a"] > 1.2 * contrast["site_b"] > 1.44 * contrast["site_c"]
    assert noise["site_c"] > 1.2 * noise["site_a"]
