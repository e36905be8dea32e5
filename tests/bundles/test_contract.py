"""The configs keep MONAI's contract, agree with each other, and stay small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow

from tests.bundles.examples import BUNDLES, EXAMPLES, FUNDUS, PROSTATE, Example, start

# The configs ignore this themselves, but pytest forgets that between the tests of one workflow.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

WORKFLOWS = ("train.yaml", "evaluate.yaml", "inference.yaml", "multi_gpu_train.yaml")
FILES = {
    f"{example.name}/{file}": example.folder / "configs" / file
    for example in EXAMPLES
    for file in (*WORKFLOWS, *example.overlays, *example.methods)
}
METHODS = [name for name in FILES if "/methods/" in name]
OVERLAYS = [name for name in FILES if name.rpartition("/")[2] not in WORKFLOWS]


@pytest.fixture(scope="module")
def train(bundle: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigWorkflow:
    output_dir = str(tmp_path_factory.mktemp("out"))
    return start(bundle, "train.yaml", dataset_dir=str(dataset), output_dir=output_dir)


@pytest.fixture(scope="module")
def inference(bundle: Path, demo: Path, train: ConfigWorkflow) -> ConfigWorkflow:
    network = train.parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    images = str(demo / "test_images")
    return start(bundle, "inference.yaml", kind="inference", dataset_dir=images)


@pytest.fixture(scope="module")
def tested(demo: Path) -> int:
    """Number of test cases."""
    return len(json.loads((demo / "datalist.json").read_text())["test"])


def test_training_has_the_properties_of_a_bundle(train: ConfigWorkflow) -> None:
    assert train.check_properties() == []


def test_evaluation_is_a_training_config_with_an_overlay(
    bundle: Path, dataset: Path, inference: ConfigWorkflow, tmp_path: Path
) -> None:
    files = ("train.yaml", "evaluate.yaml")
    evaluation = start(bundle, *files, dataset_dir=str(dataset), output_dir=str(tmp_path))
    assert evaluation.check_properties() == []


def test_inference_has_the_properties_of_a_bundle(inference: ConfigWorkflow, tested: int) -> None:
    assert inference.check_properties() == []
    assert len(inference.dataset_data) == tested


def test_inference_without_a_folder_is_that_of_the_demo(
    bundle: Path, demo: Path, inference: ConfigWorkflow, tested: int
) -> None:
    place = bundle / "eval" / "demo"
    place.mkdir(parents=True)
    (place / "data").symlink_to(demo)
    (bundle / "models" / "model.pt").rename(place / "model.pt")
    try:
        workflow = start(bundle, "inference.yaml", kind="inference")
    finally:
        (place / "model.pt").rename(bundle / "models" / "model.pt")
    assert workflow.check_properties() == []
    assert workflow.parser.get_parsed_content("output_dir") == str(place / "predictions")
    assert len(workflow.dataset_data) == tested


def test_the_tasks_have_the_names_that_others_call(train: ConfigWorkflow) -> None:
    for name in ("initialize", "run", "finalize"):
        assert isinstance(train.parser[name], list)
    assert train.parser["training"] == "@run"


def test_both_configs_define_one_network(train: ConfigWorkflow, inference: ConfigWorkflow) -> None:
    networks = [flow.parser.get_parsed_content("network_def") for flow in (train, inference)]
    assert repr(networks[0]) == repr(networks[1])
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in networks]
    assert shapes[0] == shapes[1]
    settings = [
        {k: v for k, v in vars(net).items() if isinstance(v, int | float | list)}
        for net in networks
    ]
    assert settings[0] == settings[1]


def test_both_configs_slide_alike(train: ConfigWorkflow, inference: ConfigWorkflow) -> None:
    one, other = (flow.parser.get_parsed_content("plain_inferer") for flow in (train, inference))
    assert type(one) is type(other)
    assert vars(one).keys() == vars(other).keys()
    settings = ("roi_size", "sw_batch_size", "overlap", "mode", "padding_mode", "spatial_dim")
    for setting in settings:
        assert getattr(one, setting, None) == getattr(other, setting, None)


SEEN = {PROSTATE.name: (3, 96, 96), FUNDUS.name: (3, 768)}
"""What the preprocessing of a case begins with: channels, and columns of a square one."""


@pytest.mark.parametrize("case", [0, 1, -1])
def test_both_configs_preprocess_alike(
    example: Example, train: ConfigWorkflow, inference: ConfigWorkflow, case: int
) -> None:
    image = inference.parser.get_parsed_content("dataset#data")[case]["image"]
    images = [
        flow.parser.get_parsed_content(id_)({"image": image})["image"]
        for flow, id_ in ((train, "validate#preprocessing"), (inference, "preprocessing"))
    ]
    begins = SEEN[example.name]
    assert images[0].shape[: len(begins)] == begins
    assert torch.equal(images[0].as_tensor(), images[1].as_tensor())
    assert torch.equal(images[0].affine, images[1].affine)


def test_training_prepares_the_intensities_of_validation(
    example: Example, train: ConfigWorkflow, dataset: Path
) -> None:
    entry = json.loads((dataset / "datalist.json").read_text())["labeled"][0]
    get = train.parser.get_parsed_content
    held = get("train#preprocessing")(dict(entry))
    expected = get("validate#preprocessing")(dict(entry))["image"].as_tensor()
    image = held["image"].as_tensor()
    if image.dtype is torch.uint8:  # a quarter of the memory; scaled after the patch is cut
        image = get("value_transforms")[0]({"image": image})["image"].as_tensor()
    assert torch.equal(image, expected)
    assert float(expected.min()) == pytest.approx(-1, abs=0.01)
    assert float(expected.max()) == pytest.approx(1, abs=0.01)


def test_the_metadata_describe_this_network(example: Example, train: ConfigWorkflow) -> None:
    text = (example.folder / "configs" / "metadata.json").read_text()
    formats = json.loads(text)["network_data_format"]
    image, prediction = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert image["spatial_shape"] == train.parser["roi_size"]
    network = train.parser.get_parsed_content("network_def")
    output = network(torch.zeros(1, image["num_channels"], *image["spatial_shape"]))
    assert output.shape == (1, prediction["num_channels"], *prediction["spatial_shape"])
    classes = list(prediction["channel_def"].values())
    assert classes == list(train.parser["label_classes"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_short_and_repeats_nothing(name: str) -> None:
    file = FILES[name]
    configs = BUNDLES / name.partition("/")[0] / "configs"
    assert len(file.read_text().splitlines()) <= (15 if name in METHODS else 40)
    bases = [ConfigParser.load_config_file(configs / n) for n in ("train.yaml", "inference.yaml")]
    for key, value in ConfigParser.load_config_file(file).items():
        for base in bases:
            section: Any = base
            for part in key.split("#"):
                section = section.get(part, {}) if isinstance(section, dict) else {}
            assert section != value, f"{key} is what it was without the overlay"


def test_a_method_is_the_same_in_every_bundle() -> None:
    """Each bundle has its own copy, because a bundle is passed on alone."""
    contents = {
        example.name: {file: (example.folder / "configs" / file).read_text() for file in methods}
        for example in EXAMPLES
        if (methods := example.methods)
    }
    first, *others = contents.values()
    assert all(other == first for other in others)
    assert len(contents) == len(EXAMPLES)


@pytest.mark.parametrize("name", FILES)
def test_a_config_names_nothing_but_monai_torch_and_dim_monai(name: str) -> None:
    for target in targets(ConfigParser.load_config_file(FILES[name])):
        module = ConfigComponent({"_target_": target}).resolve_module_name()
        assert module.split(".")[0] in {"monai", "torch", "dim_monai"}, target


def test_every_overlay_is_tested() -> None:
    for example in EXAMPLES:
        configs = example.folder / "configs"
        there = {path.relative_to(configs).as_posix() for path in configs.rglob("*.yaml")}
        assert there == {*WORKFLOWS, *example.overlays, *example.methods}


def targets(config: Any) -> Iterator[str]:
    if ConfigComponent.is_instantiable(config):
        yield config["_target_"]
    if isinstance(config, dict | list):
        for value in config.values() if isinstance(config, dict) else config:
            yield from targets(value)
