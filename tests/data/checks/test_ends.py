"""Volumes that show the structure in nearly every slice are remarked, however they are stored."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform

from dim_monai.data.checks import CaseFacts, check_dataset
from dim_monai.data.checks.ends import hidden_ends
from dim_monai.data.datalist import open_datalist
from dim_monai.data.labels import LabelMapping
from dim_monai.data.source import require_sound_training
from tests.data.checks.sets import AFFINE, SHAPE, ramp, save

PROSTATE = LabelMapping({"background": [0], "prostate": [1, 2]})
volume = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def facts(empty: int | None, slices: int, split: str = "labeled") -> CaseFacts:
    return CaseFacts("a", "site", split, (8, 6, slices), (1.0, 1.0, 1.0), empty_slices=empty)


@given(st.lists(volume, min_size=1, max_size=4), volume)
def test_remarked_is_less_than_a_tenth_of_all_labelled_slices(
    labelled: list[tuple[int, int]], other: tuple[int, int]
) -> None:
    cases = [facts(empty, slices) for empty, slices in labelled]
    cases += [facts(*other, "validation"), facts(*other, "test"), facts(None, 9, "unlabeled")]
    empty, slices = np.sum(labelled, axis=0)
    remarks = list(hidden_ends(cases))
    assert len(remarks) == (10 * empty < slices)
    assert all(f"{empty} of {slices} slices" in str(remark) for remark in remarks)


def test_without_a_labelled_volume_there_is_nothing_to_say() -> None:
    assert not list(hidden_ends([]))
    assert not list(hidden_ends([facts(None, 9), facts(0, 9, "test")]))


def orientations() -> list[str]:
    axes = itertools.permutations(("LR", "PA", "IS"))
    return ["".join(ends) for pairs in axes for ends in itertools.product(*pairs)]


@pytest.mark.parametrize("stored", orientations())
def test_slices_are_those_along_head_however_the_label_is_stored(
    tmp_path: Path, stored: str
) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[3, 3, 1:4] = 1
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
    for folder, values in (("images", ramp()), ("labels", label)):
        image = nib.Nifti1Image(values, AFFINE).as_reoriented(turn)
        assert nib.aff2axcodes(image.affine) == tuple(stored)
        save(tmp_path / folder / "a.nii.gz", np.asanyarray(image.dataobj), image.affine)
    (case,) = check_dataset(tmp_path, PROSTATE).cases
    assert case.empty_slices == 2


@pytest.mark.parametrize("shown", [slice(1, 4), slice(None)])
def test_a_training_says_so_before_it_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shown: slice
) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[3, 3, shown] = 1
    save(tmp_path / "images" / "a.nii.gz", ramp())
    save(tmp_path / "labels" / "a.nii.gz", label)
    data = open_datalist(tmp_path).for_training()
    for _ in range(2):  # from the files, and from what the first time remembered
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dim_monai"):
            require_sound_training(data, PROSTATE, cache_dir=str(tmp_path / "cache"))
        assert ("R007" in caplog.text) == (shown == slice(None))
