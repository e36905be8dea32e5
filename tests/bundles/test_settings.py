"""Every config of a bundle refuses settings that it cannot use, before it reads or writes."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from dim_monai.bundle.settings import RULES
from dim_monai.data.source import CONFIG_FILE, RESULTS
from dim_monai.errors import ConfigError
from tests.bundles.examples import EXAMPLES, PROSTATE, Example, start

CHECKS = ["$bundle.check_overrides()", "$bundle.check_settings()"]
CONFIGS = [file for example in EXAMPLES for file in (example.folder / "configs").rglob("*.yaml")]
RUNS = [
    (example, [*base, *overlays])
    for example in EXAMPLES
    for base in (["train.yaml"], ["train.yaml", "evaluate.yaml"], ["inference.yaml"])
    for overlays in [task.overlays for task in example.tasks.values()]
] + [
    (example, ["train.yaml", overlay])
    for example in EXAMPLES
    for overlay in (*example.methods, "multi_gpu_train.yaml")
]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: "/".join(file.parts[-3:]))
def test_every_config_that_starts_a_run_checks_the_values_after_the_names(file: Path) -> None:
    steps = ConfigParser.load_config_file(file).get("initialize", [])
    assert [step for step in steps if "check_" in step] == (CHECKS if steps else [])
    assert steps[1:3] == (CHECKS if steps else [])


def check(example: Example, configs: list[str], **overrides: Any) -> None:
    files = [str(example.folder / "configs" / name) for name in configs]
    workflow = ConfigWorkflow(
        config_file=files, logging_file=False, init_id="check", check=CHECKS[1:], **overrides
    )
    workflow.initialize()


@pytest.mark.parametrize(
    ("example", "configs"), RUNS, ids=lambda v: v.name if isinstance(v, Example) else "+".join(v)
)
def test_a_bundle_as_it_is_passes_with_every_overlay(example: Example, configs: list[str]) -> None:
    check(example, configs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labelled_batch", 0),
        ("roi_size", [90, 90]),
        ("roi_size", 96),
        ("steps_per_epoch", 0),
        ("max_epochs", 0),
        ("learning_rate", "abc"),
        ("learning_rate", -1),
        ("device", "abacus"),
        ("seed", "abc"),
        ("cache_memory_gb", "x"),
        ("use_divergence", "false"),
        ("surface_tolerance", -1),
        ("precision", "bf16"),
        ("divergence", "tvv"),
        ("divergence_compare", "classes"),
        ("sharpness_rule", "SAM"),
        ("not_perturbed", ["symmetry"]),
        ("labelled_batch", 3),
    ],
)
def test_an_unusable_setting_stops_a_training_before_it_reads_or_writes(
    example: Example, tmp_path: Path, name: str, value: Any
) -> None:
    places = {"dataset_dir": str(tmp_path / "absent"), "output_dir": str(tmp_path / "out")}
    with pytest.raises(RuntimeError, match="check_settings") as caught:
        start(example.folder, "train.yaml", **places, **{name: value})
    assert isinstance(caught.value.__cause__, ConfigError)
    assert name in str(caught.value.__cause__)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"divergence_compare": "features", "divergence_layer": "no.such.layer"}, "no.such.layer"),
        ({"model_file": "{folder}/a_file/model.pt"}, "folder cannot be written"),
    ],
    ids=["layer", "model_file"],
)
def test_what_cannot_be_built_leaves_the_results_of_the_last_run(
    example: Example, tmp_path: Path, wish: dict[str, str], why: str
) -> None:
    before = {name: "of the last run" for name in (*RESULTS, "a_file")}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    settings = {name: value.format(folder=tmp_path) for name, value in wish.items()}
    with pytest.raises(RuntimeError, match="SemiSupervisedTrainer") as caught:
        start(example.folder, "train.yaml", output_dir=str(tmp_path), **settings)
    assert why in "".join(traceback.format_exception(caught.value))
    assert {name: (tmp_path / name).read_text() for name in before} == before
    assert not (tmp_path / CONFIG_FILE).exists()


@pytest.mark.parametrize("config", ["train.yaml", "multi_gpu_train.yaml"])
def test_every_training_is_built_before_it_begins_and_after_its_cases_are_checked(
    example: Example, config: str
) -> None:
    steps = ConfigParser.load_config_file(example.folder / "configs" / config)["initialize"]
    order = ["require_sound_training", "require_same_run", "$@train#trainer", "begin_run"]
    found = [next(n for n, step in enumerate(steps) if name in step) for name in order]
    assert found == sorted(found)


@pytest.mark.parametrize("config", ["train.yaml", "inference.yaml"])
def test_the_strides_of_the_volumes_differ_by_axis(config: str) -> None:
    configs = [config, "volumes.yaml"]
    check(PROSTATE, configs, roi_size=[96, 80, 24])
    for size in ([96, 96, 12], [96, 88, 16], [96, 96]):
        with pytest.raises(RuntimeError) as caught:
            check(PROSTATE, configs, roi_size=size)
        assert "multiples of 16 x 16 x 8" in str(caught.value.__cause__)


def test_every_number_and_every_switch_of_a_training_has_a_rule(example: Example) -> None:
    config = ConfigParser.load_config_file(example.folder / "configs" / "train.yaml")
    assert {name for name, value in config.items() if isinstance(value, int | float)} <= set(RULES)


def test_every_rule_is_of_a_setting() -> None:
    configs = [e.folder / "configs" / "train.yaml" for e in EXAMPLES]
    known = set().union(*(ConfigParser.load_config_file(file) for file in configs))
    assert set(RULES) <= known
