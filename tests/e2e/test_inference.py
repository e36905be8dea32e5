"""Inference from files to files: names, grids and places of the masks, and what is refused.

The network is replaced by a threshold at the middle of the intensities, so that the right mask is
known: the bright ball of each image, as far as the network sees.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from dim_monai.data.reader import read_case
from dim_monai.dicom.write import write_series
from dim_monai.errors import CheckpointError, DataError, DimError
from tests.bundles.prostate import copy_bundle, demo_set, start, tree
from tests.dicom_builder import affine_of, centres, voxels_at

THRESHOLD = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
VIEW_MM = 120.0  # 96 pixels of 1.25 mm: the network's field of view to the right and to the front
RADIUS_MM = 21.0

# path below the input folder: orientation, spacing in mm, shape. Odd and even sizes, thin and
# thick slices, views smaller and larger than the network's, and every way to store the axes.
CASES: dict[str, tuple[str, tuple[float, float, float], tuple[int, int, int]]] = {
    "plain.nii.gz": ("axial", (1.25, 1.25, 3.0), (96, 96, 20)),
    "odd.nii": ("axial_mirrored", (0.9, 1.1, 3.7), (91, 67, 15)),
    "deep/er/wide.nii.gz": ("axial_downwards", (1.6, 1.5, 3.0), (101, 113, 17)),
    "deep/er/permuted.nii.gz": ("sagittal", (3.0, 1.4, 2.9), (25, 59, 22)),
    "deep/coronal.nii.gz": ("coronal", (1.3, 2.8, 2.7), (63, 31, 24)),
    "deep/oblique.nii.gz": ("oblique_1", (1.2, 1.3, 2.5), (64, 57, 26)),
    "1.2.840.10008.77": ("axial", (0.75, 0.75, 4.0), (90, 85, 16)),
    "deep/series.v2": ("oblique_3", (1.1, 1.1, 3.0), (72, 70, 20)),
}


def ball(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return a bright ball around the middle; brightness passes the middle at its surface."""
    points = centres(shape, affine)
    distance_mm = np.linalg.norm(points - middle(shape, affine), axis=1)
    return np.clip(500 + 100 * (RADIUS_MM - distance_mm), 0, 1000).reshape(shape).astype(np.int16)


def middle(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]


def write_case(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(image, affine), path)
    else:
        write_series(path, image, affine, seed_uid=path.name)


def mask_of(case: str) -> str:
    return case.removesuffix(".gz").removesuffix(".nii") + "_seg.nii.gz"


def segment(bundle: Path, images: Path | str, output_dir: Path, **more: Any) -> None:
    places = {"dataset_dir": str(images), "output_dir": str(output_dir)}
    settings = {"network_def": THRESHOLD, **places, **more}
    workflow = start(bundle, "inference.yaml", kind="inference", **settings)
    workflow.run()
    workflow.finalize()


def refusal(bundle: Path, images: Path, output_dir: Path, **more: Any) -> DimError:
    """Segment what must be refused; return our error."""
    with pytest.raises(RuntimeError) as caught:
        segment(bundle, images, output_dir, **more)
    assert not output_dir.exists()
    assert isinstance(caught.value.__cause__, DimError)
    return caught.value.__cause__


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with the weights of the threshold as its model."""
    bundle = copy_bundle(tmp_path_factory.mktemp("bundle") / "dim_prostate")
    weights = {"weight": torch.tensor([-10.0, 10.0]).reshape(2, 1, 1, 1), "bias": torch.zeros(2)}
    torch.save(weights, bundle / "models" / "model.pt")
    return bundle


@pytest.fixture(scope="module")
def done(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All cases, segmented in one go."""
    images = tmp_path_factory.mktemp("images") / "in"
    for case, (orientation, spacing_mm, shape) in CASES.items():
        affine = affine_of(orientation, spacing_mm)
        write_case(images / case, ball(shape, affine), affine)
    masks = images.parent / "out"
    segment(bundle, images, masks)
    return SimpleNamespace(images=images, masks=masks)


