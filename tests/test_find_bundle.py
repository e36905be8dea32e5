"""A bundle is found by path and by name, from a checkout and from an installed wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dim_monai import shipped
from dim_monai.errors import ConfigError
from dim_monai.shipped import find_bundle, shipped_bundles
from tests.predict.scans import write_nifti, write_scan

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_folder_and_a_name_lead_to_the_same_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = REPOSITORY / "bundles" / "dim_prostate"
    monkeypatch.chdir(REPOSITORY)
    assert find_bundle("bundles/dim_prostate") == folder
    assert find_bundle(str(folder)) == folder
    assert find_bundle("dim_prostate") == folder


def test_a_folder_in_the_shells_folder_counts_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "dim_fundus"
    (own / "configs").mkdir(parents=True)
    (own / "configs" / "metadata.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="has no inference"):
        find_bundle("dim_fundus")


def test_a_mistyped_name_is_answered_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean dim_prostate\?"):
        find_bundle("dim_prostat")
    with pytest.raises(ConfigError, match=r"did you mean dim_fundus\?"):
        find_bundle("bundles/dim_fundu")
    with pytest.raises(ConfigError, match="one of dim_fundus, dim_prostate"):
        find_bundle("../dim_prostate/../..")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no bundle.*metadata\.json"):
        find_bundle(str(tmp_path))


def test_without_any_bundle_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", (tmp_path,))
    assert shipped_bundles() == []
    with pytest.raises(ConfigError, match="one of none"):
        find_bundle("dim_prostate")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of a checkout that has weights and results lying about."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    unwanted = shutil.ignore_patterns("eval", "__pycache__", "model.*")
    for name in ("dim_monai", "bundles"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=unwanted)
    for name in ("eval/predictions/of_a_patient.nii.gz", "models/model.pt"):
        file = source / "bundles" / "dim_prostate" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (built,) = work.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(work / "site")
    return work / "site"


def test_the_wheel_holds_the_bundles_and_nothing_of_a_user(wheel: Path) -> None:
    shipped = wheel / "dim_monai" / "bundles"
    for name in shipped_bundles():
        original = REPOSITORY / "bundles" / name
        for folder in ("configs", "docs"):
            files = {
                file.relative_to(original)
                for file in (original / folder).rglob("*")
                if file.is_file() and file.name != "monailabel_train.json"
            }
            assert files
            for file in files:
                assert (shipped / name / file).read_bytes() == (original / file).read_bytes()
        assert (shipped / name / "LICENSE").is_file()
        weights = [file.name for file in sorted((shipped / name / "models").iterdir())]
        assert weights == ["pretrained.safetensors", "pretrained.sha256"]
    assert [file for file in shipped.rglob("*") if file.suffix in {".pt", ".gz", ".py"}] == []


def test_an_installed_command_segments_by_the_name_of_a_bundle_alone(
    wheel: Path, tmp_path: Path
) -> None:
    write_nifti(tmp_path / "in" / "case.nii.gz")
    write_scan(tmp_path / "in" / "series")
    words = ["predict", "in", "out", "--bundle", "dim_prostate", "--report", "r.json"]
    done = subprocess.run(
        [sys.executable, "-m", "dim_monai.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("case", "series"):
        assert (tmp_path / "out" / f"{name}_seg.nii.gz").is_file()
    report = json.loads((tmp_path / "r.json").read_text())
    bundle = wheel / "dim_monai" / "bundles" / "dim_prostate"
    assert report["bundle"]["folder"] == str(bundle)
    assert report["model"]["file"] == str(bundle / "models" / "pretrained.safetensors")
    note = json.loads((bundle / "configs" / "metadata.json").read_text())["pretrained"]
    assert report["model"]["pretrained"] == note
    assert f"weights of the bundle: {note}" in done.stderr
