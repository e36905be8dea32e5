"""Masks lie where the images are bright, and are those of the bundle's own inference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser

from dim_monai.data.reader import read_case
from dim_monai.predict.series import pseudonym
from tests import photograph_builder
from tests.bundles.examples import FUNDUS, PROSTATE, Example, copy_bundle, start, tree
from tests.dicom_builder import ORIENTATIONS, affine_of
from tests.e2e.segmenting import photograph
from tests.predict.scans import (
    SHAPE,
    SPACING_MM,
    blob,
    dice,
    document,
    mask_in,
    move_into,
    overlay,
    run,
    shuffle_names,
    uid_of,
    write_nifti,
    write_scan,
)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_series_of_any_direction_and_order_is_marked_where_it_is_bright(
    prostate: SimpleNamespace, tmp_path: Path, orientation: str
) -> None:
    scan = write_scan(tmp_path / "in", orientation)
    shuffle_names(scan, seed=ORIENTATIONS.index(orientation))
    result = run(scan, tmp_path / "out", *prostate.words)
    assert result.exit_code == 0, result.output
    image, affine = read_case(scan)
    mask = mask_in(tmp_path / "out")
    assert mask.get_data_dtype() == np.uint8
    assert np.allclose(mask.affine, affine, atol=1e-4)
    assert dice(np.asarray(mask.dataobj) == 1, image > 500) > 0.97


def test_the_mask_of_a_sheared_image_is_on_its_grid(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    affine = affine_of("oblique_0", SPACING_MM) @ np.array(
        [[1, 0.1, 0.2, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    image = nib.Nifti1Image(blob(SHAPE, affine), affine)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "a.nii.gz")
    assert run(tmp_path / "in", tmp_path / "out", *prostate.words).exit_code == 0
    mask, read = read_case(tmp_path / "out" / "a_seg.nii.gz")
    assert mask.any()
    np.testing.assert_allclose(read, image.affine, atol=1e-4)


@pytest.mark.parametrize("name", ["study", "flat"])
def test_masks_mirror_the_tree(prostate: SimpleNamespace, tmp_path: Path, name: str) -> None:
    root = tmp_path / "in"
    bright = write_nifti(root / "nifti" / "x.nii", "oblique_1")
    scans = [write_scan(root / "study" / o, o) for o in ("axial", "swapped")]
    masks = ["study/axial", "study/swapped"]
    if name == "flat":
        masks = [f"flat/series-{pseudonym(uid_of(scan))}" for scan in scans]
        for n, scan in enumerate(scans):
            move_into(scan, root / "flat", f"{n}_")
    assert run(root, tmp_path / "out", *prostate.words).exit_code == 0
    written = {f"{mask}_seg.nii.gz" for mask in masks} | {"nifti/x_seg.nii.gz"}
    assert set(tree(tmp_path / "out")) == written
    mask = nib.load(tmp_path / "out" / "nifti" / "x_seg.nii.gz")
    assert dice(np.asarray(mask.dataobj) == 1, bright) > 0.97


@pytest.mark.parametrize("options", [(), ("--tta",), ("--keep-all-components",)])
@pytest.mark.parametrize("example", [PROSTATE, FUNDUS], ids=lambda example: example.name)
def test_masks_are_those_of_the_bundles_own_inference(
    tmp_path: Path, example: Example, options: tuple[str, ...]
) -> None:
    images, bundle = tmp_path / "in", copy_bundle(tmp_path / example.name, example)
    if example is PROSTATE:
        write_nifti(images / "a.nii.gz", "oblique_0")
        write_scan(images / "deep" / "b", "oblique_1")
    else:
        scene = photograph_builder.scene((90, 70))
        photograph_builder.save(images / "a.jpg", scene)
        photograph_builder.save(images / "b.png", photograph((120, 90), (50, 40), 40), 6)
    network, model = random_network(tmp_path, example)
    chosen: dict[str, Any] = {"model_file": str(model)}
    if "--tta" in options:
        chosen["displayable_configs#test_time_flips"] = True
    if "--keep-all-components" in options:
        chosen["largest_component"] = False
    places = {"dataset_dir": str(images), "output_dir": str(tmp_path / "own")}
    start(bundle, "inference.yaml", kind="inference", **example.network, **chosen, **places).run()
    words = ("--bundle", bundle, "--overlay", network, "--model", model, *options)
    assert run(images, tmp_path / "out", *words).exit_code == 0
    own, out = (unpacked(tmp_path / name) for name in ("own", "out"))
    assert len(own) == 2
    assert out == own
    # A network of random weights marks many pieces: the options make a difference here.
    again = ("--bundle", bundle, "--overlay", network, "--model", model)
    if options:
        assert run(images, tmp_path / "plain", *again).exit_code == 0
        assert unpacked(tmp_path / "plain") != own


def random_network(folder: Path, example: Example) -> tuple[Path, Path]:
    """Write the overlay of a tiny network, and weights drawn for it."""
    parser = ConfigParser()
    parser.read_config(str(example.folder / "configs" / "inference.yaml"))
    parser.update(example.network)
    torch.manual_seed(0)
    weights = parser.get_parsed_content("network_def").state_dict()
    torch.save(weights, folder / "random.pt")
    (folder / "network.json").write_text(json.dumps(example.network))
    return folder / "network.json", folder / "random.pt"


def unpacked(folder: Path) -> dict[str, bytes]:
    return {
        name: gzip.decompress(content) if name.endswith(".gz") else content
        for name, content in tree(folder).items()
    }


# --- what is asked for


def test_missing_slices_are_left_empty_and_told(prostate: SimpleNamespace, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "t2", "oblique_1")
    image, affine = read_case(scan)
    files = sorted(scan.iterdir())
    position = np.array([float(x) for x in pydicom.dcmread(files[4]).ImagePositionPatient])
    files[4].unlink()
    words = (*prostate.words, "--report", tmp_path / "r.json")
    assert run(tmp_path / "in", tmp_path / "out", *words).exit_code == 3
    more = ("--allow-missing-slices", "--uncertainty")
    result = run(tmp_path / "in", tmp_path / "out", *words, *more)
    assert result.exit_code == 0
    assert "1 slice missing" in result.stdout
    content = document(tmp_path / "r.json")
    (missing,) = content["cases"][0]["missing_slices"]
    assert content["settings"]["allow_missing_slices"] is True
    lps = np.diag([-1.0, -1.0, 1.0]) @ (affine @ [0, 0, missing, 1])[:3]
    assert np.allclose(lps, position, atol=1e-3)
    mask, doubt = (
        nib.load(tmp_path / "out" / f"t2_{name}.nii.gz") for name in ("seg", "uncertainty")
    )
    labels = np.asarray(mask.dataobj)
    assert mask.shape == doubt.shape == image.shape
    assert np.allclose(mask.affine, affine, atol=1e-4)
    assert not labels[:, :, missing].any()
    assert not np.asarray(doubt.dataobj)[:, :, missing].any()
    there = [k for k in range(image.shape[2]) if k != missing]
    assert dice(labels[:, :, there] == 1, image[:, :, there] > 500) > 0.95


def test_only_the_largest_piece_stays_unless_all_are_wanted(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    bright = write_nifti(path)
    image = nib.load(path)
    voxels = np.array(image.dataobj)
    voxels[1:3, 1:3, 1:3] = 1000
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    for words, expected in (((), False), (("--keep-all-components",), True)):
        assert run(path, tmp_path / "out", *prostate.words, *words).exit_code == 0
        mask = np.asarray(mask_in(tmp_path / "out").dataobj)
        assert mask[1:3, 1:3, 1:3].all() == mask[1:3, 1:3, 1:3].any() == expected
        assert dice(mask[4:] == 1, bright[4:]) > 0.97


def test_classes_of_an_overlay_are_measured_by_its_names(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    weights = {"weight": torch.zeros(3, 3, 1, 1), "bias": torch.tensor([0.0, 0.0, 1.0])}
    torch.save(weights, tmp_path / "model.pt")
    network = overlay(tmp_path, network_def={**ONE_BY_ONE, "out_channels": 3})
    words = ("--bundle", prostate.folder, "--overlay", prostate.folder / "configs" / "zones.yaml",
             "--overlay", network, "--model", tmp_path / "model.pt")  # fmt: skip
    result = run(tmp_path / "a.nii.gz", tmp_path / "out", *words, "--report", tmp_path / "r")
    assert result.exit_code == 0, result.output
    structures = document(tmp_path / "r")["cases"][0]["structures"]
    assert list(structures) == ["peripheral_zone", "central_gland"]
    assert structures["peripheral_zone"] == {"volume_ml": 0.0, "confidence": None}
    assert structures["central_gland"]["volume_ml"] > 100


ONE_BY_ONE = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "kernel_size": 1}
