"""The weights that come with the bundles: whole, small, and as good as their card says."""

from __future__ import annotations

import csv
import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from dim_monai.data.weights import pretrained_note, require_model
from dim_monai.errors import CheckpointError
from dim_monai.model_files import read_model
from dim_monai.predict.segmenter import Settings
from dim_monai.predict.session import Request, Session
from tests.bundles.examples import BUNDLES, EXAMPLES, Example

REPOSITORY = BUNDLES.parent
MEGABYTE = 1000**2


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    example: Example = request.param
    return example.folder


def shipped_model(bundle: Path) -> dict[str, torch.Tensor]:
    return read_model(bundle / "models" / "pretrained.safetensors")


def git(*words: str) -> bytes:
    """Return what git answers; skip where this is no repository, as in an archive of it."""
    program = shutil.which("git")
    if program is None:
        pytest.skip("no git here")
    done = subprocess.run([program, *words], cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no git repository here")
    return done.stdout


def test_they_are_small_enough_for_git(bundle: Path) -> None:
    folder = (bundle / "models").relative_to(REPOSITORY).as_posix()
    listed = git("ls-tree", "--long", "HEAD", f"{folder}/").decode().splitlines()
    sizes = {Path(line.split()[-1]).name: int(line.split()[3]) for line in listed}
    assert sizes.keys() == {
        *("model.pt", "model.sha256", "pretrained.safetensors", "pretrained.sha256")
    }
    assert sum(sizes.values()) < 8 * MEGABYTE


def test_they_fit_the_network_of_the_inference_and_say_what_they_are(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.yaml")
    network = parser.get_parsed_content("network_def")
    file = str(bundle / "models" / "pretrained.safetensors")
    classes = list(parser["label_classes"])
    require_model(file, network, classes)
    with pytest.raises(CheckpointError, match="other classes"):
        require_model(file, network, [*classes[:-1], "spleen"])
    assert pretrained_note(file, network) is None  # it is of other weights: random ones
    network.load_state_dict(shipped_model(bundle))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert pretrained_note(file, network) == metadata["pretrained"]


def test_what_the_repository_holds_as_model_is_the_same_network(
    bundle: Path, tmp_path: Path
) -> None:
    """A training replaces ``model.pt`` here, too; of a user's patients it must not be committed."""
    held = git("show", f"HEAD:{bundle.relative_to(REPOSITORY).as_posix()}/models/model.pt")
    (file := tmp_path / "model.pt").write_bytes(held)
    model = torch.load(file, weights_only=True)
    shipped = shipped_model(bundle)
    assert model.keys() == shipped.keys()
    assert all(torch.equal(model[name], shipped[name]) for name in shipped)


def test_the_card_the_metadata_and_the_table_of_cases_agree(bundle: Path) -> None:
    table = REPOSITORY / "benchmarks" / "results" / f"weights_{bundle.name}.csv"
    with table.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    card = (bundle / "docs" / "data_card.md").read_text()
    stated = json.loads((bundle / "configs" / "metadata.json").read_text())["eval_metrics"]
    groups = {(row["domain"], row["class"]) for row in rows}
    assert len(stated) == len(groups) > 1
    for domain, class_ in groups:
        dice = [float(r["dice"]) for r in rows if (r["domain"], r["class"]) == (domain, class_)]
        mean = statistics.mean(dice)
        assert stated[f"dice_{domain}_{class_}"] == pytest.approx(mean, abs=5e-4)
        line = rf"\| test \| {domain} \| {class_} \| {len(dice)} \| {mean:.3f}"
        assert re.search(line, card), line


def test_cases_that_it_never_saw_are_segmented_as_well_as_the_card_says(
    test_data: Path, tmp_path: Path
) -> None:
    """Dice computed here with NumPy, of masks that the command writes, for a case a protocol."""
    bundle = BUNDLES / "dim_prostate"
    with (REPOSITORY / "benchmarks" / "results" / "weights_dim_prostate.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    chosen = {row["domain"]: row for row in rows}
    assert len(chosen) == 2
    for domain, row in chosen.items():
        image = test_data / "prostate_t2" / domain / f"{row['case']}_t2.nii.gz"
        weights = Settings(model_file=bundle / "models" / "pretrained.safetensors")
        session = Session(Request(image, tmp_path / domain, str(bundle), weights))
        session.run(lambda _: None)
        (mask,) = (tmp_path / domain).rglob("*_seg.nii.gz")
        found = np.asarray(nib.load(mask).dataobj) > 0
        label = image.with_name(f"{row['case']}_seg.nii.gz")
        truth = np.asarray(nib.load(label).dataobj) > 0
        dice = 2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum())
        assert dice == pytest.approx(float(row["dice"]), abs=5e-3)
