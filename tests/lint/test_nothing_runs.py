"""Nothing of a bundle is executed while it is checked, and no file makes the check fail."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from dim_monai.lint import lint_bundle
from tests.lint.bundles import METADATA, TRAIN, bundle, write

AUDITED = """
import json, sys
from pathlib import Path
from dim_monai.lint import lint_bundle
sound, evil = map(Path, sys.argv[1:])
lint_bundle(sound)  # everything that the check itself needs is imported now
seen = []
def hook(event, args):
    writes = event == 'open' and args[1] is not None and set(args[1]) & set('wax+')
    if writes or event in ('exec', 'import', 'pickle.find_class', 'marshal.loads') or (
        event.startswith(('os.', 'subprocess.', 'socket.', 'ctypes.', 'shutil.'))
        and event not in ('os.scandir', 'os.listdir', 'os.walk')
    ):
        seen.append([event, repr(args)])
sys.addaudithook(hook)
codes = sorted({fault.code for fault in lint_bundle(evil).faults})
print(json.dumps([codes, seen, 'monai' in sys.modules, 'torch' in sys.modules]))
"""


class Toucher:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.file),)


def evil_bundle(root: Path, marks: Path) -> dict[str, str]:
    """A bundle in which whatever can run makes a folder in ``marks``; returns the expressions."""

    def touch(name: str) -> str:
        return f"__import__('os').mkdir({str(marks / name)!r})"

    bundle(root)
    expressions = {
        "plain": f"${touch('plain')}",
        "nested": f"$(lambda: (lambda: {touch('nested')})())()",
        "walk": f"$torch.os.mkdir({str(marks / 'walk')!r})",
        "fstring": f'$f"{{{touch("fstring")}}}"',
        "loop": f"$[{touch('loop')} for i in [1]]",
        "default": f"$1 if {touch('default')} else 2",
    }
    write(
        root,
        "configs/train.yaml",
        TRAIN
        + "".join(f"{name}: {json.dumps(text)}\n" for name, text in expressions.items())
        + f"component: {{_target_: os.mkdir, path: {marks / 'component'}}}\n",
    )
    write(root, "configs/tag.yaml", f"x: !!python/object/apply:os.mkdir ['{marks / 'tag'}']\n")
    write(root, "configs/logging.conf", f"[handlers]\nkeys=a\n[handler_a]\nclass={touch('log')}\n")
    document = {**METADATA, "task": f"${touch('metadata')}"}
    write(root, "configs/metadata.json", json.dumps(document))
    write(root, "scripts/__init__.py", touch("script"))
    write(root, "sitecustomize.py", touch("site"))
    torch.save({"x": Toucher(marks / "weights")}, root / "models" / "model.pt")
    write(root, "models/data.pkl", pickle.dumps(Toucher(marks / "pickle")))
    return expressions


def test_a_bundle_that_would_create_files_creates_none(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    sound, evil = bundle(tmp_path / "sound"), tmp_path / "evil"
    evil_bundle(evil, marks)
    before = sorted(evil.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(sound), str(evil)],
        cwd=evil,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    codes, events, has_monai, has_torch = json.loads(done.stdout)
    assert list(marks.iterdir()) == []
    assert sorted(evil.rglob("*")) == before
    assert events == []
    assert not has_monai
    assert not has_torch
    expected = {"L004", "L010", "L021", "L022", "L023", "L051", "L062", "L070", "L071", "L081"}
    assert expected <= set(codes)


def test_the_same_bundle_does_create_files_where_it_is_run(tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    marks = tmp_path / "marks"
    marks.mkdir()
    expressions = evil_bundle(tmp_path / "evil", marks)
    parser = ConfigParser(dict(expressions))
    for name in expressions:
        parser.get_parsed_content(name)
    torch.load(tmp_path / "evil" / "models" / "model.pt", weights_only=False)
    assert {mark.name for mark in marks.iterdir()} == {*expressions, "weights"}


@pytest.mark.parametrize(
    "name",
    ["configs/a.yaml", "configs/a.json", "configs/metadata.json", "configs/logging.conf"],
)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_checked(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, "configs/metadata.json", json.dumps(METADATA))
    write(tmp_path, name, content)
    for fault in lint_bundle(tmp_path).faults:
        assert str(fault).isprintable()


@given(cut=st.integers(0, 1500), noise=st.binary(min_size=1, max_size=6))
@settings(max_examples=80)
def test_damaged_weights_are_a_fault_or_the_same_tensors(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "damaged"
    if not root.exists():
        bundle(root)
        (root / "models" / "model.pt").rename(root / "whole")
    whole = bytearray((root / "whole").read_bytes())
    cut %= len(whole)
    whole[cut : cut + len(noise)] = noise
    file = write(root, "models/model.pt", bytes(whole))
    if not lint_bundle(root).faults:
        assert torch.load(file, weights_only=True).keys() == {"weight", "bias"}


@given(depth=st.integers(1, 400), mark=st.sampled_from(["[", "{a: ", "- ", "!x ", "&a ", "? "]))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_nesting_ends(tmp_path: Path, depth: int, mark: str) -> None:
    write(tmp_path, "configs/metadata.json", json.dumps(METADATA))
    write(tmp_path, "configs/a.yaml", "x: " + mark * depth)
    lint_bundle(tmp_path)


def test_macros_that_double_each_time_end(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    levels = "".join(f"x{n}: ['%x{n - 1}', '%x{n - 1}']\n" for n in range(1, 40))
    write(root, "configs/train.yaml", TRAIN + "x0: [1]\n" + levels)
    assert {fault.code for fault in lint_bundle(root).faults} == {"L002"}
