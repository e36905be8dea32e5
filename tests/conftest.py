"""What all tests share: one thread each, inputs drawn once and for all, the way to real images."""

from __future__ import annotations

import os
from pathlib import Path

# Tiny tensors lose more to threads than they gain. Set before NumPy and torch are imported, and
# inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

# The same inputs in every run, however slow the machine: a change is judged by what it changes. For
# others, `--hypothesis-profile default`.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


# Files of which each takes a minute or more; they begin, so that no process waits for the last of
# them. The rest follows as it is found.
LONG = (
    "test_demo_command.py",
    "test_start.py",
    "test_evidence.py",
    "test_run_checkpoint.py",
    "test_torchrun.py",
    "test_resume.py",
    "test_multi_gpu.py",
    "test_command.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONG` first, in its order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images; tests that ask for it skip where there is none."""
    folder = os.environ.get("DIM_TEST_DATA")
    if not folder:
        pytest.skip("DIM_TEST_DATA is not set: no real images to test with")
    if not Path(folder).is_dir():
        pytest.fail(f"DIM_TEST_DATA names no folder: {folder}")
    return Path(folder)
