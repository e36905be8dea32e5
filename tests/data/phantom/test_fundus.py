"""Synthetic fundus photographs: reproducible pixels, plausible eyes, cameras that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from dim_monai.data.phantom.fundus import CAMERAS, Camera, Phantom, make_phantom
from dim_monai.data.phantom.fundus.camera import photograph
from dim_monai.data.phantom.fundus.eye import Eye, draw_eye
from dim_monai.data.phantom.fundus.paint import paint_vessels
from dim_monai.data.phantom.fundus.retina import CUP, RIM, paint_retina
from dim_monai.data.phantom.fundus.texture import smooth_field
from dim_monai.data.phantom.fundus.vessels import Vessel, grow_vessels

CASES = 3


@pytest.fixture(scope="module")
def crops() -> dict[str, list[Phantom]]:
    return {c.name: [make_phantom(c, n, seed=1) for n in range(CASES)] for c in CAMERAS.values()}


@pytest.fixture(scope="module")
def wholes() -> dict[str, Phantom]:
    return {c.name: make_phantom(c, 0, seed=1, whole=True) for c in CAMERAS.values()}


def _all(crops: dict[str, list[Phantom]], wholes: dict[str, Phantom]) -> list[Phantom]:
    return [*wholes.values(), *(phantom for cases in crops.values() for phantom in cases)]


def _height(mask: np.ndarray) -> int:
    """Extent along the second axis, which runs downward."""
    rows = np.flatnonzero(mask.any(axis=0))
    return int(rows[-1] - rows[0] + 1)


def _eyes(seeds: range) -> list[Eye]:
    return [draw_eye(np.random.default_rng(seed)) for seed in seeds]


def _axes(half_mm: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-half_mm, half_mm, n, dtype=np.float32)
    return axis[:, None], axis[None, :]


# --- reproducibility


def test_seed_camera_and_case_each_change_the_eye() -> None:
    camera = CAMERAS["camera_d"]
    base = make_phantom(camera, 0, seed=0)
    assert base.image.tobytes() == make_phantom(camera, 0, seed=0).image.tobytes()
    for other in (
        make_phantom(camera, 0, seed=1),
        make_phantom(camera, 1, seed=0),
        make_phantom(replace(camera, name="camera_z"), 0, seed=0),
    ):
        assert (other.label != base.label).any()


def test_the_eye_of_a_crop_and_of_a_whole_photograph_is_the_same() -> None:
    """Its cup-to-disc ratio, measured at two scales, agrees to a pixel of the coarser one."""
    for case in range(2):
        ratios = []
        for whole in (False, True):
            label = make_phantom(CAMERAS["camera_a"], case, seed=2, whole=whole).label
            ratios.append((_height(label == CUP) / _height(label > 0), 2 / _height(label > 0)))
        (crop, _), (whole_ratio, tolerance) = ratios
        assert whole_ratio == pytest.approx(crop, abs=tolerance)


# --- geometry and anatomy


def test_image_and_label_share_the_grid_of_the_camera(
    crops: dict[str, list[Phantom]], wholes: dict[str, Phantom]
) -> None:
    for name, camera in CAMERAS.items():
        assert wholes[name].image.shape == (*camera.matrix, 3)
        assert min(camera.matrix) > camera.crop_px
        for phantom in crops[name]:
            assert phantom.image.shape == (camera.crop_px, camera.crop_px, 3)
    for phantom in _all(crops, wholes):
        assert phantom.image.dtype == phantom.label.dtype == np.uint8
        assert phantom.label.shape == phantom.image.shape[:2]


def test_cup_lies_inside_the_disc_and_the_disc_inside_the_image(
    crops: dict[str, list[Phantom]], wholes: dict[str, Phantom]
) -> None:
    for phantom in _all(crops, wholes):
        disc, cup = phantom.label > 0, phantom.label == CUP
        for region in (disc, cup):
            assert ndimage.label(region)[1] == 1
            np.testing.assert_array_equal(ndimage.binary_fill_holes(region), region)
        # A rim all around: grown by one pixel the cup is still in the disc.
        assert disc[ndimage.binary_dilation(cup)].all()
        assert disc[4:-4, 4:-4].sum() == disc.sum()


def test_no_cup_of_a_thousand_eyes_reaches_the_edge_of_its_disc() -> None:
    for eye in _eyes(range(1000)):
        reach = np.hypot(*eye.cup_centre) + eye.cup_ratio.max() * (
            1 + np.abs(eye.cup_outline[:, 0]).sum()
        )
        assert reach < 0.95


def test_ratio_of_cup_to_disc_is_the_one_drawn() -> None:
    eye = replace(
        draw_eye(np.random.default_rng(0)),
        disc_tilt=0.0,
        disc_outline=np.zeros((3, 2)),
        cup_outline=np.zeros((3, 2)),
        cup_ratio=np.array([0.5, 0.6]),
    )
    vessels = grow_vessels(eye, np.random.default_rng(0))
    retina = paint_retina(eye, vessels, *_axes(1.5, 401), np.random.default_rng(0))
    disc, cup = retina.label > 0, retina.label == CUP
    pixel_mm = 3 / 400
    assert _height(disc) * pixel_mm == pytest.approx(2 * eye.disc_half[1], abs=2 * pixel_mm)
    assert _height(disc.T) * pixel_mm == pytest.approx(2 * eye.disc_half[0], abs=2 * pixel_mm)
    assert _height(cup) / _height(disc) == pytest.approx(0.6, abs=2 / _height(disc))
    assert disc.sum() * pixel_mm**2 == pytest.approx(math.pi * eye.disc_half.prod(), rel=0.01)
    assert cup.sum() / disc.sum() == pytest.approx(0.3, rel=0.02)


def test_eyes_vary_as_people_do() -> None:
    eyes = _eyes(range(200))
    vertical = np.array([eye.cup_ratio[1] for eye in eyes])
    assert 0.2 <= vertical.min() < 0.3
    assert 0.7 < vertical.max() <= 0.8
    assert 70 < sum(eye.right for eye in eyes) < 130


def test_crops_are_two_to_three_disc_heights_wide(crops: dict[str, list[Phantom]]) -> None:
    for phantom in (p for cases in crops.values() for p in cases):
        share = len(phantom.label) / _height(phantom.label > 0)
        assert 2.0 < share < 3.0


def test_whole_photograph_is_a_disc_of_light_with_the_optic_disc_off_its_middle(
    wholes: dict[str, Phantom],
) -> None:
    for name, phantom in wholes.items():
        camera, light = CAMERAS[name], phantom.image.max(axis=-1)
        width, height = camera.matrix
        for corner in (light[:20, :20], light[-20:, :20], light[:20, -20:], light[-20:, -20:]):
            assert corner.max() <= 2
        assert np.flatnonzero((light > 20).any(axis=1)).size == pytest.approx(
            camera.field_px, abs=0.03 * camera.field_px
        )
        x, y = np.argwhere(phantom.label > 0).mean(axis=0)
        assert abs(x - width / 2) > 0.1 * width
        assert abs(y - height / 2) < 0.25 * height


def test_macula_lies_on_the_temporal_side_and_a_left_eye_mirrors_a_right_one() -> None:
    """The darkest large spot of the vessel-free retina is where the eye says."""
    eye = replace(draw_eye(np.random.default_rng(3)), macula_darkness=1.0, tessellation=0.0)
    x, y = _axes(7.0, 281)
    vessels = [
        Vessel(artery, np.array([[9.0, 9], [9, 10]]), np.ones(2)) for artery in (True, False)
    ]
    retina = paint_retina(eye, vessels, x, y, np.random.default_rng(0))
    smooth = ndimage.gaussian_filter(retina.reflectance[1], 12)
    i, j = np.unravel_index(smooth.argmin(), smooth.shape)
    assert math.hypot(x[i, 0] - eye.fovea[0], y[0, j] - eye.fovea[1]) < 0.8
    mirrored = paint_retina(eye, [], -x, y, np.random.default_rng(0))
    np.testing.assert_array_equal(mirrored.label[::-1], retina.label)


# --- vessels


@pytest.mark.parametrize("seed", range(3))
def test_vessels_leave_the_disc_thin_out_and_spare_the_fovea(seed: int) -> None:
    rng = np.random.default_rng(seed)
    eye = draw_eye(rng)
    vessels = grow_vessels(eye, rng)
    assert {vessel.artery for vessel in vessels} == {True, False}
    assert len(vessels) > 40
    points = np.concatenate([vessel.points_mm for vessel in vessels])
    assert np.hypot(*(points - eye.fovea).T).min() > 0.25
    on_disc = [np.hypot(*vessel.points_mm[0]) < eye.disc_half.max() for vessel in vessels]
    # Four trunks and a few small vessels; all others branch off farther out.
    assert 4 <= sum(on_disc) < 30
    for vessel in vessels:
        assert (np.diff(vessel.radius_mm) < 0).all()
    # Some cross the disc's edge above, some below, as the arcades do.
    edge = np.abs(np.hypot(*points.T) - eye.disc_half[1]) < 0.1
    assert points[edge, 1].min() < 0 < points[edge, 1].max()


def test_painted_vessel_has_the_width_of_the_vessel_and_lies_on_it() -> None:
    x, y = _axes(1.0, 201)
    line = np.column_stack([np.linspace(-2, 2, 50), np.linspace(-1, 1, 50)])  # slope 1 : 2
    off_grid = Vessel(False, np.array([[5.0, 5], [5, 6]]), np.ones(2))
    blood = paint_vessels([Vessel(True, line, np.full(50, 0.08)), off_grid], x, y)
    assert blood.venous.max() == 0
    distance = np.abs(x - 2 * y) / math.sqrt(5)
    pixel_mm = 0.01
    assert (blood.arterial[distance < 0.08 - pixel_mm] > 0).all()
    assert (blood.arterial[distance > 0.08 + pixel_mm] == 0).all()
    # The middle of a vessel is its deepest and its brightest part.
    assert blood.arterial[distance < 0.01].min() > blood.arterial[distance > 0.06].max()
    assert blood.reflex[distance < 0.01].min() > blood.reflex[distance > 0.04].max()


def test_smooth_field_is_standard_normal_with_features_of_the_asked_size() -> None:
    x, y = _axes(40.0, 400)
    field = smooth_field(x, y, (1.0, 4.0), np.random.default_rng(0))
    assert field.mean() == pytest.approx(0, abs=0.1)
    assert field.std() == pytest.approx(1, abs=0.1)
    # Of nodes spread by Gaussians of deviation s the correlation at distance d is exp(-d^2 / 4s^2).
    step_mm = 80 / 399
    for axis, sigma in ((0, 0.5), (1, 2.0)):
        shift = round(sigma / step_mm)
        a, b = np.take(field, range(400 - shift), axis), np.take(field, range(shift, 400), axis)
        expected = math.exp(-((shift * step_mm / sigma) ** 2) / 4)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(expected, abs=0.05)


# --- cameras


def _grey_card(camera: Camera, level: float = 0.2) -> np.ndarray:
    """What a camera makes of an even card; the same light and the same noise in all of them."""
    x, y = (axis * 4 for axis in _axes(0.5, 200))
    card = np.full((3, 200, 200), level, dtype=np.float32)
    return photograph(card, (x, y), camera, np.random.default_rng(0)).astype(float)


def test_a_card_has_another_colour_and_noise_before_every_camera() -> None:
    cards = {name: _grey_card(camera) for name, camera in CAMERAS.items()}
    colours = np.array([card.mean(axis=(0, 1)) for card in cards.values()])
    for i in range(len(colours)):
        for j in range(i):
            assert np.abs(colours[i] - colours[j]).max() > 15  # grey values in one band
    noise = {name: np.diff(card, axis=0).std() for name, card in cards.items()}
    assert noise["camera_d"] > 1.5 * max(noise[n] for n in noise if n != "camera_d")


def test_sharpness_differs_as_the_point_spread_does() -> None:
    x, y = _axes(0.4, 200)
    step = np.broadcast_to(np.where(x < 0, 0.05, 0.3), (3, 200, 200)).astype(np.float32)
    slope = {}
    for name, camera in CAMERAS.items():
        quiet = replace(camera, noise=0.0, read_noise=0.0)
        image = photograph(step, (x, y), quiet, np.random.default_rng(0)).astype(float)
        profile = image[..., 0].mean(axis=1)
        slope[name] = np.diff(profile).max() / np.ptp(profile)
    by_slope = sorted(slope, key=lambda name: -slope[name])
    assert by_slope == sorted(CAMERAS, key=lambda name: CAMERAS[name].psf_fwhm_mm)


def test_light_falls_off_towards_the_edge_by_the_stated_part() -> None:
    for camera in CAMERAS.values():
        even = replace(
            camera,
            unevenness=0.0,
            noise=0.0,
            read_noise=0.0,
            glare=(0.0, 0.0, 0.0),
            edge_glare=(0.0, 0.0, 0.0),
            gain=(1.0, 1.0, 1.0),
            gamma=1.0,
        )
        radius_mm = camera.field_deg * 0.29 / 2
        x, y = (axis * radius_mm * 1.1 for axis in _axes(1.0, 221))
        card = np.full((3, 221, 221), 0.1, dtype=np.float32)
        image = photograph(card, (x, y), even, np.random.default_rng(0))[..., 0] / 255
        light = 0.65 * image / (1 - 0.35 * image)  # undo the shoulder of the grey scale
        assert light[110 + 98, 110] / light[110, 110] == pytest.approx(
            1 - camera.vignetting * 0.98**2.5, abs=0.06
        )
        assert image[0].max() == 0


def test_photographs_of_the_cameras_differ_in_colour(crops: dict[str, list[Phantom]]) -> None:
    balance = {}
    for name, cases in crops.items():
        seen = [p.image[(p.label == 0) & (p.image.sum(axis=-1) > 60)].mean(axis=0) for p in cases]
        mean = np.mean(seen, axis=0)
        balance[name] = mean[2] / mean[0]
    assert balance["camera_b"] > 1.2 * balance["camera_a"] > 1.44 * balance["camera_c"]


def test_what_a_camera_does_to_light_leaves_the_anatomy_as_it_is() -> None:
    """The same eye before two devices that frame it alike: another picture, the same label."""
    camera, other = CAMERAS["camera_d"], CAMERAS["camera_c"]
    optics = (
        *("psf_fwhm_mm", "vignetting", "unevenness", "glare", "edge_glare", "gain"),
        *("exposure", "gamma", "noise", "read_noise"),
    )
    changed = replace(camera, **{name: getattr(other, name) for name in optics})
    one, two = (make_phantom(device, 5, seed=0) for device in (camera, changed))
    np.testing.assert_array_equal(one.label, two.label)
    assert np.abs(one.image.astype(float) - two.image).mean() > 10


def test_cups_are_of_the_same_sizes_before_every_camera() -> None:
    """Means of 300 eyes each agree within five standard errors of their difference."""
    drawn = {
        name: [
            draw_eye(np.random.default_rng([0, case, *name.encode()])).cup_ratio[1]
            for case in range(300)
        ]
        for name in CAMERAS
    }
    error = 0.6 / math.sqrt(12) * math.sqrt(2 / 300)  # of a uniform distribution, 0.2 to 0.8
    means = [np.mean(values) for values in drawn.values()]
    assert np.ptp(means) < 5 * error


def test_disc_is_brighter_than_its_surround_and_the_cup_than_the_rim(
    crops: dict[str, list[Phantom]], wholes: dict[str, Phantom]
) -> None:
    for phantom in _all(crops, wholes):
        green = phantom.image[..., 1].astype(float)
        disc = phantom.label > 0
        ring = ndimage.binary_dilation(disc, iterations=20) & ~disc & (green > 15)
        assert green[disc].mean() > 1.2 * green[ring].mean()
        # Vessels lie over rim and cup; the bright half of either is tissue.
        rim, cup = (np.percentile(green[phantom.label == code], 75) for code in (RIM, CUP))
        assert cup > rim + 4
