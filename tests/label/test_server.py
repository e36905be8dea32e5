"""The stock app of MONAI Label serves and trains each bundle, and its masks are the bundle's."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from dim_monai.label.serve import make_app, server_arguments
from tests.bundles.examples import EXAMPLES, Example, demo_set, start
from tests.label.server import Server, make_studies, serving, tiny_bundle

pytest.importorskip("monailabel", reason="needs the environment of make test-label")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:NvImgCodec"),
]


@dataclass
class Served:
    """A server with one bundle; the studies are files, and folders of DICOM series."""

    server: Server
    example: Example
    bundle: Path
    folder: Path
    studies: list[Path]
    labels: dict[str, Path]


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda example: example.name)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    example: Example = request.param
    root = tmp_path_factory.mktemp("label")
    bundle = tiny_bundle(root, example)
    studies, labels = make_studies(root / "studies", demo_set(tmp_path_factory, example.kind))
    app = make_app(root / "app", bundle)
    stock = Path(sys.prefix, "monailabel", "sample-apps", "monaibundle", "main.py")
    shutil.copyfile(stock, app / "main.py")
    arguments = server_arguments(app, str(root / "studies"), example.name)
    with serving([sys.executable, "-m", "monailabel.main", *arguments], root / "log") as server:
        yield Served(server, example, bundle, root / "studies", studies, labels)


def own_mask(served: Served, image: Path, folder: Path, **options: Any) -> np.ndarray:
    """The mask that the bundle's own inference writes, without MONAI Label."""
    places = {"dataset_dir": str(image), "output_dir": str(folder)}
    start(served.bundle, "inference.yaml", kind="inference", **places, **options).run()
    (mask,) = folder.iterdir()
    return read(mask)


def read(mask: Path) -> np.ndarray:
    if mask.suffix == ".png":
        with Image.open(mask) as picture:
            assert picture.mode == "L"
            return np.asarray(picture)
    volume = nib.load(mask)
    assert volume.get_data_dtype() == np.uint8
    return np.asarray(volume.dataobj)


def served_mask(served: Served, image: Path, folder: Path, **options: Any) -> np.ndarray:
    """The mask that the server returns, which is on the grid of the image."""
    name = str(image) if image.is_dir() else image.name.removesuffix("".join(image.suffixes))
    mask = folder / f"mask{served.example.mask}"
    mask.write_bytes(served.server.infer(served.example.name, name, **options))
    if served.example.kind == "photograph":
        with Image.open(image) as photograph:
            assert read(mask).shape == photograph.size[::-1]
    elif not image.is_dir():
        assert np.allclose(nib.load(mask).affine, nib.load(image).affine, atol=1e-4)
    return read(mask)


def test_it_offers_the_bundle_and_its_options(served: Served) -> None:
    info = served.server.call("GET", "/info/")
    model = info["models"][served.example.name]
    classes = json.loads((served.bundle / "configs" / "metadata.json").read_text())
    channels = classes["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert model["labels"] == {v: int(k) for k, v in channels.items() if v != "background"}
    unit = "ml" if served.example.kind == "volume" else "px"
    assert {"test_time_flips", f"smallest_component_{unit}"} <= model["config"].keys()
    assert served.example.name in info["trainers"]
    assert info["datastore"]["total"] == sum(path.is_file() for path in served.studies)


def test_every_mask_is_that_of_the_bundle(served: Served, tmp_path: Path) -> None:
    assert {path.is_dir() for path in served.studies} == (
        {True, False} if served.example.kind == "volume" else {False}
    )
    for number, image in enumerate(served.studies):
        mask = served_mask(served, image, tmp_path)
        assert 0 < (mask > 0).sum() < mask.size
        assert np.array_equal(mask, own_mask(served, image, tmp_path / str(number)))


def test_the_options_of_the_panel_have_their_effect(served: Served, tmp_path: Path) -> None:
    image = served.studies[0]
    plain = served_mask(served, image, tmp_path)
    unit, size = ("ml", 0.5) if served.example.kind == "volume" else ("px", 50)
    for name, value in (("test_time_flips", True), (f"smallest_component_{unit}", size)):
        mask = served_mask(served, image, tmp_path, **{name: value})
        assert not np.array_equal(mask, plain)
        own = {f"displayable_configs#{name}": value}
        assert np.array_equal(mask, own_mask(served, image, tmp_path / name, **own))


def test_two_labels_train_on_all_studies(served: Served, tmp_path: Path) -> None:
    name, bundle, server = served.example.name, served.bundle, served.server
    before = served_mask(served, served.studies[0], tmp_path)
    labelled = sorted(served.labels)[:2]
    for image in labelled:
        server.save_label(Path(image).name.partition(".")[0], served.labels[image])
    # All that a client's panel holds by default, but for the length.
    request = {key: value for key, value in _defaults(server, name).items() if value != []}
    server.call("POST", f"/train/{name}", json=request | {"max_epochs": 2, "val_split": 0.5})
    server.finish("train")

    lists = json.loads((bundle / "eval" / "datalist.json").read_text())
    others = {str(path) for path in served.studies if path.name not in labelled}
    assert {entry["image"] for entry in lists["unlabeled"]} == others
    assert len(lists["labeled"]) == len(lists["validation"]) == 1
    used = {Path(e["image"]).name for key in ("labeled", "validation") for e in lists[key]}
    assert used == set(labelled)
    log = server.log.read_text()
    assert f"unlabelled studies found in {served.folder}: {len(others)}" in log
    assert f"cases: 1 labelled, {len(others)} unlabelled, 1 for validation" in log
    assert f"starting from: {served.bundle.parent}/app/model/{name}/models/model.pt" in log
    assert log.count(" dim_monai.handlers.validation: model: ") == 1  # one training, not two
    assert json.loads((bundle / "eval" / "run.json").read_text())["steps"] == 4
    with (bundle / "eval" / "training_log.csv").open(newline="") as table:
        assert {"supervised", "unlabelled_in_box"} <= {row["name"] for row in csv.DictReader(table)}

    mask = served_mask(served, served.studies[0], tmp_path)
    assert not np.array_equal(mask, before)  # the server has taken up the new model
    assert np.array_equal(mask, own_mask(served, served.studies[0], tmp_path / "own"))


def _defaults(server: Server, name: str) -> dict[str, Any]:
    """What a client's panel sends: of each list of choices the first."""
    config = server.call("GET", "/info/")["trainers"][name]["config"]
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
