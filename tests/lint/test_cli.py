"""The command ``lint``: what it prints where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dim_monai.cli import app
from tests.lint.bundles import add, bundle, write


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["lint", *(str(word) for word in words)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return bundle(tmp_path / "b")


def test_a_sound_bundle_ends_with_0(root: Path) -> None:
    result = run(root)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "3 configs read: 0 faults\n"


def test_a_fault_ends_with_3_and_one_line(root: Path) -> None:
    add(root, "x: $eval('1')\n")
    result = run(root)
    assert result.exit_code == 3
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"L022 name that is not allowed in x: {root}/configs/train.yaml:24; got")
    assert result.stderr == "3 configs read: 1 fault\n"


def test_json_is_all_that_is_printed_and_the_report_is_the_same(root: Path) -> None:
    add(root, "x: $eval('1')\n")
    result = run(root, "--json", "--quiet", "--report", root / "r.json")
    assert result.exit_code == 3
    assert result.stderr == ""
    assert result.stdout == (root / "r.json").read_text(encoding="utf-8")
    document = json.loads(result.stdout)
    assert document["sound"] is False
    assert [(fault["code"], fault["line"]) for fault in document["faults"]] == [("L022", 24)]


def test_ids_resolve_in_the_list_of_configs_that_is_given(root: Path, tmp_path: Path) -> None:
    overlay = write(tmp_path, "mine.yaml", "rate: '@speed'\n")
    assert run(root).exit_code == 0
    result = run(root, "--config", "train.yaml", "--config", overlay)
    assert result.exit_code == 3
    assert result.stdout.startswith("L030 ")
    write(tmp_path, "mine.yaml", "rate: '@speed'\nspeed: 1\n")
    assert run(root, "--config", "train.yaml", "--config", overlay).exit_code == 0


def test_an_overlay_alone_does_not_resolve(root: Path) -> None:
    result = run(root, "--config", "methods/faster.yaml")
    assert {line[:4] for line in result.stdout.splitlines()} == {"L033"}


def test_nothing_there_ends_with_3_and_a_wrong_config_with_2(root: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "nothing").exit_code == 3
    assert run(root, "--config", "nothing.yaml").exit_code == 2
    assert run(root / "configs" / "train.yaml").exit_code == 3
    assert run().exit_code == 2


def test_a_packed_bundle_is_a_fault(tmp_path: Path) -> None:
    file = write(tmp_path, "b.zip", b"PK\x05\x06" + bytes(18))
    result = run(file)
    assert result.exit_code == 3
    assert result.stdout.startswith("L073 ")


@pytest.mark.parametrize("given", ["folder", "dim_prostate"])
def test_neither_torch_nor_monai_is_imported(root: Path, given: str) -> None:
    program = (
        "import sys; from dim_monai.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    )
    words = ["lint", str(root) if given == "folder" else given]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
