"""The demo set: reproducible voxels, one grid per case, plausible anatomy, sites that differ."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from dim_monai.data import demo
from dim_monai.data.datalist import DATALIST_NAME
from dim_monai.data.phantom import SITES, Phantom, make_phantom
from dim_monai.data.phantom.anatomy import (
    CENTRAL_GLAND,
    PERIPHERAL_ZONE,
    Tissue,
    draw_patient,
    paint_pelvis,
)
from dim_monai.data.phantom.scanner import RELAXATION, spin_echo_signal
from dim_monai.dicom.series import find_cases, read_series
from dim_monai.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "set", seed=0)


@pytest.fixture(scope="module")
def datalist(demo_set: Path) -> dict[str, list[dict[str, str]]]:
    return json.loads((demo_set / DATALIST_NAME).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[Phantom]]:
    return {name: [make_phantom(site, n, seed=1) for n in range(3)] for name, site in SITES.items()}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One NIfTI and one DICOM case instead of 22, for what does not depend on the number."""
    split = {"labeled": {"site_a": 1}, "unlabeled": {}, "validation": {}, "test": {"site_c": 1}}
    monkeypatch.setattr(demo, "SPLIT", split)


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _all(phantoms: dict[str, list[Phantom]]) -> list[Phantom]:
    return [phantom for cases in phantoms.values() for phantom in cases]


def _world(affine_ras: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Centroid of a mask in RAS mm."""
    return affine_ras[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine_ras[:3, 3]


# --- the split and the files


def test_split_has_labels_of_one_site_only_outside_test(datalist):
    assert {name: len(entries) for name, entries in datalist.items()} == {
        "labeled": 2,
        "unlabeled": 12,
        "validation": 2,
        "test": 6,
    }
    assert {e["domain"] for e in datalist["labeled"] + datalist["validation"]} == {"site_a"}
    assert not any("label" in entry for entry in datalist["unlabeled"])
    for name in ("unlabeled", "test"):
        domains = [entry["domain"] for entry in datalist[name]]
        assert sorted(set(domains)) == sorted(SITES)
        assert len({domains.count(site) for site in SITES}) == 1


def test_no_patient_is_in_two_lists(datalist):
    patients = [entry["patient"] for entries in datalist.values() for entry in entries]
    assert len(patients) == len(set(patients)) == 22


def test_paths_are_relative_exist_and_nothing_else_is_labelled(demo_set, datalist):
    entries = [entry for entries in datalist.values() for entry in entries]
    for entry in entries:
        assert (demo_set / entry["image"]).exists()
    listed = {entry["label"] for entry in entries if "label" in entry}
    on_disk = {path for path in _files(demo_set) if "labels/" in path}
    assert listed == on_disk


def test_test_images_can_be_handed_to_inference_as_one_folder(demo_set, datalist):
    cases = find_cases(demo_set / "test_images")
    assert sorted(cases) == sorted(demo_set / entry["image"] for entry in datalist["test"])
    assert {case.is_dir() for case in cases} == {True, False}


def test_the_set_is_small(demo_set):
    assert sum(path.stat().st_size for path in _files(demo_set).values()) < 30e6


# --- reproducibility


def test_set_holds_the_voxels_of_each_case_built_alone(demo_set):
    alone = make_phantom(SITES["site_b"], 3, seed=0)
    stored = nib.load(demo_set / "images" / "site_b" / "site_b_03.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), alone.image)
    np.testing.assert_allclose(stored.affine, alone.affine_ras, atol=1e-4)


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


@pytest.mark.usefixtures("tiny")
def test_two_builds_write_the_same_bytes(tmp_path):
    first, second = (_files(demo.make_demo(tmp_path / name, seed=3)) for name in ("one", "two"))
    assert list(first) == list(second)
    assert len(first) > 10
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes(), name


# --- building in one step, or not at all


def test_second_call_rewrites_nothing(demo_set):
    before = {name: path.stat().st_mtime_ns for name, path in _files(demo_set).items()}
    assert demo.make_demo(demo_set, seed=0) == demo_set
    assert {name: path.stat().st_mtime_ns for name, path in _files(demo_set).items()} == before


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_build_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch, error):
    folder = tmp_path / "set"

    def fail(*_args: object) -> Phantom:
        assert not folder.exists()  # so that even a killed process leaves no folder of this name
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(demo, "make_phantom", fail)
        with pytest.raises(error):
            demo.make_demo(folder)
    assert list(tmp_path.iterdir()) == []
    demo.make_demo(folder)
    assert (folder / DATALIST_NAME).is_file()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("tiny")
def test_empty_folder_is_used_and_other_seed_is_refused(tmp_path):
    demo.make_demo(tmp_path, seed=0)
    before = {name: path.read_bytes() for name, path in _files(tmp_path).items()}
    with pytest.raises(DataError, match="choose another folder"):
        demo.make_demo(tmp_path, seed=1)
    assert {name: path.read_bytes() for name, path in _files(tmp_path).items()} == before


def test_folder_of_the_user_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="taken"):
        demo.make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="taken"):
        demo.make_demo(tmp_path / "thesis.txt")


def test_negative_seed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="-1"):
        demo.make_demo(tmp_path / "set", seed=-1)


# --- geometry


def test_labels_lie_on_the_grid_of_their_images(demo_set, datalist):
    labelled = [e for entries in datalist.values() for e in entries if "label" in e]
    assert len(labelled) == 10
    for entry in labelled:
        label = nib.load(demo_set / entry["label"])
        path = demo_set / entry["image"]
        if path.is_dir():
            array, affine_ras, _ = read_series(path)
        else:
            image = nib.load(path)
            array, affine_ras = np.asanyarray(image.dataobj), image.affine
        assert array.shape == label.shape
        # 1e-3 mm: the label's header is single precision.
        np.testing.assert_allclose(affine_ras, label.affine, atol=1e-3)
        values = np.asanyarray(label.dataobj)
        assert set(np.unique(values)) == {0, PERIPHERAL_ZONE, CENTRAL_GLAND}
        # A label that is flipped against its image would not find the brighter zone.
        assert array[values == PERIPHERAL_ZONE].mean() > array[values == CENTRAL_GLAND].mean()


def test_dicom_case_is_where_simpleitk_sees_it(demo_set):
    """Independent oracle: SimpleITK reads the series, the label's affine says where voxels are."""
    folder = demo_set / "test_images" / "site_c" / "site_c_04"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    expected = make_phantom(SITES["site_c"], 4, seed=0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, expected.image)
    label = nib.load(demo_set / "test_labels" / "site_c" / "site_c_04.nii.gz")
    for index in ((0, 0, 0), (223, 0, 5), (17, 140, 11)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ras = label.affine @ (*index, 1)
        np.testing.assert_allclose(lps * (-1, -1, 1), ras[:3], atol=1e-3)


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
