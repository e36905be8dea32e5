"""Whether two runs have the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from dim_monai.bundle.callers import nearest_self
from dim_monai.errors import ConfigError

OF_A_START = (
    "checkpoint_interval",
    "dataset_dir",
    "device",
    "model_file",
    "output_dir",
    "resume",
)
"""Settings that may differ between two starts of one run: where it reads, writes and computes."""


def config_digest(without: Iterable[str] = OF_A_START) -> str:
    """Return the SHA-256 of the config that is being evaluated, as its author wrote it.

    Expressions and references count as their text. What ``--tracking`` adds at the top does not
    count, nor do ``_meta_`` and any ``num_workers``.

    Args:
        without: settings at the top that do not count.

    Raises:
        ConfigError: no config is being evaluated.
    """
    parser = nearest_self(ConfigParser)
    if parser is None:
        raise ConfigError("no config is being evaluated", do="call it from a config")
    tracking: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS
    left_out = {*without, ConfigParser.meta_key, *tracking["configs"]}
    config = {key: value for key, value in parser.get().items() if key not in left_out}
    return digest_of(_without_workers(config))


def _without_workers(config: Any) -> Any:
    """Leave out how many processes load: batches do not depend on it, and one may have died."""
    if isinstance(config, dict):
        return {k: _without_workers(v) for k, v in config.items() if k != "num_workers"}
    return [_without_workers(v) for v in config] if isinstance(config, list) else config


def digest_of(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings, whatever their order."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
