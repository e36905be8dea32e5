"""The command line of one run of a bundle, for programs that start it as a user would."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def bundle_command(
    run_id: str, configs: Iterable[Path], settings: Mapping[str, object]
) -> list[str]:
    """Return the words of ``python -m monai.bundle run``, for this Python.

    Args:
        run_id: which expressions of the config are run, "training" for instance; "" for all.
        configs: files in the order in which MONAI merges them.
        settings: overrides, by key of the config.
    """
    files = [str(config) for config in configs]
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [run_id] if run_id else []
    command += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    return command
