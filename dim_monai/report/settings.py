"""The settings of a run as a reader wants them: values, without the config's own wiring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TARGET = "_target_"
_WIRING = ("$", "@", "%")
_STEPS = ("initialize", "run", "finalize")


def told_settings(config: Mapping[str, Any]) -> dict[str, object]:
    """Return what a config says at its top in plain values.

    Expressions, references and macros are left out, and so are sections of components; a component
    is told by its class.

    Args:
        config: as :func:`dim_monai.bundle.running_config` returns it.
    """
    settings = {name: _class_of(value) for name, value in config.items() if name not in _STEPS}
    return {name: value for name, value in settings.items() if _is_plain(value)}


def _class_of(value: Any) -> Any:
    return value.get(TARGET, value) if isinstance(value, dict) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return TARGET not in value and all(_is_plain(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return not (isinstance(value, str) and value.startswith(_WIRING))
