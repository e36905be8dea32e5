"""What is remembered of files saves reading them, and a changed file is noticed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dim_monai.data import digest as digest_module
from dim_monai.data.checks import gate, known, require_sound
from dim_monai.data.datalist import Datalist, open_datalist
from dim_monai.data.digest import data_digest
from dim_monai.data.identity import identity_of
from dim_monai.data.labels import LabelMapping
from dim_monai.data.remembered import Remembered
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.data.test_source import add_case
from tests.dicom_builder import affine_of, numbered

LABELS = LabelMapping({"background": [0], "prostate": [1]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two labelled cases, an unlabelled one and an unlabelled DICOM series."""
    for case, labelled in (("Doe_a", True), ("Doe_b", True), ("Doe_c", False)):
        add_case(tmp_path / "set", case, labelled)
    folder = tmp_path / "set" / "images" / "Doe_d"
    write_series(folder, numbered(), affine_of("axial"), seed_uid="d")
    return tmp_path / "set"


@pytest.fixture
def cache_dir(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def change(path: Path, *, in_place: bool = True) -> None:
    """Change a byte and nothing else that can be seen from outside: size and date are the same."""
    found = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if in_place:
        with path.open("r+b") as file:
            file.write(content)
    else:
        path.with_name("new").write_bytes(content)
        os.replace(path.with_name("new"), path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    told = path.stat()
    assert (told.st_size, told.st_mtime_ns) == (found.st_size, found.st_mtime_ns)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("read again")


def test_a_digest_with_a_memory_is_the_one_without(
    root: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = open_datalist(root).for_training()
    expected = data_digest(lists)
    assert data_digest(lists, cache_dir) == expected
    monkeypatch.setattr(digest_module, "hash_case_file", refuse)
    assert data_digest(lists, cache_dir) == expected
    with pytest.raises(AssertionError, match="read again"):
        data_digest(lists)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", ["images/Doe_c.nii.gz", "labels/Doe_b.nii.gz"])
def test_a_changed_file_gives_another_digest(
    root: Path, cache_dir: str, name: str, in_place: bool
) -> None:
    lists = open_datalist(root).for_training()
    before = data_digest(lists, cache_dir)
    change(root / name, in_place=in_place)
    after = data_digest(lists, cache_dir)
    assert after != before
    assert after == data_digest(lists)


def test_of_a_series_every_file_counts(tmp_path: Path) -> None:
    write_series(tmp_path / "s", numbered(), affine_of("axial"), seed_uid="a")
    seen = {json.dumps(identity_of(tmp_path / "s"))}
    first = min((tmp_path / "s").iterdir())
    change(first)
    seen.add(json.dumps(identity_of(tmp_path / "s")))
    (tmp_path / "s" / ".hidden").write_bytes(b"")
    assert json.dumps(identity_of(tmp_path / "s")) in seen
    (tmp_path / "s" / "more").write_bytes(b"")
    seen.add(json.dumps(identity_of(tmp_path / "s")))
    first.unlink()
    seen.add(json.dumps(identity_of(tmp_path / "s")))
    assert len(seen) == 4


def test_sound_cases_are_not_opened_again(
    root: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = open_datalist(root)
    expected = require_sound(lists, LABELS)
    assert require_sound(lists, LABELS, cache_dir=cache_dir) == expected
    monkeypatch.setattr(gate, "inspect_case", refuse)
    assert require_sound(lists, LABELS, cache_dir=cache_dir) == expected
    for others in (
        {"mapping": LabelMapping({"background": [0], "gland": ">0"})},
        {"kind": "photograph"},
    ):
        with pytest.raises(AssertionError, match="read again"):
            require_sound(lists, **{"mapping": LABELS, "cache_dir": cache_dir, **others})


def test_a_case_is_checked_again_in_another_list_or_by_other_checks(
    root: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = open_datalist(root)
    require_sound(lists, LABELS, cache_dir=cache_dir)
    moved = Datalist(lists.labeled[:1], lists.unlabeled, lists.labeled[1:], (), "moved")
    monkeypatch.setattr(gate, "inspect_case", refuse)
    with pytest.raises(AssertionError, match="read again"):
        require_sound(moved, LABELS, cache_dir=cache_dir)
    monkeypatch.setattr(known, "CODES", {**known.CODES, "D999": "a new check"})
    with pytest.raises(AssertionError, match="read again"):
        require_sound(lists, LABELS, cache_dir=cache_dir)


def test_a_fault_that_came_since_is_found_and_every_other_is_still_told(
    root: Path, cache_dir: str
) -> None:
    lists = open_datalist(root)
    require_sound(lists, LABELS, cache_dir=cache_dir)
    change(root / "images" / "Doe_b.nii.gz")  # the checksum of the .gz
    (root / "labels" / "Doe_a.nii.gz").unlink()
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            require_sound(lists, LABELS, cache_dir=cache_dir)
        assert "2 faults" in str(caught.value)
        assert all(name in str(caught.value) for name in ("labels/Doe_a", "images/Doe_b"))


def test_unsound_data_leave_nothing_behind(root: Path, cache_dir: str) -> None:
    (root / "labels" / "Doe_a.nii.gz").write_bytes(b"no label")
    with pytest.raises(DataError):
        require_sound(open_datalist(root), LABELS, cache_dir=cache_dir)
    assert not Path(cache_dir).exists()


def test_what_is_remembered_names_nobody_and_is_its_owners(root: Path, cache_dir: str) -> None:
    lists = open_datalist(root)
    require_sound(lists, LABELS, cache_dir=cache_dir)
    data_digest(lists, cache_dir)
    folder = Path(cache_dir)
    assert {path.name for path in folder.iterdir()} == {"checks.json", "hashes.json"}
    assert not any("Doe" in path.read_text() for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"a": ', b"9" * 5000])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    memory = Remembered(tmp_path, "m.json")
    assert memory.recall("a") is None
    memory.note("a", 1)
    memory.save()
    assert Remembered(tmp_path, "m.json").recall("a") == 1


@pytest.mark.parametrize("wrong", [7, None, ["x"]])
def test_results_of_another_form_are_found_out_again(
    root: Path, cache_dir: str, wrong: object
) -> None:
    lists = open_datalist(root)
    facts, expected = require_sound(lists, LABELS, cache_dir=cache_dir), data_digest(lists)
    data_digest(lists, cache_dir)
    for path in Path(cache_dir).iterdir():
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), wrong)))
    assert require_sound(lists, LABELS, cache_dir=cache_dir) == facts
    assert data_digest(lists, cache_dir) == expected


def test_without_a_folder_nothing_is_remembered() -> None:
    memory = Remembered(None, "m.json")
    memory.note("a", 1)
    memory.save()
    assert memory.recall("a") is None


def test_a_memory_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    memory = Remembered(tmp_path / "file", "m.json")
    memory.note("a", 1)
    with pytest.raises(DataError, match="--cache_dir"):
        memory.save()
