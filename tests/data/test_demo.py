"""The demo sets: reproducible, whole or absent, one grid per case, labels of one domain only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from dim_monai.data.datalist import DATALIST_NAME
from dim_monai.data.demo import DEMO_SETS, make_demo
from dim_monai.data.kinds import get_kind
from dim_monai.data.phantom import fundus, prostate
from dim_monai.dicom.series import read_series
from dim_monai.errors import ConfigError, DataError

Datalist = dict[str, list[dict[str, str]]]

KINDS = sorted(DEMO_SETS)
LABELLED_DOMAIN = {"volume": "site_a", "photograph": "camera_a"}
SIZES = {  # cases per list
    "volume": {"labeled": 2, "unlabeled": 12, "validation": 2, "test": 15},
    "photograph": {"labeled": 8, "unlabeled": 30, "validation": 4, "test": 20},
}
DOMAINS = {"volume": set(prostate.SITES), "photograph": set(fundus.CAMERAS)}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    return {kind: make_demo(folder / kind, seed=0, kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def datalists(sets: dict[str, Path]) -> dict[str, Datalist]:
    return {
        kind: json.loads((folder / DATALIST_NAME).read_text(encoding="utf-8"))
        for kind, folder in sets.items()
    }


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases instead of 31 or 62, for what does not depend on the number."""
    for kind, other in (("volume", "site_c"), ("photograph", "camera_d")):
        split = {"labeled": {LABELLED_DOMAIN[kind]: 1}, "unlabeled": {}, "test": {other: 1}}
        monkeypatch.setitem(DEMO_SETS, kind, replace(DEMO_SETS[kind], split=split))


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _displayed(path: Path) -> np.ndarray:
    """What a viewer shows, rows first; Pillow alone, independent of our reader."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


# --- the split and the files


@pytest.mark.parametrize("kind", KINDS)
def test_split_has_labels_of_one_domain_only_outside_test(
    datalists: dict[str, Datalist], kind: str
) -> None:
    lists = datalists[kind]
    assert {name: len(entries) for name, entries in lists.items()} == SIZES[kind]
    learnt_from = {entry["domain"] for entry in lists["labeled"] + lists["validation"]}
    assert learnt_from == {LABELLED_DOMAIN[kind]}
    assert not any("label" in entry for entry in lists["unlabeled"])
    for name in ("unlabeled", "test"):
        assert {entry["domain"] for entry in lists[name]} == DOMAINS[kind]
    tested = [entry["domain"] for entry in lists["test"]]
    assert len({tested.count(domain) for domain in DOMAINS[kind]}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_patient_is_in_two_lists(datalists: dict[str, Datalist], kind: str) -> None:
    patients = [entry["patient"] for entries in datalists[kind].values() for entry in entries]
    assert len(patients) == len(set(patients)) == sum(SIZES[kind].values())


@pytest.mark.parametrize("kind", KINDS)
def test_paths_are_relative_exist_and_nothing_else_is_labelled(
    sets: dict[str, Path], datalists: dict[str, Datalist], kind: str
) -> None:
    entries = [entry for entries in datalists[kind].values() for entry in entries]
    for entry in entries:
        assert not Path(entry["image"]).is_absolute()
        assert (sets[kind] / entry["image"]).exists()
    listed = {entry["label"] for entry in entries if "label" in entry}
    on_disk = {path for path in _files(sets[kind]) if "labels/" in path}
    assert listed == on_disk


@pytest.mark.parametrize("kind", KINDS)
def test_test_images_can_be_handed_to_inference_as_one_folder(
    sets: dict[str, Path], datalists: dict[str, Datalist], kind: str
) -> None:
    cases = get_kind(kind).find(sets[kind] / "test_images")
    listed = [sets[kind] / entry["image"] for entry in datalists[kind]["test"]]
    assert sorted(cases) == sorted(listed)
    formats = {"volume": {"", ".gz"}, "photograph": {".png", ".jpg", ".tif"}}
    assert {case.suffix for case in cases} == formats[kind]  # a DICOM series is a folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_set_is_small(sets: dict[str, Path], kind: str) -> None:
    assert sum(path.stat().st_size for path in _files(sets[kind]).values()) < 35e6


# --- reproducibility


def test_set_holds_the_voxels_of_each_volume_built_alone(sets: dict[str, Path]) -> None:
    alone = prostate.make_phantom(prostate.SITES["site_b"], 3, seed=0)
    stored = nib.load(sets["volume"] / "images" / "site_b" / "site_b_03.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), alone.image)
    np.testing.assert_allclose(stored.affine, alone.affine_ras, atol=1e-4)


@pytest.mark.parametrize(("camera", "suffix"), [("camera_a", "png"), ("camera_c", "tif")])
def test_set_holds_the_pixels_of_each_photograph_built_alone(
    sets: dict[str, Path], camera: str, suffix: str
) -> None:
    alone = fundus.make_phantom(fundus.CAMERAS[camera], 3, seed=0)
    stored = _displayed(sets["photograph"] / "images" / camera / f"{camera}_03.{suffix}")
    np.testing.assert_array_equal(np.swapaxes(stored, 0, 1), alone.image)


def test_compression_changes_a_photograph_but_little(sets: dict[str, Path]) -> None:
    for camera in ("camera_b", "camera_d"):
        alone = fundus.make_phantom(fundus.CAMERAS[camera], 3, seed=0)
        stored = _displayed(sets["photograph"] / "images" / camera / f"{camera}_03.jpg")
        error = np.abs(np.swapaxes(stored, 0, 1).astype(float) - alone.image)
        assert 0 < error.mean() < 6


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_write_the_same_bytes(tmp_path: Path, kind: str) -> None:
    builds = (make_demo(tmp_path / name, seed=3, kind=kind) for name in ("one", "two"))
    first, second = (_files(folder) for folder in builds)
    assert list(first) == list(second)
    assert len(first) >= 6
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes(), name


# --- building in one step, or not at all


@pytest.mark.parametrize("kind", KINDS)
def test_second_call_rewrites_nothing(sets: dict[str, Path], kind: str) -> None:
    before = {name: path.stat().st_mtime_ns for name, path in _files(sets[kind]).items()}
    assert make_demo(sets[kind], seed=0, kind=kind) == sets[kind]
    after = {name: path.stat().st_mtime_ns for name, path in _files(sets[kind]).items()}
    assert after == before


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_build_leaves_nothing_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    folder = tmp_path / "set"

    def fail(*_args: object, **_named: object) -> tuple[Path, Path | None]:
        assert not folder.exists()  # so that even a killed process leaves no folder of this name
        raise error

    with monkeypatch.context() as patch:
        patch.setitem(DEMO_SETS, "volume", replace(DEMO_SETS["volume"], write_case=fail))
        with pytest.raises(error):
            make_demo(folder)
    assert list(tmp_path.iterdir()) == []
    make_demo(folder)
    assert (folder / DATALIST_NAME).is_file()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("tiny")
def test_empty_folder_is_used_and_another_set_is_refused(tmp_path: Path) -> None:
    make_demo(tmp_path, seed=0)
    before = {name: path.read_bytes() for name, path in _files(tmp_path).items()}
    for seed, kind in ((1, "volume"), (0, "photograph")):
        with pytest.raises(DataError, match="choose another folder"):
            make_demo(tmp_path, seed=seed, kind=kind)
    assert {name: path.read_bytes() for name, path in _files(tmp_path).items()} == before


def test_folder_of_the_user_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="taken"):
        make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="taken"):
        make_demo(tmp_path / "thesis.txt")


def test_negative_seed_and_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-1"):
        make_demo(tmp_path / "set", seed=-1)
    with pytest.raises(ConfigError, match="photograph"):
        make_demo(tmp_path / "set", kind="photo")
    assert list(tmp_path.iterdir()) == []


# --- one grid per case


def test_labels_lie_on_the_grid_of_their_volumes(
    sets: dict[str, Path], datalists: dict[str, Datalist]
) -> None:
    labelled = [e for entries in datalists["volume"].values() for e in entries if "label" in e]
    assert len(labelled) == 19
    for entry in labelled:
        label = nib.load(sets["volume"] / entry["label"])
        path = sets["volume"] / entry["image"]
        if path.is_dir():
            array, affine_ras, _ = read_series(path)
        else:
            image = nib.load(path)
            array, affine_ras = np.asanyarray(image.dataobj), image.affine
        assert array.shape == label.shape
        # 1e-3 mm: the label's header is single precision.
        np.testing.assert_allclose(affine_ras, label.affine, atol=1e-3)
        values = np.asanyarray(label.dataobj)
        assert set(np.unique(values)) == {0, 1, 2}
        # A label that is flipped against its image would not find the brighter zone.
        assert array[values == 1].mean() > array[values == 2].mean()


def test_dicom_case_is_where_simpleitk_sees_it(sets: dict[str, Path]) -> None:
    """Independent oracle: SimpleITK reads the series, the label's affine says where voxels are."""
    folder = sets["volume"] / "test_images" / "site_c" / "site_c_04"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    expected = prostate.make_phantom(prostate.SITES["site_c"], 4, seed=0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, expected.image)
    label = nib.load(sets["volume"] / "test_labels" / "site_c" / "site_c_04.nii.gz")
    for index in ((0, 0, 0), (223, 0, 5), (17, 140, 11)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ras = label.affine @ (*index, 1)
        np.testing.assert_allclose(lps * (-1, -1, 1), ras[:3], atol=1e-3)


def test_masks_lie_on_their_photographs_stored_and_displayed(
    sets: dict[str, Path], datalists: dict[str, Datalist]
) -> None:
    labelled = [e for entries in datalists["photograph"].values() for e in entries if "label" in e]
    assert len(labelled) == 32
    for entry in labelled:
        image_file, mask_file = (sets["photograph"] / entry[key] for key in ("image", "label"))
        with Image.open(image_file) as image, Image.open(mask_file) as mask:
            assert image.mode == "RGB"
            assert mask.mode == "L"
            assert image.size == mask.size
        image, mask = _displayed(image_file).astype(float), _displayed(mask_file)
        assert image.shape[:2] == mask.shape
        assert set(np.unique(mask)) == {0, 1, 2}
        # A mask that is turned or flipped against its photograph would not find the bright disc.
        seen = image[(mask == 0) & (image.sum(axis=-1) > 60)]
        assert image[mask > 0].mean() > 1.15 * seen.mean()


def test_each_camera_has_one_whole_photograph_and_one_stores_it_on_its_side(
    sets: dict[str, Path], datalists: dict[str, Datalist]
) -> None:
    turned = []
    for name, camera in fundus.CAMERAS.items():
        files = [e["image"] for e in datalists["photograph"]["test"] if e["domain"] == name]
        shapes = [_displayed(sets["photograph"] / file).shape[1::-1] for file in files]
        assert shapes == [(camera.crop_px, camera.crop_px)] * 4 + [camera.matrix]
        with Image.open(sets["photograph"] / files[-1]) as image:
            if image.getexif().get(0x0112, 1) != 1:
                turned.append(name)
                assert image.size == camera.matrix[::-1]
    assert turned == ["camera_d"]
