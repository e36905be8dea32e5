"""Training's config, which evaluates, and inference's mean the same by ``largest_component``."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser

from tests.bundles.examples import Example

KEY = "largest_component"
AFTERWARDS = {"CastToTyped", "SaveImaged", "SqueezeDimd"}  # do not change what a mask says


def load(example: Example, file: str) -> dict[str, Any]:
    config: dict[str, Any] = ConfigParser.load_config_file(example.folder / "configs" / file)
    return config


def masks(config: dict[str, Any], id_: str) -> dict[str, dict[str, Any]]:
    """The transforms that make a mask, in their order, by their names."""
    transforms = {
        transform["_target_"].rpartition(".")[2]: transform
        for transform in ConfigParser(config)[id_]["transforms"]
    }
    return {name: transform for name, transform in transforms.items() if name not in AFTERWARDS}


def test_evaluation_and_inference_keep_the_same_pieces_by_default(example: Example) -> None:
    train, inference = (load(example, file) for file in ("train.yaml", "inference.yaml"))
    assert train[KEY] is inference[KEY] is True  # both bundles segment one organ
    evaluated = masks(train, "evaluate#postprocessing")
    written = masks(inference, "postprocessing")
    assert list(evaluated) == list(written)  # the same steps in the same order
    *_, last = evaluated
    assert last == "RemoveSmallComponentsd"
    assert evaluated[last]["largest"] == written[last]["largest"] == f"@{KEY}"
    assert "smallest" not in evaluated[last]  # 0, as in the panel of inference
    panel = inference["displayable_configs"]
    assert [panel[name] for name in panel if name.startswith("smallest_component")] == [0]


def test_an_overlay_changes_both_or_none(example: Example) -> None:
    """Each is given to all three workflows; what stands below a section would reach one alone."""
    for file in (*example.overlays, *example.methods):
        for name, value in load(example, file).items():
            assert name == KEY or KEY not in f"{name} {value}"
    many = {"vessel.yaml"} & {*example.overlays}
    for file in example.overlays:
        assert load(example, file).get(KEY, True) is (file not in many)
