"""The checks of the model zoo pass for the bundles, and say why where they do not."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from dim_monai.lint.metadata import REQUIRED
from tests.bundles.examples import PROSTATE, Example, copy_bundle, demo_set, tree

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NOTE = "note  {}  weights: no models/model.pt"


@pytest.fixture(scope="module")
def zoo() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("zoo_checks")


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MONAI's schema requires; the whole of it has a test where there are real data."""
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    file.write_text(json.dumps({"type": "object", "required": list(REQUIRED)}))
    return file


def test_a_bundle_is_ready_for_the_zoo(
    zoo: ModuleType,
    example: Example,
    bundle: Path,
    demo: Path,
    schema: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(bundle)
    assert zoo.main([str(bundle), "--schema", str(schema), "--demo", str(demo.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(zoo.CHECKS)
    (note,) = [line for line in lines if not line.startswith(f"ok    {example.name}  ")]
    assert note.startswith(NOTE.format(example.name))
    assert tree(bundle) == before


def metadata(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        file = bundle / "configs" / "metadata.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        content = (bundle / name).read_text()
        assert old in content
        (bundle / name).write_text(content.replace(old, new))

    return edit


def large(bundle: Path) -> None:
    with (bundle / "docs" / "atlas.bin").open("wb") as file:
        file.truncate(25 * 1000**2 + 1)


def other_weights(bundle: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, bundle / "models" / "model.pt")


BROKEN = {
    "files": (lambda b: (b / "LICENSE").unlink(), "missing or empty: LICENSE"),
    "README sections": (text("docs/README.md", "## Limitations", "## L"), "missing: Limitations"),
    "large files": (large, "docs/atlas.bin exceeds 25 MB"),
    "version and changelog": (metadata(lambda m: m.update(version="9.9")), "9.9 is not in"),
    "metadata schema": (metadata(lambda m: m.pop("task")), "'task' is a required property"),
    "ids of the configs": (
        text("configs/train.yaml", "val_interval", "interval"),
        "train.yaml lacks val_interval",
    ),
    "properties of the inference": (
        text("configs/inference.yaml", "\ninferer:", "\nwindow:"),
        "inferer",
    ),
    "input and output of the network": (
        metadata(lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=7)),
        "output channel number `2` doesn't match: `7`",
    ),
    "export to TorchScript": (other_weights, "state_dict"),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_bundle_fails_with_the_reason(
    zoo: ModuleType,
    check: str,
    schema: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = copy_bundle(tmp_path / PROSTATE.name)
    break_it, reason = BROKEN[check]
    break_it(bundle)
    monkeypatch.setattr(zoo, "CHECKS", {check: zoo.CHECKS[check]})
    demo = demo_set(tmp_path_factory, PROSTATE.kind)
    arguments = ["--schema", str(schema), "--demo", str(demo.parent)]
    assert zoo.main([str(bundle), *arguments]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"FAIL  {PROSTATE.name}  {check}: ")
    assert reason in line
