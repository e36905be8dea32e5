"""What is never told, and what real examinations come to."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from dim_monai.cli.predict import PARTIAL
from dim_monai.cli.shared import EXIT_CODES
from dim_monai.data.reader import read_case
from dim_monai.errors import DataError
from tests.bundles.examples import tree
from tests.predict.scans import (
    SECRETS,
    document,
    mask_in,
    move_into,
    run,
    uid_of,
    write_scan,
)


def test_no_patient_is_named_in_log_report_table_or_file_name(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom", reason="highdicom wants pydicom 3")
    root, out = tmp_path / "in", tmp_path / "out"
    scan = write_scan(root / "one", **SECRETS)
    uids = [uid_of(scan)]
    for n in range(2):  # in one folder, so that names have to be found for them
        other = write_scan(tmp_path / f"{n}", "swapped", **SECRETS)
        uids.append(uid_of(other))
        move_into(other, root / "two", f"{n}_")
    gap = write_scan(root / "gap", **SECRETS)
    min(gap.iterdir()).with_name("slice_0005.dcm").unlink()
    write_scan(root / "odd", Modality="Doe^Secretia", **SECRETS)
    write_scan(root / "bad", RescaleSlope="0", RescaleIntercept="0", **SECRETS)
    words = ("--report", tmp_path / "r.json", "--uncertainty", "--dicom-seg")
    result = run(root, out, *prostate.words, *words)
    assert result.exit_code == PARTIAL
    told = result.output + (tmp_path / "r.json").read_text() + "".join(tree(out))
    told += "".join(str(nib.load(file).header) for file in out.rglob("*.nii.gz"))
    told = told.replace(str(tmp_path), "")
    for secret in (*SECRETS.values(), "Doe", "ecretia", "SECRET", *uids, *(u[-8:] for u in uids)):
        assert secret not in told
    assert sum(name.endswith(".dcm") for name in tree(out)) == 3


def test_a_header_that_the_standard_forbids_is_not_quoted_by_a_library(
    prostate: SimpleNamespace, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    bad = {"PatientID": "Doe^Secretia" * 9, "ScanningSequence": "doe secretia"}
    write_scan(tmp_path / "in" / "t2", **bad)
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words, "--dicom-seg")
    assert "ecretia" not in result.output
    assert not [warning for warning in recwarn if "ecretia" in str(warning.message)]


@pytest.mark.data
def test_real_series_are_segmented_and_a_gap_is_told(
    prostate: SimpleNamespace, tmp_path: Path, test_data: Path
) -> None:
    pytest.importorskip("highdicom", reason="highdicom wants pydicom 3")
    root = tmp_path / "in"
    for name in ("prostatex_0000", "prostate3t_03_0001"):
        shutil.copytree(test_data / "dicom" / name / "T2", root / name)
    shutil.copytree(root / "prostatex_0000", root / "gap")
    sorted((root / "gap").iterdir())[9].unlink()
    words = ("--report", tmp_path / "r.json", "--dicom-seg")
    result = run(root, tmp_path / "out", *prostate.words, *words)
    assert result.exit_code == PARTIAL
    cases = {case["name"]: case for case in document(tmp_path / "r.json")["cases"]}
    assert "missing" in cases["gap"]["message"]
    for name in ("prostate3t_03_0001", "prostatex_0000"):
        assert cases[name]["result"] == "segmented"
        image, affine = read_case(root / name)
        mask = nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        assert mask.shape == image.shape
        assert np.allclose(mask.affine, affine, atol=1e-3)


@pytest.mark.data
def test_a_real_series_with_a_gap_is_refused_or_marked(
    prostate: SimpleNamespace, tmp_path: Path, test_data: Path
) -> None:
    series = test_data / "dicom" / "prostatex_0000_missing_slice"
    words = (*prostate.words, "--report", tmp_path / "r.json")
    result = run(series, tmp_path / "out", *words)
    assert result.exit_code == EXIT_CODES[DataError]
    assert "1 slice(s) missing" in result.stderr
    assert run(series, tmp_path / "out", *words, "--allow-missing-slices").exit_code == 0
    (case,) = document(tmp_path / "r.json")["cases"]
    mask = mask_in(tmp_path / "out")
    assert mask.shape[2] == len(list(series.iterdir())) + 1
    (missing,) = case["missing_slices"]
    assert not np.asarray(mask.dataobj)[:, :, missing].any()
