"""The configs keep MONAI's contract, agree with each other, and stay small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow

from dim_monai.data.demo import SPLIT
from tests.bundles.prostate import BUNDLE, demo_set, start

# The configs ignore this themselves, but pytest forgets that between the tests of one workflow.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

CONFIGS = BUNDLE / "configs"
METHODS = sorted(CONFIGS.glob("methods/*.yaml"))
OVERLAYS = [*METHODS, CONFIGS / "zones.yaml", CONFIGS / "volumes.yaml"]
WORKFLOWS = [CONFIGS / name for name in ("train.yaml", "evaluate.yaml", "inference.yaml")]


@pytest.fixture(scope="module")
def train(
    prostate: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> ConfigWorkflow:
    output_dir = str(tmp_path_factory.mktemp("out"))
    return start(prostate, "train.yaml", dataset_dir=str(dataset), output_dir=output_dir)


@pytest.fixture(scope="module")
def inference(
    prostate: Path, train: ConfigWorkflow, tmp_path_factory: pytest.TempPathFactory
) -> ConfigWorkflow:
    network = train.parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), prostate / "models" / "model.pt")
    images = str(demo_set(tmp_path_factory) / "test_images")
    return start(prostate, "inference.yaml", kind="inference", dataset_dir=images)


def test_training_has_the_properties_of_a_bundle(train: ConfigWorkflow) -> None:
    assert train.check_properties() == []


def test_evaluation_is_a_training_config_with_an_overlay(
    prostate: Path, dataset: Path, inference: ConfigWorkflow, tmp_path: Path
) -> None:
    files = ("train.yaml", "evaluate.yaml")
    evaluation = start(prostate, *files, dataset_dir=str(dataset), output_dir=str(tmp_path))
    assert evaluation.check_properties() == []


def test_inference_has_the_properties_of_a_bundle(inference: ConfigWorkflow) -> None:
    assert inference.check_properties() == []
    assert len(inference.dataset_data) == sum(SPLIT["test"].values())


def test_inference_without_a_folder_is_that_of_the_demo(
    prostate: Path, inference: ConfigWorkflow, tmp_path_factory: pytest.TempPathFactory
) -> None:
    demo = prostate / "eval" / "demo"
    demo.mkdir(parents=True)
    (demo / "data").symlink_to(demo_set(tmp_path_factory))
    (prostate / "models" / "model.pt").rename(demo / "model.pt")
    try:
        workflow = start(prostate, "inference.yaml", kind="inference")
    finally:
        (demo / "model.pt").rename(prostate / "models" / "model.pt")
    assert workflow.check_properties() == []
    assert workflow.parser.get_parsed_content("output_dir") == str(demo / "predictions")
    assert len(workflow.dataset_data) == sum(SPLIT["test"].values())


def test_the_tasks_have_the_names_that_others_call(train: ConfigWorkflow) -> None:
    for name in ("initialize", "run", "training", "finalize"):
        assert isinstance(train.parser[name], list)
    assert train.parser["training"] == train.parser["run"]


def test_both_configs_define_one_network(train: ConfigWorkflow, inference: ConfigWorkflow) -> None:
    networks = [flow.parser.get_parsed_content("network_def") for flow in (train, inference)]
    assert repr(networks[0]) == repr(networks[1])
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in networks]
    assert shapes[0] == shapes[1]


def test_both_configs_slide_alike(train: ConfigWorkflow, inference: ConfigWorkflow) -> None:
    one, other = (flow.parser.get_parsed_content("inferer") for flow in (train, inference))
    assert type(one) is type(other)
    assert vars(one).keys() == vars(other).keys()
    settings = ("roi_size", "sw_batch_size", "overlap", "mode", "padding_mode", "spatial_dim")
    assert {s: getattr(one, s) for s in settings} == {s: getattr(other, s) for s in settings}


@pytest.mark.parametrize("site", [0, 2, 4])
def test_both_configs_preprocess_alike(
    train: ConfigWorkflow, inference: ConfigWorkflow, site: int
) -> None:
    image = inference.parser.get_parsed_content("dataset#data")[site]["image"]
    images = [
        flow.parser.get_parsed_content(id_)({"image": image})["image"]
        for flow, id_ in (
            (train, "train#preprocessing"),
            (train, "validate#preprocessing"),
            (inference, "preprocessing"),
        )
    ]
    assert images[0].shape[:3] == (1, 96, 96)
    for other in images[1:]:
        assert torch.equal(images[0].as_tensor(), other.as_tensor())
        assert torch.equal(images[0].affine, other.affine)


def test_the_metadata_describe_this_network(train: ConfigWorkflow) -> None:
    formats = json.loads((CONFIGS / "metadata.json").read_text())["network_data_format"]
    image, prediction = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert image["spatial_shape"] == train.parser["roi_size"]
    network = train.parser.get_parsed_content("network_def")
    output = network(torch.zeros(1, image["num_channels"], *image["spatial_shape"]))
    assert output.shape == (1, prediction["num_channels"], *prediction["spatial_shape"])
    classes = list(prediction["channel_def"].values())
    assert classes == list(train.parser["label_classes"])


@pytest.mark.parametrize("file", OVERLAYS, ids=lambda file: file.stem)
def test_an_overlay_is_short_and_repeats_nothing(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= (15 if file in METHODS else 40)
    bases = [ConfigParser.load_config_file(CONFIGS / n) for n in ("train.yaml", "inference.yaml")]
    for key, value in ConfigParser.load_config_file(file).items():
        for base in bases:
            section: Any = base
            for part in key.split("#"):
                section = section.get(part, {}) if isinstance(section, dict) else {}
            assert section != value, f"{key} is what it was without the overlay"


@pytest.mark.parametrize("file", [*WORKFLOWS, *OVERLAYS], ids=lambda file: file.stem)
def test_a_config_names_nothing_but_monai_torch_and_dim_monai(file: Path) -> None:
    for target in targets(ConfigParser.load_config_file(file)):
        module = ConfigComponent({"_target_": target}).resolve_module_name()
        assert module.split(".")[0] in {"monai", "torch", "dim_monai"}, target


def targets(config: Any) -> Iterator[str]:
    if ConfigComponent.is_instantiable(config):
        yield config["_target_"]
    if isinstance(config, dict | list):
        for value in config.values() if isinstance(config, dict) else config:
            yield from targets(value)
