"""A model file is there, whole and of this network, or the run does not begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from dim_monai.data.weights import (
    load_model,
    model_of,
    pretrained_note,
    require_model,
    start_from,
)
from dim_monai.errors import CheckpointError
from dim_monai.model_files import save_model


def network(classes: int = 2) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Conv2d(4, classes, 1)
    )


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        require_model(str(path), network())
    assert caught.value.file == str(path)
    assert caught.value.do
    return str(caught.value)


def test_weights_of_the_network_pass_and_leave_it_as_it_was(tmp_path: Path) -> None:
    model, other = network(), network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(other.state_dict(), tmp_path / "model.pt")
    require_model(str(tmp_path / "model.pt"), model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no model" in refusal(tmp_path / "no.pt")


@pytest.mark.parametrize("keep", [0, 1, 100, -100])
def test_a_file_that_is_cut_off_cannot_be_read(tmp_path: Path, keep: int) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[:keep])
    assert "cannot be read" in refusal(tmp_path / "model.pt")


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "model.pt")
    assert "cannot be read" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (torch.zeros(2), "got Tensor"),
        ([torch.zeros(2)], "got list"),
        ({"model": {"weight": torch.zeros(2)}}, "got model: dict"),
        ({"0.weight": torch.zeros(4, 1, 3, 3), "epoch": 3}, "got epoch: int"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object, got: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert got in refusal(tmp_path / "model.pt")


def test_weights_of_other_classes_name_the_first_tensor_that_differs(tmp_path: Path) -> None:
    torch.save(network(classes=3).state_dict(), tmp_path / "model.pt")
    message = refusal(tmp_path / "model.pt")
    assert "got 2.weight (3, 4, 1, 1); expected 2.weight (2, 4, 1, 1)" in message
    assert "overlay" in message


def test_a_missing_and_a_surplus_tensor_are_named(tmp_path: Path) -> None:
    weights = network().state_dict()
    torch.save({k: v for k, v in weights.items() if k != "1.bias"}, tmp_path / "model.pt")
    assert "got no 1.bias; expected 1.bias (4,)" in refusal(tmp_path / "model.pt")
    torch.save({**weights, "extra": torch.zeros(7)}, tmp_path / "model.pt")
    assert "got extra (7,); expected no extra" in refusal(tmp_path / "model.pt")


def test_a_training_starts_from_the_weights_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, other = network(), network()
    torch.save(other.state_dict(), tmp_path / "model.pt")
    caplog.set_level("INFO", "dim_monai")
    start_from(str(tmp_path / "model.pt"), model)
    expected = other.state_dict()
    assert all(torch.equal(expected[k], tensor) for k, tensor in model.state_dict().items())
    assert f"starting from: {tmp_path / 'model.pt'}" in caplog.text


def test_without_a_file_the_network_stays_as_it_is() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from(None, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_other_classes_are_refused_and_nothing_is_loaded_in_part(tmp_path: Path) -> None:
    torch.save(network(classes=3).state_dict(), tmp_path / "model.pt")
    model = network(classes=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="of another network"):
        start_from(str(tmp_path / "model.pt"), model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_missing_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model") as caught:
        start_from(str(tmp_path / "no.pt"), network())
    assert caught.value.file == str(tmp_path / "no.pt")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("use", [require_model, load_model, start_from])
def test_every_use_of_a_model_holds_it_against_its_hash(
    tmp_path: Path, name: str, use: Callable[[str, nn.Module], None]
) -> None:
    trained = network()
    save_model(tmp_path / "model.pt", trained.state_dict())
    model = network()
    use(str(tmp_path / name), model)
    expected = (model if use is require_model else trained).state_dict()
    assert all(torch.equal(expected[k], tensor) for k, tensor in model.state_dict().items())
    (tmp_path / "model.sha256").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(CheckpointError, match="its hash was taken of"):
        use(str(tmp_path / name), network())


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_weights_of_other_classes_are_refused(tmp_path: Path, name: str) -> None:
    model, file = network(), str(tmp_path / name)
    save_model(file, model.state_dict(), ["background", "spleen"])
    require_model(file, model, ["background", "spleen"])
    require_model(file, model)
    for others in (["background", "prostate"], ["spleen", "background"]):
        with pytest.raises(CheckpointError, match="other classes") as caught:
            require_model(file, model, others)
        with pytest.raises(CheckpointError, match="other classes"):
            load_model(file, network(), others)
        assert "got background, spleen; " in str(caught.value)


def test_what_the_weights_are_of_is_told_by_the_same_weights_alone(tmp_path: Path) -> None:
    model, file = network(), str(tmp_path / "model.pt")
    save_model(file, model.state_dict(), ["background", "spleen"])
    (tmp_path / "model.sha256").unlink()
    torch.save(network().state_dict(), file)  # a user puts another model in its place
    require_model(file, model, ["background", "prostate"])
    (tmp_path / "model.safetensors").unlink()
    require_model(file, model, ["background", "prostate"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with weights that came with it."""
    for folder in ("models", "configs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "configs" / "metadata.json").write_text('{"pretrained": "on drawings"}')
    save_model(tmp_path / "models" / "pretrained.safetensors", network().state_dict())
    (tmp_path / "models" / "pretrained.pt").unlink()
    return tmp_path


def test_a_trained_model_comes_before_the_bundle_s_own(bundle: Path) -> None:
    assert model_of(str(bundle)) == str(bundle / "models" / "pretrained.safetensors")
    save_model(bundle / "models" / "model.pt", network().state_dict())
    assert model_of(str(bundle)) == str(bundle / "models" / "model.pt")


def test_the_bundle_s_own_weights_are_of_its_classes_as_model_pt_too(bundle: Path) -> None:
    model, shipped = network(), bundle / "models" / "pretrained.safetensors"
    load_model(str(shipped), model)
    save_model(shipped, model.state_dict(), ["background", "prostate"])
    alone = str(bundle / "models" / "model.pt")
    torch.save(model.state_dict(), alone)
    require_model(alone, model, ["background", "prostate"])
    with pytest.raises(CheckpointError, match="other classes"):
        require_model(alone, model, ["background", "spleen"])


def test_a_bundle_without_weights_names_the_file_of_a_training(tmp_path: Path) -> None:
    assert model_of(str(tmp_path)) == str(tmp_path / "models" / "model.pt")


@pytest.mark.parametrize("name", ["pretrained.safetensors", "model.pt", "model.safetensors"])
def test_weights_that_came_with_the_bundle_are_known_under_any_name(
    bundle: Path, name: str
) -> None:
    model = network()
    load_model(str(bundle / "models" / "pretrained.safetensors"), model)
    save_model(bundle / "models" / "model.pt", model.state_dict())
    assert pretrained_note(str(bundle / "models" / name), model) == "on drawings"


def test_other_weights_carry_no_note(bundle: Path, tmp_path: Path) -> None:
    file, model = str(bundle / "models" / "model.pt"), network()
    load_model(str(bundle / "models" / "pretrained.safetensors"), model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert pretrained_note(file, model) is None
    assert pretrained_note(file, network(classes=3)) is None
    assert pretrained_note(str(tmp_path / "elsewhere" / "models" / "model.pt"), model) is None


def test_a_model_at_the_root_of_a_disk_is_a_user_s_own() -> None:
    assert pretrained_note("/model.pt", network()) is None
