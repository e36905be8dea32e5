"""The overlays of docs/how-to/new-organ.md train, score and segment, as they stand on the page."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser

from dim_monai.lint import lint_bundle
from dim_monai.predict.rules import SeriesRules
from tests.bundles.examples import PROSTATE, copy_bundle, last_terms, start
from tests.docs.pages import DOCS, first_cells, named_blocks
from tests.predict.scans import run

OVERLAYS = named_blocks(DOCS / "how-to" / "new-organ.md")
NOT_IN_TWO_STEPS = ("share_", "scale_")  # measured every fifty


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dim_monai.report.page.curves_png", lambda curves: b"")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_bundle(tmp_path_factory.mktemp("bundle") / "dim_prostate", PROSTATE)
    for name, text in OVERLAYS.items():
        (folder / "configs" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four volumes in Hounsfield units with a block of soft tissue, three of them labelled."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "labels"):
        (root / name).mkdir()
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    for number in range(4):
        random = np.random.default_rng(number)
        organ = np.zeros((40, 40, 4), dtype=np.uint8)
        organ[8 : 20 + number, 10:22, 1:3] = 1
        volume = np.where(organ, 120.0, -40.0) + random.normal(0, 20, organ.shape)
        nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), root / f"images/{number}.nii.gz")
        if number < 3:
            nib.save(nib.Nifti1Image(organ, affine), root / f"labels/{number}.nii.gz")
    return root


def columns(path: Path, name: str) -> Iterator[str]:
    with path.open(newline="") as file:
        yield from (row[name] for row in csv.DictReader(file))


def test_the_page_has_an_overlay_for_either_kind_of_image() -> None:
    assert set(OVERLAYS) == {"left_atrium.yaml", "spleen.yaml"}


def test_the_check_of_bundles_finds_no_fault_in_them(bundle: Path) -> None:
    assert [str(fault) for fault in lint_bundle(bundle).faults] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_all_that_a_new_organ_needs(
    bundle: Path, dataset: Path, tmp_path: Path, overlay: str
) -> None:
    organ = overlay.removesuffix(".yaml")
    places = {"output_dir": str(tmp_path / "out"), "model_file": str(tmp_path / "out" / "model.pt")}
    training = start(
        bundle, "train.yaml", overlay, **PROSTATE.tiny, dataset_dir=str(dataset), **places
    )
    training.run()
    assert training.parser.get_parsed_content("train#trainer").state.iteration == 2
    assert last_terms(training).keys() >= {"supervised", "symmetric", "f_divergence"}
    logged = set(columns(tmp_path / "out" / "training_log.csv", "name"))
    told = set(first_cells(DOCS / "how-to" / "choosing-f-and-rho.md", "name"))
    assert {name for name in told if not name.startswith(NOT_IN_TWO_STEPS)} <= logged

    files = ("train.yaml", "evaluate.yaml", overlay)
    start(bundle, *files, **PROSTATE.tiny, dataset_dir=str(dataset), **places).run()
    assert set(columns(tmp_path / "out" / "metrics.csv", "class")) == {organ}

    places |= {"output_dir": str(tmp_path / "masks"), "dataset_dir": str(dataset / "images")}
    segmenting = start(
        bundle, "inference.yaml", overlay, kind="inference", **PROSTATE.network, **places
    )
    segmenting.run()
    masks = sorted((tmp_path / "masks").iterdir())
    assert [nib.load(mask).shape for mask in masks] == [(40, 40, 4)] * 4
    assert list(segmenting.parser["structures"]) == [organ]
    assert SeriesRules.from_config(segmenting.parser["series"]).modality

    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(PROSTATE.network))
    overlays = [
        word for file in (bundle / "configs" / overlay, small) for word in ("--overlay", file)
    ]
    words = ["--bundle", bundle, *overlays, "--model", places["model_file"]]
    result = run(dataset / "images", tmp_path / "predicted", *words)
    assert result.exit_code == 0, result.stderr
    for mask in masks:
        predicted = nib.load(tmp_path / "predicted" / mask.name)
        assert np.array_equal(np.asarray(predicted.dataobj), np.asarray(nib.load(mask).dataobj))


@pytest.mark.filterwarnings("ignore:NvImgCodec")  # MONAI asks for it at every loader
def test_training_and_inference_see_the_same_image(bundle: Path, dataset: Path) -> None:
    file = str(dataset / "images" / "0.nii.gz")
    seen = []
    for config, name in (
        ("train.yaml", "train#preprocessing"),
        ("inference.yaml", "preprocessing"),
    ):
        parser = ConfigParser()
        parser.read_config([str(bundle / "configs" / part) for part in (config, "spleen.yaml")])
        parser["roi_size"] = [32, 32]
        seen.append(parser.get_parsed_content(name)({"image": file})["image"].numpy())
    assert np.array_equal(*seen)
    # The window of the page: from -125 to 275 HU is from -1 to 1.
    volume = np.asarray(nib.load(file).dataobj, dtype=np.float32)
    expected = np.clip((volume[4:36, 4:36] + 125) / 400, 0, 1) * 2 - 1
    assert np.allclose(np.sort(seen[0][0], axis=None), np.sort(expected, axis=None), atol=1e-5)
