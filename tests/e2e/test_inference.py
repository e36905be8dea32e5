"""Inference from files to files: names and places of the masks, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from monai.bundle import ConfigParser

from dim_monai.data.kinds import get_kind
from dim_monai.errors import CheckpointError, DataError
from dim_monai.model_files import read_model, save_model
from tests.bundles.examples import Example, demo_set, start, tree
from tests.e2e.segmenting import (
    mask_of,
    refusal,
    segment,
    threshold,
    threshold_bundle,
    write_plain,
)

PLACES = ("plain", "deep/er/a.b.c", "deep/plain")


@pytest.fixture(scope="module")
def bundle(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_bundle(tmp_path_factory.mktemp("bundle"), example)


@pytest.fixture(scope="module")
def done(
    example: Example, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The same case at several places, segmented in one go."""
    images = tmp_path_factory.mktemp("images") / "in"
    for place in PLACES:
        write_plain(example, images / f"{place}{example.image}")
    masks = images.parent / "out"
    segment(example, bundle, images, masks)
    return SimpleNamespace(images=images, masks=masks)


def test_there_is_one_mask_for_each_case_at_its_place(
    example: Example, done: SimpleNamespace
) -> None:
    assert tree(done.masks).keys() == {f"{place}_seg{example.mask}" for place in PLACES}


def test_a_case_has_the_same_mask_wherever_it_lies(example: Example, done: SimpleNamespace) -> None:
    masks = [done.masks / f"{place}_seg{example.mask}" for place in PLACES]
    read = get_kind(example.kind).read_label
    first, *others = (read(mask)[0] for mask in masks)
    assert 0.01 < (first > 0).mean() < 0.5
    assert all((other == first).all() for other in others)


def test_relative_paths_begin_at_the_folder_of_the_shell(
    example: Example,
    bundle: Path,
    done: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(done.images / f"plain{example.image}", tmp_path / "in" / "sub")
    monkeypatch.chdir(tmp_path)
    segment(example, bundle, "in", Path("out"))
    again = (tmp_path / "out" / "sub" / f"plain_seg{example.mask}").read_bytes()
    assert again == (done.masks / f"plain_seg{example.mask}").read_bytes()


def test_the_demo_is_segmented_where_it_lies(
    example: Example, bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / example.name))
    demo = copy / "eval" / "demo"
    images = demo_set(tmp_path_factory, example.kind) / "test_images"
    domain = min(images.iterdir())
    shutil.copytree(domain, demo / "data" / "test_images" / domain.name)
    (copy / "models" / "model.pt").rename(demo / "model.pt")
    workflow = start(copy, "inference.yaml", kind="inference", **threshold(example))
    workflow.run()
    workflow.finalize()
    masks = {mask_of(example, f"{domain.name}/{path.name}") for path in domain.iterdir()}
    assert tree(demo / "predictions").keys() == masks


def test_safetensors_give_the_same_mask(
    example: Example, bundle: Path, done: SimpleNamespace, tmp_path: Path
) -> None:
    save_model(tmp_path / "model.pt", read_model(bundle / "models" / "model.pt"))
    (tmp_path / "model.pt").unlink()
    (tmp_path / "in").mkdir()
    shutil.copy(done.images / f"plain{example.image}", tmp_path / "in")
    model = str(tmp_path / "model.safetensors")
    segment(example, bundle, tmp_path / "in", tmp_path / "out", model_file=model)
    again = (tmp_path / "out" / f"plain_seg{example.mask}").read_bytes()
    assert again == (done.masks / f"plain_seg{example.mask}").read_bytes()


# --- refused before anything is written


@pytest.fixture
def images(example: Example, done: SimpleNamespace, tmp_path: Path) -> Path:
    """Two sound cases, first and last in order, around the one that a test spoils."""
    (tmp_path / "in").mkdir()
    for name in ("a", "z"):
        shutil.copy(done.images / f"plain{example.image}", tmp_path / "in" / (name + example.image))
    return tmp_path / "in"


def test_a_truncated_file_is_named(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    sound, spoilt = images / f"a{example.image}", images / f"m{example.image}"
    whole = sound.read_bytes()
    spoilt.write_bytes(whole[: len(whole) // 2])
    error = refusal(example, bundle, images, tmp_path / "out")
    assert isinstance(error, DataError)
    assert str(spoilt) in str(error)
    assert "nothing was segmented" in str(error)
    assert str(sound) not in str(error)


def test_two_cases_of_one_name_are_refused(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    second = {"volume": "a.nii", "photograph": "a.jpg"}[example.kind]
    write_plain(example, images / second)
    error = refusal(example, bundle, images, tmp_path / "out")
    assert "two cases of one name" in str(error)
    assert str(images / f"a{example.image}") in str(error)


def test_an_empty_folder_and_a_mistyped_one_are_refused(
    example: Example, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    error = refusal(example, bundle, tmp_path / "empty", tmp_path / "out")
    assert "no case found" in str(error)
    error = refusal(example, bundle, tmp_path / "empti", tmp_path / "out")
    assert f"did you mean {tmp_path / 'empty'}?" in str(error)


def test_without_a_model_nothing_is_segmented(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    model = tmp_path / "no.pt"
    error = refusal(example, bundle, images, tmp_path / "out", model_file=str(model))
    assert isinstance(error, CheckpointError)
    assert error.file == str(model)


def test_a_model_of_another_network_is_named(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    error = refusal(example, bundle, images, tmp_path / "out", **threshold(example, classes=5))
    assert isinstance(error, CheckpointError)
    network = threshold(example)
    (conv,) = network.values()
    shape = f"{conv['in_channels']}, 1, 1)"
    found, wanted = (f"({classes}, {shape}" for classes in (conv["out_channels"], 5))
    assert f"got weight {found}; expected weight {wanted}" in str(error)


def test_a_model_of_another_organ_is_named(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    """Its network has the same shapes: only what a training noted tells them apart."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.yaml")
    own = list(parser["label_classes"])
    others = [*own[:-1], "spleen"]
    model = tmp_path / "model.pt"
    weights = read_model(bundle / "models" / "model.pt")
    save_model(model, weights, own)
    segment(example, bundle, images, tmp_path / "out", model_file=str(model))
    save_model(model, weights, others)
    error = refusal(example, bundle, images, tmp_path / "no", model_file=str(model))
    assert isinstance(error, CheckpointError)
    assert "of other classes" in str(error)
    assert f"got {', '.join(others)}; expected {', '.join(own)}" in str(error)


def test_a_model_that_differs_from_its_hash_is_named(
    example: Example, bundle: Path, images: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pt"
    save_model(model, read_model(bundle / "models" / "model.pt"))
    shutil.copy(bundle / "models" / "model.pt", model)  # the same weights in other bytes
    error = refusal(example, bundle, images, tmp_path / "out", model_file=str(model))
    assert isinstance(error, CheckpointError)
    assert error.file == str(model)
    assert "its hash was taken of" in str(error)
