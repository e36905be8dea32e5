"""Each bundle in turn: a copy of it, and a small data set of three domains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles.examples import EXAMPLES, Example, copy_bundle, demo_set, small_set


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param


@pytest.fixture(scope="module")
def demo(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_set(tmp_path_factory, example.kind)


@pytest.fixture(scope="module")
def bundle(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle(tmp_path_factory.mktemp("bundle") / example.name, example)


@pytest.fixture(scope="module")
def dataset(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    return small_set(folder, demo, labeled=1, unlabeled=3, validation=1, test=3)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves: it takes longer than these trainings, and has tests of its own."""
    monkeypatch.setattr("dim_monai.report.page.curves_png", lambda curves: b"")
