"""The commands: what they print where, how they end, and that they fail plainly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dim_monai import __version__
from dim_monai.cli import app
from dim_monai.cli.shared import EXIT_CODES
from dim_monai.data.checks import dataset
from dim_monai.data.datalist import load_saved_datalist
from dim_monai.errors import CheckpointError, ConfigError, DataError, DimError, NumericError
from tests.data.checks.sets import gland, photographs, save, state, volumes

CLASSES = ("--classes", "background=0,prostate=>0")
BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "dim_prostate"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return volumes(tmp_path / "set")


@pytest.fixture
def spoilt(root: Path) -> Path:
    (root / "images" / "b.nii.gz").write_bytes(b"no image")
    return root


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(dataset, "read_lists", fail)


def test_a_sound_set_ends_with_0_and_its_table(root: Path) -> None:
    result = run("check", root, *CLASSES)
    assert result.exit_code == 0
    assert "unknown" in result.stdout
    assert "prostate 0.0" in result.stdout
    assert "3 volumes read" in result.stderr
    assert "0 faults, 0 remarks" in result.stderr


def test_a_fault_ends_with_3_and_one_line(spoilt: Path) -> None:
    result = run("check", spoilt, "--bundle", BUNDLE)
    assert result.exit_code == 3
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("D")]
    assert line.startswith(f"D101 NIfTI file cannot be read: {spoilt}/images/b.nii.gz; got ")
    assert "1 fault, 0 remarks" in result.stderr


def test_json_is_all_that_is_printed_and_the_report_is_the_same(spoilt: Path) -> None:
    result = run("check", spoilt, "--json", "--report", spoilt / "r.json")
    assert result.exit_code == 3
    assert result.stdout == (spoilt / "r.json").read_text(encoding="utf-8")
    document = json.loads(result.stdout)
    assert document["sound"] is False
    assert [fault["code"] for fault in document["faults"]] == ["D101"]


def test_quiet_says_nothing_on_the_way(root: Path) -> None:
    result = run("check", root, "--quiet", "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout)["sound"] is True


def test_html_shows_the_cases(root: Path, tmp_path: Path) -> None:
    assert run("check", root, "--html", tmp_path / "sheet.html").exit_code == 0
    assert (tmp_path / "sheet.html").read_text(encoding="utf-8").count("<img ") == 3


def test_photographs_are_known_by_their_files(tmp_path: Path) -> None:
    result = run("check", photographs(tmp_path / "set"), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["kind"] == "photograph"
    assert run("check", tmp_path / "set", "--kind", "volume").exit_code == 3


def test_a_table_in_a_pipe_has_no_colour_and_one_width(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("check", root)
    monkeypatch.setenv("COLUMNS", "33")
    assert run("check", root).stdout == first.stdout
    assert "\x1b" not in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("check", "nowhere"), 3, "nothing to check"),
        (("check", ".", "--classes", "x"), 2, "label classes cannot be read"),
        (("check", ".", "--kind", "volum"), 2, "did you mean 'volume'?"),
        (("check", ".", "--bundle", "."), 2, "not a bundle"),
        (("check", ".", "--bundle", ".", *CLASSES), 2, "label classes given twice"),
        (("check",), 2, "Missing argument"),
        (("check", ".", "--htm", "x"), 2, "No such option"),
        (("inspect",), 2, "No such command"),
        (("prepare", "nowhere", "--out", "out"), 3, "source folder not found"),
        (("prepare", ".", "--out", "out", "--layout", "folderr"), 2, "folder"),
        (("prepare", ".", "--out", "out", "--labeled", "0"), 2, "labeled"),
    ],
)
def test_a_wrong_command_says_so_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("it failed"), 2),
        (DataError("it failed"), 3),
        (NumericError("it failed"), 5),
        (CheckpointError("it failed"), 6),
        (DimError("it failed"), 1),
        (OSError(28, "it failed"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_error_has_its_exit_status(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    raising(monkeypatch, error)
    result = run("check", root)
    assert result.exit_code == code
    assert ("interrupted" if code == 130 else "it failed") in result.stderr
    assert len(result.output.splitlines()) == 1


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    assert set(EXIT_CODES) == set(DimError.__subclasses__())
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


def test_a_traceback_is_shown_if_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = DataError("it failed")
    raising(monkeypatch, error)
    assert run("check", root, "--traceback").exception is error


def test_an_error_that_nobody_foresaw_is_one_line_without_what_it_says(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ValueError("of the patient's name")
    raising(monkeypatch, error)
    result = run("check", root)
    assert result.exit_code == 1
    assert result.stderr == "unexpected ValueError; --traceback shows where\n"
    assert run("check", root, "--traceback").exception is error


@pytest.mark.parametrize("option", ["--report", "--html"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    raising(monkeypatch, AssertionError("read"))
    result = run("check", root, option, root / "no" / "r")
    assert result.exit_code == EXIT_CODES[DataError]
    assert f"no such folder: {root / 'no'}" in result.stderr
    result = run("check", root, option, root)
    assert result.exit_code == EXIT_CODES[DataError]
    assert f"a folder, where a file is to be written: {root}" in result.stderr


def test_a_bundle_that_comes_with_the_package_is_known_by_name(root: Path) -> None:
    by_name = run("check", root, "--bundle", "dim_prostate")
    by_path = run("check", root, "--bundle", BUNDLE)
    assert by_name.stdout == by_path.stdout
    assert by_name.exit_code == 0
    assert run("lint", "dim_prostate").exit_code == 0


def test_prepare_prints_its_data_list_and_check_finds_it_sound(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/dim-monai", "prepare", "my images", "--seed", "3"])
    result = run("prepare", root, "--out", tmp_path / "out", "--seed", 3)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out' / 'datalist.json'}\n"
    assert "layout " in result.stderr
    datalist = load_saved_datalist(tmp_path / "out" / "datalist.json")
    assert datalist.facts["seed"] == 3
    assert datalist.facts["command"] == "dim-monai prepare 'my images' --seed 3"
    assert run("check", tmp_path / "out", *CLASSES).exit_code == 0


def test_prepare_as_json_counts_the_cases(root: Path, tmp_path: Path) -> None:
    document = json.loads(
        run("prepare", root, "--out", tmp_path / "out", "--json", "--quiet").stdout
    )
    assert document["schema"] == 1
    assert document["kind"] == "volume"
    assert set(document) == {"schema", "datalist", "layout", "kind", "notes", "counts"}
    cases = [count for counts in document["counts"].values() for count in counts.values()]
    assert sum(cases) == 3


def test_a_file_that_changed_since_prepare_is_found(root: Path, tmp_path: Path) -> None:
    run("prepare", root, "--out", tmp_path / "out")
    save(root / "labels" / "a.nii.gz", gland()[::-1])
    file = sorted((root / "images" / "c").iterdir())[0]
    file.write_bytes(file.read_bytes().replace(b"CORRECTED", b"CORRECTEE") + b"\0\0")
    document = json.loads(run("check", tmp_path / "out", "--json").stdout)
    found = {fault["file"] for fault in document["faults"] if fault["code"] == "D009"}
    assert found == {str(root / "labels" / "a.nii.gz"), str(root / "images" / "c")}


@pytest.mark.parametrize("command", [(), ("check",), ("prepare",)])
def test_help_names_every_option_and_its_use(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    shown = result.stdout.split("Options:")[1]
    for line in shown.splitlines():
        if line.strip().startswith("-"):
            assert len(line.split()) > 1
    if command:
        assert "Exit status" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"{__version__}\n"


def test_it_runs_as_a_module_and_help_does_not_wait_for_monai() -> None:
    program = (
        "import sys, runpy\n"
        "sys.argv = ['dim-monai', '--help']\n"
        "try:\n    runpy.run_module('dim_monai.cli', run_name='__main__')\n"
        "finally:\n    assert not {'monai', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: dim-monai" in done.stdout


@pytest.mark.data
def test_the_real_prostates_are_clean_and_a_missing_slice_is_found(
    test_data: Path, tmp_path: Path
) -> None:
    run("prepare", test_data / "prostate_t2", "--out", tmp_path / "out")
    result = run("check", tmp_path / "out", "--bundle", BUNDLE, "--json")
    assert result.exit_code == 0
    counts = {row["domain"]: row["cases"] for row in json.loads(result.stdout)["domains"]}
    assert counts == {"rumc_320": 22, "rumc_384": 7}
    document = json.loads(run("check", test_data / "dicom", "--json").stdout)
    (fault,) = document["faults"]
    assert fault["code"] == "D102"
    assert fault["file"] == str(test_data / "dicom" / "prostatex_0000_missing_slice")
    assert "missing" in fault["what"]


@pytest.mark.data
def test_the_real_fundus_photographs_are_clean(test_data: Path, tmp_path: Path) -> None:
    images = sorted((test_data / "fundus_disc" / "image").iterdir())
    masks = test_data / "fundus_disc" / "mask"
    state(
        tmp_path, labeled=[{"image": str(p), "label": str(masks / f"{p.stem}.png")} for p in images]
    )
    result = run("check", tmp_path, "--classes", "background=0,disc=>0", "--json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["domains"]
    assert (row["cases"], row["labelled"]) == (20, 20)
    assert row["size"] == [[1072, 1072], [712, 712]]