def test_there_is_one_mask_for_each_case_at_its_place(done: SimpleNamespace) -> None:
    written = {p.relative_to(done.masks).as_posix() for p in done.masks.rglob("*") if p.is_file()}
    assert written == {mask_of(case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_a_mask_has_the_grid_of_its_image(done: SimpleNamespace, case: str) -> None:
    mask = nib.load(done.masks / mask_of(case))
    image, affine = read_case(done.images / case)
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, affine, atol=1e-4)
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) == {0, 1}


@pytest.mark.parametrize("case", CASES)
def test_resampling_forth_and_back_keeps_what_was_seen(done: SimpleNamespace, case: str) -> None:
    mask = np.asarray(nib.load(done.masks / mask_of(case)).dataobj)
    image, _ = read_case(done.images / case)
    truth = image > 500
    # Interpolation may move the surface by a small part of a voxel; a ball of 42 mm that lies off
    # by half a pixel of 1.25 mm keeps a Dice of 0.98, by one slice of 3 mm one of 0.89.
    dice = 2 * (mask * truth).sum() / (mask.sum() + truth.sum())
    assert dice > 0.985


def test_a_mask_is_background_outside_of_what_the_network_sees(
    bundle: Path, tmp_path: Path
) -> None:
    shape, affine = (120, 110, 9), affine_of("axial", (1.5, 1.6, 4.0))
    image = ball(shape, affine)
    image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 1000  # a bright rim, 87 mm away
    write_case(tmp_path / "in" / "case.nii.gz", image, affine)
    segment(bundle, tmp_path / "in", tmp_path / "out")
    mask = np.asarray(nib.load(tmp_path / "out" / "case_seg.nii.gz").dataobj)
    offset_mm = np.abs(centres(shape, affine) - middle(shape, affine)).reshape(*shape, 3)
    outside = (offset_mm[..., :2] > VIEW_MM / 2 + 1.25).any(axis=-1)
    assert outside[:4].all()
    assert not mask[outside].any()
    assert (mask[~outside] == (image > 500)[~outside]).mean() > 0.99


@pytest.mark.parametrize("orientation", ["axial", "axial_mirrored", "oblique_2"])
def test_a_series_and_its_conversion_get_the_same_mask_in_the_patient(
    bundle: Path, tmp_path: Path, orientation: str
) -> None:
    affine = affine_of(orientation, (0.8, 0.8, 3.5))
    rng = np.random.default_rng(0)
    image = ball((80, 76, 14), affine) + rng.integers(-300, 300, (80, 76, 14)).astype(np.int16)
    write_case(tmp_path / "in" / "series", image, affine)
    compare_with_conversion(bundle, tmp_path / "in" / "series", tmp_path)


@pytest.mark.data
def test_a_real_series_and_its_conversion_get_the_same_mask(
    bundle: Path, tmp_path: Path, test_data: Path
) -> None:
    compare_with_conversion(bundle, test_data / "dicom" / "prostate3t_03_0001" / "T2", tmp_path)


def compare_with_conversion(bundle: Path, series: Path, tmp_path: Path) -> None:
    """Segment a series and a NIfTI file of it, whose axes another converter stored otherwise."""
    volume, affine = read_case(series)
    stored = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    nib.save(stored, tmp_path / "converted.nii.gz")
    segment(bundle, series, tmp_path / "out")
    segment(bundle, tmp_path / "converted.nii.gz", tmp_path / "out")
    mask, other = (
        nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in (series.name, "converted")
    )
    assert other.shape == stored.shape
    there = voxels_at(np.asarray(other.dataobj), other.affine, centres(mask.shape, mask.affine))
    here = np.asarray(mask.dataobj).ravel()
    assert 0.01 < here.mean() < 0.99
    # The affine of a NIfTI file is float32: a voxel whose two probabilities are equal to the sixth
    # digit may tip over.
    assert (here != there).mean() < 1e-4


