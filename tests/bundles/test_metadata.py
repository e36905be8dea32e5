"""The metadata of each bundle meets MONAI's schema and tells the truth about versions."""

from __future__ import annotations

import json
import logging
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

import dim_monai

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLES = sorted(p.parents[1] for p in REPOSITORY.glob("bundles/*/configs/metadata.json"))


@pytest.fixture(params=BUNDLES, ids=lambda folder: folder.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def metadata(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def pins() -> dict[str, str]:
    text = (REPOSITORY / "constraints.txt").read_text()
    return {name.lower(): v for name, v in re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)}


def test_it_meets_the_schema_of_monai(metadata: dict[str, Any], test_data: Path) -> None:
    schema = json.loads((test_data / "monai" / "meta_schema_20240725.json").read_text())
    jsonschema.validate(metadata, schema)
    del metadata["task"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(metadata, schema)


def test_the_version_is_in_the_changelog(metadata: dict[str, Any]) -> None:
    assert metadata["version"] in metadata["changelog"]


def test_versions_are_those_of_the_constraints(metadata: dict[str, Any]) -> None:
    required = dict(metadata["required_packages_version"])
    assert required.pop("dim-monai") == dim_monai.__version__
    core = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    required |= {package: metadata[key] for package, key in core.items()}
    pinned = pins()
    assert required == {package: pinned[package.lower()] for package in required}


def test_it_requires_what_the_package_requires(metadata: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    package = {re.split("[<>=]", requirement)[0] for requirement in project["dependencies"]}
    core = {"monai", "torch", "numpy"}  # the schema has fields of their own for them
    assert metadata["required_packages_version"].keys() == package - core | {"dim-monai"}


def test_the_output_has_a_name_for_every_channel(metadata: dict[str, Any]) -> None:
    prediction = metadata["network_data_format"]["outputs"]["pred"]
    assert list(prediction["channel_def"]) == [str(k) for k in range(prediction["num_channels"])]
    assert prediction["channel_def"]["0"] == "background"  # MONAI Label hides this name


def test_the_folder_has_what_the_specification_asks_for(bundle: Path) -> None:
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert (bundle / name).stat().st_size > 0
    assert not list(bundle.rglob("*.py"))  # a bundle's code is the package
    assert isinstance(
        ConfigParser.load_config_file(bundle / "large_files.yml")["large_files"], list
    )


def test_monai_applies_the_logging_config(bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    level = root.level
    try:
        ConfigWorkflow(
            config_file=str(empty),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=str(bundle / "configs" / "logging.conf"),
        )
        assert [type(handler) for handler in root.handlers] == [logging.StreamHandler]
        assert root.level == logging.INFO
    finally:
        root.handlers = before
        root.setLevel(level)
