"""A bundle whose network marks what is bright."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bundles.examples import FUNDUS, PROSTATE, Example
from tests.e2e.segmenting import threshold_bundle
from tests.predict.scans import overlay


def made(example: Example, folder: Path) -> SimpleNamespace:
    bundle = threshold_bundle(folder, example)
    network = overlay(folder, example)
    return SimpleNamespace(
        folder=bundle, overlay=network, words=("--bundle", bundle, "--overlay", network)
    )


@pytest.fixture(scope="session")
def prostate(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folder of the bundle, overlay of its network, and the words of a command that name both."""
    return made(PROSTATE, tmp_path_factory.mktemp("prostate"))


@pytest.fixture(scope="session")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return made(FUNDUS, tmp_path_factory.mktemp("fundus"))
