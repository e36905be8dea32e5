"""What of a config is told as settings."""

from __future__ import annotations

from typing import Any

import pytest

from dim_monai.report.settings import told_settings

PLAIN: dict[str, Any] = {
    "rho": 0.05,
    "max_gradient_norm": None,
    "use_sharpness": True,
    "not_perturbed": ["symmetric"],
    "label_classes": {"background": [0], "prostate": ">0"},
    "dataset_dir": "/data",
}


def test_plain_values_are_told_as_they_are_and_in_their_order() -> None:
    assert list(told_settings(PLAIN).items()) == list(PLAIN.items())


@pytest.mark.parametrize(
    "wiring",
    [
        "$torch.device('cpu')",
        "@rho",
        "%train#preprocessing",
        ["$import torch"],
        {"dataset": {"_target_": "Dataset"}, "inferer": "@plain_inferer"},
        [{"_target_": "Compose", "transforms": []}],
    ],
    ids=str,
)
def test_what_wires_a_config_is_not_told(wiring: Any) -> None:
    assert told_settings({"rho": 1.0, "other": wiring}) == {"rho": 1.0}


def test_a_component_is_told_by_its_class() -> None:
    method = {"_target_": "dim_monai.methods.MiDSS", "weight": "@weight"}
    assert told_settings({"method": method}) == {"method": "dim_monai.methods.MiDSS"}


def test_what_is_run_is_no_setting() -> None:
    assert told_settings({"initialize": ["x"], "run": ["y"], "finalize": []}) == {}
