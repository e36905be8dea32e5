from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd, LoadImaged

from dim_monai.data.labels import LabelMapping, MapLabelsd
from dim_monai.data.reader import CaseReader
from dim_monai.errors import ConfigError, DataError

GLAND = LabelMapping({"background": [0], "prostate": ">0"})
ZONES = LabelMapping({"background": [0, 5], "central_gland": [2], "peripheral_zone": [1, 7]})


def test_names_and_regions_follow_the_order_of_the_config() -> None:
    assert ZONES.class_names == ("background", "central_gland", "peripheral_zone")
    assert ZONES.num_classes == 3
    assert ZONES.regions == {"central_gland": [1], "peripheral_zone": [2]}
    assert GLAND.regions == {"prostate": [1]}
    assert str(GLAND) == "background [0], prostate >0"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
@settings(max_examples=20)
@given(data=st.data())
def test_listed_values_map_as_a_table_says(dtype, data) -> None:
    table = {0: 0, 5: 0, 2: 1, 1: 2, 7: 2}
    values = data.draw(arrays(dtype, (3, 2, 4), elements=st.sampled_from(sorted(table))))
    classes = ZONES.apply(values)
    assert classes.dtype == np.int64
    assert classes.shape == values.shape
    assert classes.ravel().tolist() == [table[int(value)] for value in values.ravel()]


@settings(max_examples=30)
@given(arrays(np.float32, (12,), elements=st.integers(0, 2**20).map(float)))
def test_everything_above_zero_is_the_gland(values) -> None:
    assert GLAND.apply(values).tolist() == [1 if value > 0 else 0 for value in values]


def test_a_bound_stands_beside_listed_values() -> None:
    mapping = LabelMapping({"background": [0], "organ": [1, 2], "lesion": ">2"})
    assert mapping.apply([0, 1, 2, 3, 255]).tolist() == [0, 1, 1, 2, 2]


def test_class_indices_pass_through_the_mapping_that_lists_them() -> None:
    classes = np.array([[0, 1], [2, 1]])
    identity = LabelMapping({"a": [0], "b": [1], "c": [2]})
    assert np.array_equal(identity.apply(identity.apply(classes)), classes)


@pytest.mark.parametrize(
    ("mapping", "values", "got"),
    [
        (ZONES, [0, 3, 3, 9], "got 3 (2 voxels), 9 (1 voxels)"),
        (ZONES, [-1.0], "got -1 (1 voxels)"),
        (GLAND, [0, 0.5, 0.5, 1], "got 0.5 (2 voxels)"),
        (GLAND, np.array([0, 0.9999999], np.float32), "got 0.9999999 (1 voxels)"),
        (GLAND, [0.99999999999], "got 0.99999999999 (1 voxels)"),
        (GLAND, [-1234567], "got -1234567 (1 voxels)"),
        (GLAND, [-2], "got -2 (1 voxels)"),
        (GLAND, [1, np.nan], "got nan (1 voxels)"),
        (GLAND, [1, np.inf], "got inf (1 voxels)"),
        (GLAND, np.arange(10) + 0.25, "4.25 (1 voxels) and 5 more"),
    ],
)
def test_a_value_of_no_class_is_refused(mapping, values, got) -> None:
    with pytest.raises(DataError, match=r"label value of no class: seg\.nii\.gz") as error:
        mapping.apply(values, file="seg.nii.gz")
    assert got in str(error.value)
    assert f"expected {mapping}" in str(error.value)
    whole = all(value == np.trunc(value) for value in values if np.isfinite(value))
    assert ("round it" in str(error.value)) == (not whole)
    assert ("list the value" in str(error.value)) == whole


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "too few classes"),
        ({"background": [0]}, "too few classes"),
        ({"background": [0], "prostate": []}, "malformed label values of class 'prostate'"),
        ({"background": [0], "prostate": "1"}, "malformed"),
        ({"background": [0], "prostate": ">=1"}, "malformed"),
        ({"background": [0], "prostate": [1.0]}, "malformed"),
        ({"background": [0], "prostate": [True]}, "malformed"),
        ({"background": [0, 1], "prostate": [1]}, "1: background, prostate"),
        ({"background": [0], "zone": [4], "prostate": ">0"}, "4: zone, prostate >0"),
        ({"background": [0], "zone": ">3", "prostate": ">0"}, "of two classes"),
    ],
)
def test_a_mapping_that_is_not_one_is_refused(classes, message) -> None:
    with pytest.raises(ConfigError, match="class") as error:
        LabelMapping(classes)
    assert message in str(error.value)


def test_the_transform_keeps_affine_history_and_other_keys() -> None:
    affine = torch.diag(torch.tensor([0.5, 0.5, 3.0, 1.0], dtype=torch.float64))
    label = MetaTensor(torch.tensor([[[0.0, 1.0, 2.0]]]), affine=affine)
    item = {"label": label, "image": torch.zeros(1)}
    flip = Flipd("label", spatial_axis=1)
    pipeline = Compose([flip, MapLabelsd("label", GLAND)])
    mapped = pipeline(item)
    assert mapped["label"].dtype == torch.int64
    assert mapped["label"].tolist() == [[[1, 1, 0]]]
    assert torch.equal(mapped["label"].affine, flip(item)["label"].affine)
    assert mapped["image"] is item["image"]
    assert label.tolist() == [[[0.0, 1.0, 2.0]]]
    assert Invertd("label", flip)(mapped)["label"].tolist() == [[[0, 1, 1]]]


def test_the_transform_takes_arrays_and_may_skip_a_key() -> None:
    item = {"label": np.array([[0, 3]])}
    mapped = MapLabelsd(["label", "other"], GLAND, allow_missing_keys=True)(item)
    assert mapped["label"].tolist() == [[0, 1]]
    with pytest.raises(KeyError):
        MapLabelsd(["label", "other"], GLAND)(item)


# MONAI tries each of its own readers first, and one of them says what it lacks.
@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
def test_the_transform_names_the_file_it_was_loaded_from(tmp_path) -> None:
    file = tmp_path / "p_seg.nii.gz"
    values = np.zeros((3, 4, 5), np.uint8)
    values[1, 2, 3] = 9
    nib.save(nib.Nifti1Image(values, np.eye(4)), file)
    load = LoadImaged("label", reader=CaseReader(), ensure_channel_first=True)
    loaded = load({"label": str(file)})
    assert MapLabelsd("label", GLAND)(loaded)["label"].sum() == 1
    with pytest.raises(DataError, match=r"p_seg\.nii\.gz; got 9 \(1 voxels\)"):
        MapLabelsd("label", ZONES)(loaded)
