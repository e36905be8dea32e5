"""Before the server starts: what is missing is said, and nothing is served by half."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from dim_monai.errors import CheckpointError, ConfigError
from dim_monai.label import __main__ as command
from dim_monai.label import serve
from dim_monai.model_files import read_model, save_model
from tests.bundles.examples import BUNDLES, PROSTATE, copy_bundle
from tests.label.server import STAND_IN, save_random_network

MODEL = Path("models", "model.pt")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle(tmp_path / "dim_prostate", PROSTATE)


def test_a_bundle_without_any_weights_is_said(bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="train one") as caught:
        serve.require_servable(bundle)
    assert str(bundle / MODEL) in str(caught.value)


def test_weights_of_the_bundle_take_the_place_of_a_missing_model_only(bundle: Path) -> None:
    pretrained = bundle / "models" / "pretrained.safetensors"
    save_random_network(bundle, bundle / "random.pt", seed=0)
    shipped = read_model(bundle / "random.pt")
    save_model(pretrained, shipped)
    serve.require_servable(bundle)
    for name in ("model.pt", "model.safetensors"):
        served = read_model(bundle / "models" / name)
        assert served.keys() == shipped.keys()
        assert all(torch.equal(served[key], shipped[key]) for key in shipped)
    for file in (bundle / "models").glob("model.*"):
        file.unlink()
    save_random_network(bundle, bundle / MODEL, seed=1)
    own = (bundle / MODEL).read_bytes()
    serve.require_servable(bundle)
    assert (bundle / MODEL).read_bytes() == own


def test_a_model_of_another_network_is_refused(bundle: Path) -> None:
    """MONAI Label would load what fits and serve the rest with random weights."""
    save_random_network(bundle, bundle / MODEL, seed=0)
    weights = torch.load(bundle / MODEL, weights_only=True)
    weights.pop(next(iter(weights)))
    torch.save(weights, bundle / MODEL)
    with pytest.raises(CheckpointError, match="another network"):
        serve.require_servable(bundle)


def test_the_app_serves_the_bundle_where_it_is(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "elsewhere" / bundle.name)
    for served in (other, bundle, bundle):  # made again, it follows
        app = serve.make_app(tmp_path / "app", served)
        assert (app / "model" / bundle.name).resolve() == served.resolve()
    assert "DimApp" in (app / "main.py").read_text()


def test_the_server_stays_on_this_machine_and_downloads_nothing(tmp_path: Path) -> None:
    words = list(serve.server_arguments(tmp_path, "studies", "dim_prostate"))
    assert words[words.index("--host") + 1] == "127.0.0.1"
    conf = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--conf"}
    assert conf == {"models": "dim_prostate", "zoo_source": "ngc", "sam2": "false"}


def test_the_server_lists_every_file_that_the_bundles_read(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "MONAI_LABEL_DATASTORE_FILE_EXT"
    monkeypatch.delenv(name, raising=False)
    environment = serve.server_environment()
    assert {"*.nii", "*.nii.gz", "*.png", "*.jpeg", "*.tiff"} <= set(json.loads(environment[name]))
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    monkeypatch.setenv(name, '["*.nii"]')
    assert serve.server_environment()[name] == '["*.nii"]'


def test_a_torchvision_of_another_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return SimpleNamespace(__version__="2.13.0+cpu")

    monkeypatch.setattr(serve, "import_module", broken)
    with pytest.raises(ConfigError) as caught:
        serve.require_torchvision()
    assert "torchvision==0.28.0" in str(caught.value)
    assert "nms does not exist" in str(caught.value)
    assert "2.13.0+cpu" in str(caught.value)


def test_both_pins_are_the_pair_that_is_named() -> None:
    pins = (BUNDLES.parent / "constraints-label.txt").read_text().splitlines()
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(pins)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[list[str]]]:
    """Run the command up to where it becomes the server; return its code and that command line."""
    became: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["label", *arguments])
    monkeypatch.setattr(serve, "require_torchvision", lambda: None)
    monkeypatch.setattr(os, "execve", lambda _path, words, _environment: became.append(words))
    code = command.main()
    return code, became


@pytest.mark.parametrize(
    ("studies", "said"), [("", "make label STUDIES=DIR"), ("nowhere/at/all", "nowhere/at/all")]
)
def test_studies_that_are_missing_stop_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, studies: str, said: str
) -> None:
    assert run(monkeypatch, "--studies", studies) == (2, [])
    assert said in caplog.text


def test_it_becomes_the_server(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    save_random_network(bundle, bundle / MODEL, seed=0)
    (studies := bundle.parent / "studies").mkdir()
    app = bundle.parent / "app"
    given = ("--studies", str(studies), "--bundle", str(bundle), "--app", str(app))
    _, (words,) = run(monkeypatch, *given, "--port", "8123")
    assert words[1:4] == ["-m", "monailabel.main", "start_server"]
    assert words[words.index("--studies") + 1] == str(studies)
    assert words[-2:] == ["--port", "8123"]
    assert (app / "model" / bundle.name).is_dir()


def test_the_stand_in_replaces_the_two_functions_and_nothing_else() -> None:
    files = sorted(path.name for path in STAND_IN.rglob("*.py"))
    assert files == ["__init__.py", "utils.py"]
    code = (STAND_IN / "torchvision" / "utils.py").read_text()
    names: dict[str, Any] = {"__builtins__": builtins}
    exec(compile(code, "utils.py", "exec"), names)  # noqa: S102  # the file beside this one
    for name in ("make_grid", "save_image"):
        with pytest.raises(NotImplementedError):
            names[name]()


def test_the_config_that_the_server_reads_offers_the_options_of_its_panel() -> None:
    for bundle, unit in (("dim_prostate", "ml"), ("dim_fundus", "px")):
        file = BUNDLES / bundle / "configs" / "inference.yaml"
        options = ConfigParser.load_config_file(file)["displayable_configs"]
        assert options["test_time_flips"] is False
        assert options[f"smallest_component_{unit}"] == 0
