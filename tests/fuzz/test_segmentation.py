"""DICOM SEG with any value in any tag that matters: the voxels that were drawn, or refused."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dim_monai.dicom.geometry import prove_geometry
from dim_monai.dicom.segmentation import Segments, read_segments, referenced_series
from dim_monai.dicom.series import read_headers
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.data.prepare.trees import dicom_seg
from tests.dicom_builder import affine_of, edit, numbered
from tests.fuzz.law import SECRET, bounded, outcome, require_both

SEG_FAULTS = {
    "SegmentationType": st.sampled_from(["FRACTIONAL", "", SECRET, "LABELMAP"]),
    "SegmentNumber": st.sampled_from([0, 1, 2, 7, 65535]),
    "ReferencedSegmentNumber": st.sampled_from([0, 1, 2, 65535]),
    "CodeMeaning": st.sampled_from(["", "a\tb", "Zone", "a" * 500]),
    "ImagePositionPatient": st.lists(st.sampled_from([0.0, 1e300, -1e300, 3.5]), max_size=4),
    "PixelSpacing": st.lists(st.sampled_from([0.0, 0.5, 0.75, -1.0, 1e300]), max_size=3),
    "NumberOfFrames": st.sampled_from([0, 1, 2, 5, 10**6]),
    "Rows": st.sampled_from([0, 1, 5, 65535]),
    "BitsAllocated": st.sampled_from([0, 1, 8, 16]),
}


@pytest.mark.timeout(120)
def test_any_segmentation_gives_its_voxels_or_is_refused(tmp_path: Path) -> None:
    """What is accepted is the segment that was drawn, or all of it under another number."""
    write_series(tmp_path / "s", numbered((3, 2, 2)), affine_of("axial"), seed_uid="s")
    geometry = prove_geometry(read_headers(tmp_path / "s"))
    sound = dicom_seg(tmp_path / "g.dcm", tmp_path / "s", {1: np.ones((2, 2, 3), bool)})
    raw, path = sound.read_bytes(), tmp_path / "seg.dcm"
    outcomes: Counter[str] = Counter()

    @bounded(200)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        path.write_bytes(raw)
        keyword = data.draw(st.sampled_from([*SEG_FAULTS, "bytes"]), "tag")
        if keyword == "bytes":
            changed = bytearray(raw)
            changed[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(changed[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))])
        else:
            value = data.draw(SEG_FAULTS[keyword], "value")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                edit(path, lambda dataset: set_first(dataset, keyword, value))
        outcome(lambda: referenced_series(path), path, reserves=True)
        found = outcome(lambda: read_segments(path, geometry), path, reserves=True)
        if isinstance(found, Segments):
            assert set(np.unique(found.label)) <= {0, *found.meanings}
            assert keyword in ("bytes", "NumberOfFrames", "Rows") or found.label.all()
            outcomes["accepted"] += 1
        else:
            outcomes["refused"] += 1

    read_all()
    require_both(outcomes, 200)


def test_a_segmentation_does_not_shrink_to_one_voxel(tmp_path: Path) -> None:
    """A PixelSpacing of 0 puts every pixel of a frame into the voxel of the first."""
    write_series(tmp_path / "s", numbered((3, 2, 2)), affine_of("axial"), seed_uid="s")
    geometry = prove_geometry(read_headers(tmp_path / "s"))
    path = dicom_seg(tmp_path / "g.dcm", tmp_path / "s", {1: np.ones((2, 2, 3), bool)})
    edit(path, lambda dataset: set_first(dataset, "PixelSpacing", [0, 0]))
    found = outcome(lambda: read_segments(path, geometry), path)
    assert isinstance(found, DataError)
    assert "in one voxel" in str(found)


def set_first(dataset: pydicom.Dataset, keyword: str, value: object) -> None:
    """Set the first element of that name, however deep."""
    for element in dataset.iterall():
        if element.keyword == keyword:
            element.value = value
            return