def test_relative_paths_begin_at_the_folder_of_the_shell(
    bundle: Path, done: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(done.images / "plain.nii.gz", tmp_path / "in" / "sub")
    monkeypatch.chdir(tmp_path)
    segment(bundle, "in", Path("out"))
    again = nib.load(tmp_path / "out" / "sub" / "plain_seg.nii.gz")
    first = nib.load(done.masks / "plain_seg.nii.gz")
    assert np.array_equal(again.dataobj, first.dataobj)


def test_the_demo_is_segmented_where_it_lies(
    bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    demo = Path(shutil.copytree(bundle, tmp_path / "dim_prostate")) / "eval" / "demo"
    images = demo / "data" / "test_images" / "site_a"
    shutil.copytree(demo_set(tmp_path_factory) / "test_images" / "site_a", images)
    (tmp_path / "dim_prostate" / "models" / "model.pt").rename(demo / "model.pt")
    workflow = start(
        tmp_path / "dim_prostate", "inference.yaml", kind="inference", network_def=THRESHOLD
    )
    workflow.run()
    workflow.finalize()
    masks = {mask_of(f"site_a/{path.name}") for path in images.iterdir()}
    assert tree(demo / "predictions").keys() == masks


# --- refused before anything is written


@pytest.fixture
def images(done: SimpleNamespace, tmp_path: Path) -> Path:
    """Two sound cases, first and last in order, around the one that a test spoils."""
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "z.nii.gz"):
        shutil.copy(done.images / "plain.nii.gz", tmp_path / "in" / name)
    return tmp_path / "in"


def test_a_truncated_file_is_named(bundle: Path, images: Path, tmp_path: Path) -> None:
    whole = (images / "a.nii.gz").read_bytes()
    (images / "m.nii.gz").write_bytes(whole[: len(whole) // 2])
    error = refusal(bundle, images, tmp_path / "out")
    assert isinstance(error, DataError)
    assert str(images / "m.nii.gz") in str(error)
    assert "nothing was segmented" in str(error)
    assert str(images / "a.nii.gz") not in str(error)


def test_a_missing_slice_is_named(
    bundle: Path, images: Path, done: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(done.images / "deep" / "series.v2", images / "m")
    sorted((images / "m").iterdir())[7].unlink()
    error = refusal(bundle, images, tmp_path / "out")
    assert str(images / "m") in str(error)
    assert "missing" in str(error)


@pytest.mark.data
def test_a_real_series_with_a_missing_slice_is_named(
    bundle: Path, tmp_path: Path, test_data: Path
) -> None:
    series = test_data / "dicom" / "prostatex_0000_missing_slice"
    error = refusal(bundle, series, tmp_path / "out")
    assert str(series) in str(error)
    assert "missing" in str(error)


def test_two_cases_of_one_name_are_refused(bundle: Path, images: Path, tmp_path: Path) -> None:
    nib.save(nib.load(images / "a.nii.gz"), images / "a.nii")
    error = refusal(bundle, images, tmp_path / "out")
    assert "two cases of one name" in str(error)
    assert str(images / "a.nii.gz") in str(error)


def test_an_empty_folder_and_a_mistyped_one_are_refused(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "no case found" in str(refusal(bundle, tmp_path / "empty", tmp_path / "out"))
    error = refusal(bundle, tmp_path / "empti", tmp_path / "out")
    assert f"did you mean {tmp_path / 'empty'}?" in str(error)


def test_without_a_model_nothing_is_segmented(bundle: Path, images: Path, tmp_path: Path) -> None:
    model = tmp_path / "no.pt"
    error = refusal(bundle, images, tmp_path / "out", model_file=str(model))
    assert isinstance(error, CheckpointError)
    assert error.file == str(model)


def test_a_model_of_another_network_is_named(bundle: Path, images: Path, tmp_path: Path) -> None:
    error = refusal(bundle, images, tmp_path / "out", network_def={**THRESHOLD, "out_channels": 3})
    assert isinstance(error, CheckpointError)
    assert "got weight (2, 1, 1, 1); expected weight (3, 1, 1, 1)" in str(error)
