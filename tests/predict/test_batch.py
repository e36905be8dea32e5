"""``--batch`` changes when things happen, and nothing of what is written and told."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dim_monai.cli.predict import PARTIAL
from dim_monai.cli.shared import INTERRUPTED
from dim_monai.predict import segmenter
from dim_monai.predict.overlap import ALIVE
from tests import photograph_builder
from tests.bundles.examples import FUNDUS, PROSTATE, Example, tree
from tests.e2e.segmenting import photograph
from tests.predict.scans import document, run, write_nifti, write_scan
from tests.predict.test_masks import random_network, unpacked

WORDS = ("--uncertainty", "--report")
STAGES = {"read": "read", "network": "infer", "postprocessing": "finish", "writing": "write_mask"}


def told(report: Path) -> list[dict[str, Any]]:
    """What a report says of the cases, without times."""
    cases: list[dict[str, Any]] = document(report)["cases"]
    return [{key: value for key, value in case.items() if key != "seconds"} for case in cases]


def both_ways(folder: Path, images: Path, *words: object) -> list[int]:
    """Run with and without --batch; return the exit statuses, which leave ``one`` and ``batch``."""
    ways = {"one": (), "batch": ("--batch",)}
    results = {
        name: run(images, folder / name, *words, *more, *WORDS, folder / f"{name}.json")
        for name, more in ways.items()
    }
    one, batch = ([line for line in r.stderr.splitlines() if "done" not in line]
                  for r in results.values())  # fmt: skip
    assert one == batch
    return [result.exit_code for result in results.values()]


@pytest.mark.parametrize("example", [PROSTATE, FUNDUS], ids=lambda example: example.name)
def test_masks_maps_and_report_are_the_same(tmp_path: Path, example: Example) -> None:
    images, orientations = tmp_path / "in", ("axial", "sagittal", "coronal", "oblique_0")
    if example is PROSTATE:
        for n, orientation in enumerate(orientations):
            write_nifti(images / f"{n}.nii.gz", orientation)
            write_scan(images / "deep" / f"s{n}", orientation)
    else:
        for n in range(6):
            scene = photograph((120 + 9 * n, 90 + 5 * n), (50, 40), 40)
            photograph_builder.save(images / f"{n}.png", scene, 1 + n)
    network, model = random_network(tmp_path, example)
    words = ("--bundle", example.folder, "--overlay", network, "--model", model)
    assert both_ways(tmp_path, images, *words) == [0, 0]
    one, batch = (unpacked(tmp_path / name) for name in ("one", "batch"))
    assert len(one) == 2 * len(told(tmp_path / "one.json"))
    assert batch == one
    assert told(tmp_path / "batch.json") == told(tmp_path / "one.json")


def test_a_bad_case_is_told_in_its_place(prostate: SimpleNamespace, tmp_path: Path) -> None:
    images = tmp_path / "in"
    for n in range(6):
        write_nifti(images / f"{n}.nii.gz")
    for n in (0, 3):
        content = (images / f"{n}.nii.gz").read_bytes()
        (images / f"{n}.nii.gz").write_bytes(content[: len(content) // 2])
    assert both_ways(tmp_path, images, *prostate.words) == [PARTIAL, PARTIAL]
    cases = told(tmp_path / "batch.json")
    assert cases == told(tmp_path / "one.json")
    assert [case["result"] == "failed" for case in cases] == [n in (0, 3) for n in range(6)]
    assert tree(tmp_path / "batch") == tree(tmp_path / "one")


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_a_stage_stays_with_its_case(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    images = tmp_path / "in"
    for n in range(5):
        write_nifti(images / f"{n}.nii.gz")
    break_at(monkeypatch, stage, 2, RuntimeError("Doe^Secretia"))
    words = ("--batch", "--report", tmp_path / "r.json", "--uncertainty")
    result = run(images, tmp_path / "out", *prostate.words, *words)
    assert result.exit_code == PARTIAL
    assert "Doe" not in result.output
    cases = document(tmp_path / "r.json")["cases"]
    assert [case["name"][0] for case in cases] == list("01234")
    assert [case["name"][0] for case in cases if case["result"] == "failed"] == ["2"]
    assert {name[0] for name in tree(tmp_path / "out")} == set("0134")


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_whole_cases_and_no_thread(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    images, before = tmp_path / "in", set(threading.enumerate())
    for n in range(8):
        write_nifti(images / f"{n}.nii.gz")
    words = (images, tmp_path / "out", *prostate.words, "--uncertainty", "--batch")
    assert run(*words).exit_code == 0
    whole = tree(tmp_path / "out")
    break_at(monkeypatch, stage, 3, KeyboardInterrupt())
    result = run(*words, "--report", tmp_path / "r.json")
    assert result.exit_code == INTERRUPTED
    assert set(threading.enumerate()) == before
    content = document(tmp_path / "r.json")
    assert content["complete"] is False
    done = [int(case["name"][0]) for case in content["cases"]]
    assert done == list(range(len(done)))
    assert len(done) <= 3
    # Of a case that had begun there is nothing, of one that had not what the earlier run left.
    left = tree(tmp_path / "out")
    kept = sorted({int(name[0]) for name in left})
    assert left == {name: content for name, content in whole.items() if int(name[0]) in kept}
    assert 3 not in kept
    assert set(done) <= set(kept)
    assert set(range(3 + ALIVE, 8)) <= set(kept)


def test_the_number_of_cases_in_memory_is_not_that_of_the_folder(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted are the images between their reading and their mask, however many there are."""
    most, alive, lock = 0, 0, threading.Lock()

    def count(step: int) -> None:
        nonlocal most, alive
        with lock:
            alive += step
            most = max(most, alive)

    read, write = segmenter.Segmenter.read, segmenter.Segmenter.write_mask

    def counted_read(self: Any, case: Any) -> Any:
        count(+1)
        return read(self, case)

    def counted_write(self: Any, item: Any) -> None:
        write(self, item)
        count(-1)

    monkeypatch.setattr(segmenter.Segmenter, "read", counted_read)
    monkeypatch.setattr(segmenter.Segmenter, "write_mask", counted_write)
    for n in range(12):
        write_nifti(tmp_path / "in" / f"{n}.nii")
    for words, expected in (((), {1}), (("--batch",), {2, ALIVE})):
        most = 0
        result = run(tmp_path / "in", tmp_path / "out", *prostate.words, *words)
        assert result.exit_code == 0
        assert most in expected
        assert alive == 0


def break_at(monkeypatch: pytest.MonkeyPatch, stage: str, case: int, error: BaseException) -> None:
    """Let a stage raise an error at the case of a number."""
    name, calls = STAGES[stage], iter(range(1000))
    work = getattr(segmenter.Segmenter, name)

    def broken(self: Any, *given: Any) -> Any:
        if next(calls) == case:
            raise error
        return work(self, *given)

    monkeypatch.setattr(segmenter.Segmenter, name, broken)
