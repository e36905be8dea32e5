"""The disagreement of two predictions: closed forms, invariances, and the networks behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dim_monai.errors import CheckpointError
from dim_monai.label.disagreement import STUDENT, TEACHER, StudentAndTeacher, disagreement
from tests.bundles.examples import Example
from tests.bundles.examples import start as start_workflow
from tests.label.server import save_random_network, tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")


def probabilities(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(scale * torch.randn(shape, generator=generator), dim=1)


def two_classes(foreground: list[float]) -> Tensor:
    p = torch.tensor(foreground)
    return torch.stack([1 - p, p])[None]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([0.5, 0.2], [0.5, 0.2], 0.0),  # alike
        ([1.0, 0.0], [0.0, 1.0], 1.0),  # nothing in common
        ([0.0, 0.0], [0.0, 0.0], 0.0),  # no foreground at all
        ([1.0, 0.0], [0.0, 0.0], 1.0),
        ([0.6, 0.2], [0.2, 0.2], 0.4 / 1.2),
        ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0], 1 / 5),
    ],
)
def test_closed_forms(student: list[float], teacher: list[float], expected: float) -> None:
    assert disagreement(two_classes(student), two_classes(teacher)) == pytest.approx(expected)


def test_for_masks_it_is_one_minus_dice() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 8, 8)) < 0.3
    dice = 2 * (one & other).sum() / (one.sum() + other.sum())
    masks = [two_classes(mask.astype(np.float32).ravel().tolist()) for mask in (one, other)]
    assert disagreement(*masks) == pytest.approx(1 - dice)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 4))
def test_it_is_symmetric_within_bounds_and_blind_to_more_background(
    seed: int, classes: int
) -> None:
    one, other = (probabilities(seed + n, 2, classes, 5, 4) for n in range(2))
    value = disagreement(one, other)
    assert 0 < value < 1
    assert disagreement(other, one) == pytest.approx(value)
    wall = torch.zeros(2, classes, 5, 3)
    wall[:, 0] = 1
    larger = [torch.cat([p, wall], dim=3) for p in (one, other)]
    assert disagreement(*larger) == pytest.approx(value)
    # The class does not matter, nor where the voxels are.
    order = torch.randperm(classes - 1, generator=torch.Generator().manual_seed(seed)) + 1
    turned = [torch.cat([p[:, :1], p[:, order]], dim=1).flip(2) for p in (one, other)]
    assert disagreement(*turned) == pytest.approx(value)


def test_it_grows_as_the_student_leaves_the_teacher() -> None:
    teacher = probabilities(0, 1, 3, 6, 6)
    far = probabilities(1, 1, 3, 6, 6)
    values = [disagreement(teacher + t * (far - teacher), teacher) for t in (0, 0.25, 0.5, 1)]
    assert values[0] == 0
    assert values == sorted(set(values))


@pytest.fixture
def tiny(example: Example, tmp_path: Path) -> Path:
    bundle = tiny_bundle(tmp_path, example)
    for seed, file in enumerate((STUDENT, TEACHER)):
        save_random_network(bundle, bundle / file, seed)
    return bundle


def test_a_case_is_prepared_and_predicted_as_in_inference(
    example: Example, tiny: Path, demo: Path, tmp_path: Path
) -> None:
    """The oracle takes each piece from the workflow of `inference.yaml`."""
    image = demo / json.loads((demo / "datalist.json").read_text())["unlabeled"][0]["image"]
    value = StudentAndTeacher(tiny).disagree_on(str(image))
    assert 0 < value < 1

    places = {"dataset_dir": str(image), "output_dir": str(tmp_path / "out")}
    workflow = start_workflow(tiny, "inference.yaml", kind="inference", **places)
    get = workflow.parser.get_parsed_content
    (batch,) = get("dataloader")
    foregrounds = []
    for file in (STUDENT, TEACHER):
        network = get("network").eval()
        network.load_state_dict(torch.load(tiny / file, weights_only=True))
        with torch.no_grad():
            p = torch.softmax(get("plain_inferer")(batch["image"], network), dim=1)
        foregrounds.append(p[:, 1:].numpy().astype(np.float64))
    one, other = foregrounds
    assert value == pytest.approx(np.abs(one - other).sum() / (one + other).sum(), rel=1e-4)


def test_networks_that_are_equal_agree_on_everything(
    tiny: Path, demo: Path, tmp_path: Path
) -> None:
    (tiny / STUDENT).write_bytes((tiny / TEACHER).read_bytes())
    image = demo / json.loads((demo / "datalist.json").read_text())["unlabeled"][0]["image"]
    assert StudentAndTeacher(tiny).disagree_on(str(image)) == 0


@pytest.mark.parametrize("file", [STUDENT, TEACHER])
def test_a_network_that_is_missing_or_another_is_refused(tiny: Path, file: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tiny / file)
    with pytest.raises(CheckpointError, match="another network"):
        StudentAndTeacher(tiny)
    (tiny / file).unlink()
    with pytest.raises(CheckpointError, match=file.name):
        StudentAndTeacher(tiny)
