"""The real images, as they lie in their folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from dim_monai.data.datalist import LISTS
from dim_monai.data.prepare.prepare import prepare
from dim_monai.data.reader import read_case
from dim_monai.errors import DataError

pytestmark = pytest.mark.data


def test_prostate_volumes_are_pairs_in_two_domains(test_data: Path, tmp_path) -> None:
    wish = {"labeled_domain": "rumc_320", "labeled": 2, "test_fraction": 0.2}
    prepared = prepare(test_data / "prostate_t2", tmp_path, **wish)
    assert (prepared.layout, prepared.kind) == ("folder", "volume")
    # 22 and 7 volumes: round(0.2 * 22) and round(0.2 * 7) test, round(0.2 * 18) validate.
    assert prepared.counts == {
        "labeled": {"rumc_320": 2},
        "unlabeled": {"rumc_320": 12, "rumc_384": 6},
        "validation": {"rumc_320": 4},
        "test": {"rumc_320": 4, "rumc_384": 1},
    }
    for entry in prepared.datalist.test:
        assert entry["label"] == entry["image"].replace("_t2.", "_seg.")


@pytest.mark.parametrize(
    ("folder", "domains"),
    [("fundus_disc", {"unknown": 20}), ("retina_vessels", {"chase_db1": 28, "hrf": 42})],
)
def test_photographs_in_folders_image_and_mask(test_data: Path, tmp_path, folder, domains) -> None:
    prepared = prepare(test_data / folder, tmp_path)
    assert (prepared.layout, prepared.kind) == ("folder", "photograph")
    counts = {d: sum(prepared.counts[name].get(d, 0) for name in LISTS) for d in domains}
    assert counts == domains
    assert prepared.counts["unlabeled"] == {}


def test_a_dicom_tree_with_its_segmentation(test_data: Path, tmp_path) -> None:
    source = tmp_path / "in"
    for name in ("prostate3t_03_0001", "prostatex_0000", "qin_prostate_pcampmri_00001"):
        shutil.copytree(test_data / "dicom" / name, source / name)
    prepared = prepare(source, tmp_path / "out", validation_fraction=0)
    assert prepared.layout == "dicom"
    found = {entry["case"]: entry for entry in prepared.datalist.labeled}
    assert {case: Path(entry["label"]).name for case, entry in found.items()} == {
        "prostate3t_03_0001_T2": "seg_1pz_2cg.nii.gz",
        "prostatex_0000_T2": "Prostatex_0000_lab.nii.gz",
        "qin_prostate_pcampmri_00001_ADC": "qin_prostate_pcampmri_00001_ADC.nii.gz",
    }
    qin = found["qin_prostate_pcampmri_00001_ADC"]
    image, affine = read_case(qin["image"])
    label = nib.load(qin["label"])
    assert label.shape == image.shape
    np.testing.assert_allclose(label.affine, affine, atol=1e-4)

    # Oracle: every frame lies on the slice whose position it repeats, pixel for pixel.
    seg = pydicom.dcmread(source / "qin_prostate_pcampmri_00001" / "seg" / "1-1.dcm")
    voxels = np.asarray(label.dataobj)
    heights = affine[2, 3] + affine[2, 2] * np.arange(image.shape[2])
    anything = np.zeros(image.shape, dtype=bool)
    for group, frame in zip(
        seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.astype(bool), strict=True
    ):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        anything[:, :, np.abs(heights - z).argmin()] |= frame.T
    np.testing.assert_array_equal(voxels > 0, anything)
    assert set(np.unique(voxels)) == {0, 1, 2, 3, 4}


def test_a_series_with_a_missing_slice_is_refused(test_data: Path, tmp_path) -> None:
    with pytest.raises(DataError, match=r"cannot be read:\n.*missing: .*prostatex_0000_missing_"):
        prepare(test_data / "dicom", tmp_path)
