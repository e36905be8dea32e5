"""Whether two runs, or two parts of them, have the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from dim_monai.bundle.callers import running_parser

OF_A_START = (
    "cache_dir",
    "cache_memory_gb",
    "checkpoint_interval",
    "dataset_dir",
    "device",
    "model_file",
    "output_dir",
    "resume",
)
"""Settings that may differ between two starts of one run: where it reads, writes and computes."""

WITHOUT_EFFECT = ("cache", "num_workers")
"""Keys at any level on which no batch depends: how many processes load, and from where."""

IN_ORDER = ("classes", "label_classes")
"""Keys at any level whose names count by their places: the first class is number 0."""


def config_digest(without: Iterable[str] = OF_A_START) -> str:
    """Return the SHA-256 of the config that is being evaluated, as its author wrote it.

    Expressions and references count as their text. What ``--tracking`` adds at the top does not
    count, nor do ``_meta_`` and the keys `WITHOUT_EFFECT`.

    Args:
        without: settings at the top that do not count.

    Raises:
        ConfigError: no config is being evaluated.
    """
    parser = running_parser()
    tracking: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS
    left_out = {*without, ConfigParser.meta_key, *tracking["configs"]}
    config = {key: value for key, value in parser.get().items() if key not in left_out}
    return digest_of(config)


def section_digest(*ids: str) -> str:
    """Return the SHA-256 of sections of the config that is being evaluated, and of what they use.

    Every setting that they refer to counts, and those that these refer to: two configs with the
    same digest do the same in these sections. What does not occur there does not count.

    Args:
        ids: of the sections, such as ``"train#preprocessing"``.

    Raises:
        ConfigError: no config is being evaluated.
    """
    parser = running_parser()
    found: dict[str, Any] = {}
    waiting = list(ids)
    while waiting:
        id_ = waiting.pop()
        if id_ not in found:
            found[id_] = parser.get(id_)
            waiting += ReferenceResolver.find_refs_in_config(found[id_], id_)
    return digest_of(found)


def digest_of(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings; those `WITHOUT_EFFECT` do not count.

    Their order does not count but within those `IN_ORDER`.
    """
    text = json.dumps(_with_effect(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _with_effect(config: Any) -> Any:
    if isinstance(config, Mapping):
        kept = {k: _with_effect(v) for k, v in config.items() if k not in WITHOUT_EFFECT}
        return {k: _listed(v) if k in IN_ORDER else v for k, v in kept.items()}
    return [_with_effect(v) for v in config] if isinstance(config, list) else config


def _listed(names: Any) -> Any:
    return list(names.items()) if isinstance(names, Mapping) else names
