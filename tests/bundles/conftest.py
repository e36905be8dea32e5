"""A copy of the bundle and a small data set of three sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles.prostate import copy_bundle, demo_set, small_set


@pytest.fixture(scope="module")
def prostate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundle") / "dim_prostate")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    demo = demo_set(tmp_path_factory)
    return small_set(folder, demo, labeled=1, unlabeled=3, validation=1, test=3)
