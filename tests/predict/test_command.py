"""The command: tables, reports, exit statuses, and what becomes of a bad case."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from dim_monai.cli.predict import PARTIAL
from dim_monai.cli.shared import EXIT_CODES, INTERRUPTED
from dim_monai.data.photograph import read_mask
from dim_monai.data.reader import read_case
from dim_monai.dicom.write import write_series
from dim_monai.errors import CheckpointError, ConfigError, DataError, NumericError
from dim_monai.predict import segmenter
from tests import photograph_builder
from tests.bundles.examples import tree
from tests.dicom_builder import edit
from tests.e2e.segmenting import classes_of, photograph
from tests.predict.scans import (
    document,
    mask_in,
    run,
    write_nifti,
    write_scan,
)

# --- what is told


def test_a_sound_run_ends_with_0_a_table_and_a_report(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    bright = write_nifti(tmp_path / "in" / "a.nii.gz")
    write_scan(tmp_path / "in" / "dwi", ScanningSequence="EP")
    report = tmp_path / "run.json"
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words, "--report", report)
    assert result.exit_code == 0
    assert "take  a.nii.gz" in result.stderr
    assert "skip  dwi (10 files): ScanningSequence EP" in result.stderr
    assert "done  a.nii.gz in" in result.stderr
    assert "prostate ml (confidence)" in result.stdout
    content = document(report)
    model = prostate.folder / "models" / "model.pt"
    assert content["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert content["versions"]["torch"] == torch.__version__
    assert content["bundle"]["name"] == "dim_prostate"
    assert content["device"] in {"cpu", "cuda"}
    assert content["complete"] is True
    assert content["counts"] == {"segmented": 1, "failed": 0, "skipped": 1}
    assert content["skipped"] == [{"name": "dwi (10 files)", "reason": "ScanningSequence EP"}]
    (case,) = content["cases"]
    assert case["files"] == {"mask": "a_seg.nii.gz"}
    assert 0 < case["seconds"] < content["seconds"]
    voxels = int(np.asarray(mask_in(tmp_path / "out").dataobj).sum())
    voxel_ml = 3.0 * 3.5 * 5.0 / 1000
    assert case["structures"]["prostate"]["volume_ml"] == pytest.approx(voxels * voxel_ml, abs=1e-3)
    assert voxels == pytest.approx(bright.sum(), rel=0.03)
    assert 0.9 < case["structures"]["prostate"]["confidence"] < 1


def test_photographs_are_measured_in_pixels_and_by_their_ratio(
    fundus: SimpleNamespace, tmp_path: Path
) -> None:
    shape, centre, diameter = (240, 200), (130, 80), 80.0
    photograph_builder.save(tmp_path / "in" / "eye.png", photograph(shape, centre, diameter), 6)
    words = ("--uncertainty", "--report", tmp_path / "r.json")
    assert run(tmp_path / "in", tmp_path / "out", *fundus.words, *words).exit_code == 0
    (case,) = document(tmp_path / "r.json")["cases"]
    truth = classes_of(shape, centre, diameter)
    sizes = {name: one["area_px"] for name, one in case["structures"].items()}
    assert sizes["disc"] == pytest.approx((truth > 0).sum(), rel=0.03)
    assert sizes["cup"] == pytest.approx((truth == 2).sum(), rel=0.03)
    assert case["vertical_cup_to_disc_ratio"] == pytest.approx(0.7, abs=0.03)
    assert set(case["files"]) == {"mask", "uncertainty"}
    doubt = tmp_path / "out" / "eye_uncertainty.png"
    with Image.open(doubt) as image:
        assert image.mode == "L"
    values = read_mask(doubt)  # upright, by the orientation that the map carries
    edge = np.abs(np.gradient((truth > 0).astype(float))).max(axis=0) > 0
    assert values.shape == shape
    assert values[edge].mean() > 5 * values[~edge].mean()


def test_uncertainty_is_high_at_the_edge_and_on_the_grid(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "in", "sagittal")
    assert run(scan, tmp_path / "out", *prostate.words, "--uncertainty").exit_code == 0
    doubt = nib.load(tmp_path / "out" / "in_uncertainty.nii.gz")
    image, affine = read_case(scan)
    values = np.asarray(doubt.dataobj)
    assert doubt.get_data_dtype() == np.float32
    assert np.allclose(doubt.affine, affine, atol=1e-4)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values[np.abs(image - 500.0) < 30].mean() > 0.8
    assert values[np.abs(image - 500.0) > 400].mean() < 0.05


def test_json_is_all_that_is_printed(prostate: SimpleNamespace, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    report = tmp_path / "r.json"
    words = ("--json", "--report", report, "--quiet")
    result = run(tmp_path / "a.nii.gz", tmp_path / "out", *prostate.words, *words)
    assert result.exit_code == 0
    assert result.stdout == report.read_text()
    assert result.stderr == ""


# --- what goes wrong


def test_a_bad_case_is_told_and_the_others_go_on(prostate: SimpleNamespace, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        write_nifti(root / f"{name}.nii.gz")
    assert run(root, out, *prostate.words, "--uncertainty").exit_code == 0
    content = (root / "b.nii.gz").read_bytes()
    (root / "b.nii.gz").write_bytes(content[: len(content) // 2])
    result = run(root, out, *prostate.words, "--report", tmp_path / "r.json")
    assert result.exit_code == PARTIAL
    assert f"FAIL  b.nii.gz: NIfTI file cannot be read: {root / 'b.nii.gz'}" in result.stderr
    assert "FAILED" in result.stdout
    cases = {case["name"]: case for case in document(tmp_path / "r.json")["cases"]}
    assert cases["b.nii.gz"]["error"] == "DataError"
    assert [name for name, case in cases.items() if case["result"] == "segmented"] == [
        "a.nii.gz",
        "c.nii.gz",
    ]
    # Nor is a mask of the earlier run left that could be taken for one of this file.
    assert set(tree(out)) == {"a_seg.nii.gz", "c_seg.nii.gz"}


@pytest.mark.parametrize("kind", ["nifti", "series", "photograph"])
def test_an_empty_export_is_no_case(
    prostate: SimpleNamespace, fundus: SimpleNamespace, tmp_path: Path, kind: str
) -> None:
    """The percentiles of its intensities say nothing, and a mask came of what they made of it."""
    empty, bundle = np.full((30, 24, 10), 7, np.int16), prostate
    (tmp_path / "in").mkdir()
    if kind == "nifti":
        nib.save(nib.Nifti1Image(empty, np.eye(4)), tmp_path / "in" / "empty.nii.gz")
    elif kind == "series":
        write_series(tmp_path / "in" / "empty", empty, np.eye(4), seed_uid="empty")
        for file in (tmp_path / "in" / "empty").iterdir():
            edit(file, lambda dataset: setattr(dataset, "EchoTime", "100"))
    else:
        photograph_builder.save(tmp_path / "in" / "empty.png", np.full((60, 50, 3), 7, np.uint8))
        bundle = fundus
    result = run(tmp_path / "in", tmp_path / "out", *bundle.words)
    assert result.exit_code == EXIT_CODES[DataError]
    assert "image is constant" in result.stderr
    assert f"got 7 in every {'pixel' if kind == 'photograph' else 'voxel'}" in result.stderr
    assert not list((tmp_path / "out").rglob("*.*"))


def test_names_that_would_draw_on_the_terminal_are_told_on_one_line(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    """A name may hold line ends and what a terminal obeys; here it would forge a line."""
    bad = "b\r\ndone  forged\x1b[2J"
    for name in (bad, f"{bad}_seg", f"{bad}half"):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / f"{bad}half.nii.gz").write_bytes(b"half")
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words)
    assert result.exit_code == PARTIAL
    visible = "b\\r\\ndone  forged\\x1b[2J"
    starts = ["take  ", "skip  ", "done  ", "FAIL  "]
    for start in starts:
        assert f"{start}{visible}" in result.stderr
    assert visible in result.stdout
    assert not {"\r", "\x1b"} & set(result.output)
    assert {line[:6] for line in result.stderr.splitlines()} == set(starts)


def test_masks_that_could_not_be_written_are_refused_before_any_is_made(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "file").touch()
    monkeypatch.setattr(segmenter, "open_bundle", None)
    result = run(tmp_path / "in", tmp_path / "file" / "out", *prostate.words)
    assert result.exit_code == EXIT_CODES[DataError]
    assert f"folder cannot be written: {tmp_path / 'file' / 'out'}" in result.stderr


def test_a_disk_that_is_full_is_told_of_the_case(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI's SaveImage keeps the writer's error as text alone."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_nifti(tmp_path / "in" / "a.nii.gz")
    monkeypatch.setattr(nib, "save", full)
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words)
    assert "FAIL  a.nii.gz: mask cannot be written" in result.stderr
    assert result.exit_code == EXIT_CODES[DataError]


def test_a_run_without_a_mask_ends_with_the_kind_of_its_error(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words, "--report", tmp_path / "r")
    assert result.exit_code == EXIT_CODES[DataError]
    assert "nothing to segment" in result.stderr
    assert document(tmp_path / "r")["cases"] == []
    (tmp_path / "in" / "a.nii").write_bytes(b"")
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words)
    assert result.exit_code == EXIT_CODES[DataError]
    assert run(tmp_path / "no", tmp_path / "out", *prostate.words).exit_code == 3


def test_settings_that_cannot_be_meant_end_with_2(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    write_nifti(tmp_path / "a.nii")
    (tmp_path / "typo.json").write_text('{"displayable_configs#test_time_flip": true}')
    given = (tmp_path / "a.nii", tmp_path / "out")
    for words, said in (
        (("--bundle", "dim_prostat"), "did you mean dim_prostate?"),
        ((*prostate.words, "--device", "abacus"), "no such device"),
        ((*prostate.words, "--overlay", tmp_path / "none.yaml"), "no such overlay"),
        ((*prostate.words, "--overlay", tmp_path / "typo.json"), "test_time_flips"),
    ):
        result = run(*given, *words)
        assert result.exit_code == EXIT_CODES[ConfigError]
        assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_masks_are_not_written_among_the_images(prostate: SimpleNamespace, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "a_seg.nii.gz").write_bytes(b"a day of work")
    for given in (tmp_path, tmp_path / "a.nii.gz"):
        result = run(given, tmp_path, *prostate.words)
        assert result.exit_code == EXIT_CODES[ConfigError]
        assert "another output folder" in result.stderr
    assert (tmp_path / "a_seg.nii.gz").read_bytes() == b"a day of work"
    assert run(tmp_path, tmp_path / "out", *prostate.words).exit_code == 0


def test_the_mask_of_a_series_is_not_written_beside_its_folder(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "study" / "T2")
    work = tmp_path / "study" / "T2_seg.nii.gz"
    work.write_bytes(b"a day of work")
    for _ in ("sound", "a slice is missing"):
        result = run(scan, tmp_path / "study", *prostate.words)
        assert result.exit_code == EXIT_CODES[ConfigError]
        assert "another output folder" in result.stderr
        assert work.read_bytes() == b"a day of work"
        sorted(scan.iterdir())[4].unlink()


def test_paths_may_go_upwards(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = run("../in", "../here/../out", *prostate.words)
    assert result.exit_code == 0, result.stderr
    assert set(tree(tmp_path / "out")) == {"a_seg.nii.gz"}


def test_a_case_whose_folder_cannot_be_made_does_not_end_the_run(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    for name in ("s1/a.nii.gz", "s2/b.nii.gz"):
        write_nifti(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "s1").write_bytes(b"a file")
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words)
    assert result.exit_code != 0
    assert "s1/a.nii.gz" in result.stderr
    assert set(tree(tmp_path / "out")) == {"s1", "s2/b_seg.nii.gz"}


def test_a_series_that_lost_a_slice_keeps_no_mask_of_before(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "in" / "t2")
    words = (tmp_path / "in", tmp_path / "out", *prostate.words, "--uncertainty")
    assert run(*words).exit_code == 0
    written = {"t2_seg.nii.gz", "t2_uncertainty.nii.gz"}
    assert set(tree(tmp_path / "out")) == written
    sorted(scan.iterdir())[4].unlink()
    assert run(*words).exit_code == EXIT_CODES[DataError]
    assert tree(tmp_path / "out") == {}


def test_without_weights_nothing_begins(prostate: SimpleNamespace, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii")
    words = (*prostate.words, "--model", tmp_path / "none.pt")
    result = run(tmp_path / "a.nii", tmp_path / "out", *words)
    assert result.exit_code == EXIT_CODES[CheckpointError]
    assert str(tmp_path / "none.pt") in result.stderr
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_no_mask(prostate: SimpleNamespace, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii")
    weights = torch.load(prostate.folder / "models" / "model.pt", weights_only=True)
    weights["weight"][0] = float("nan")
    torch.save(weights, tmp_path / "nan.pt")
    words = (*prostate.words, "--model", tmp_path / "nan.pt")
    result = run(tmp_path / "a.nii", tmp_path / "out", *words)
    assert result.exit_code == EXIT_CODES[NumericError]
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_nobody_foresaw_ends_one_case_and_ctrl_c_the_run(
    prostate: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
) -> None:
    write = segmenter.Segmenter.write_mask

    def fail(self: Any, item: Any) -> None:
        if "b.nii" in str(item["pred"].meta["filename_or_obj"]):
            raise kind("Doe^Secretia")
        write(self, item)

    monkeypatch.setattr(segmenter.Segmenter, "write_mask", fail)
    for name in ("a", "b", "c"):
        write_nifti(tmp_path / "in" / f"{name}.nii")
    words = ("--report", tmp_path / "r.json", "--uncertainty")
    result = run(tmp_path / "in", tmp_path / "out", *prostate.words, *words)
    content = document(tmp_path / "r.json")
    interrupted = kind is KeyboardInterrupt
    assert result.exit_code == (INTERRUPTED if interrupted else PARTIAL)
    assert content["complete"] is not interrupted
    assert [case["name"][0] for case in content["cases"]] == ["a", *"bc"[: 0 if interrupted else 2]]
    assert "Doe" not in result.output
    assert "b_uncertainty.nii.gz" not in tree(tmp_path / "out")
    assert "a_uncertainty.nii.gz" in tree(tmp_path / "out")


def test_an_error_can_be_followed_into_the_program(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "a.nii").write_bytes(b"no image")
    result = run(tmp_path, tmp_path / "out", *prostate.words, "--traceback")
    assert "Traceback" in result.stderr
    assert "reader.py" in result.stderr
