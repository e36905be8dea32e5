"""The settings of a run, as they are kept beside its results."""

from __future__ import annotations

import copy
from typing import Any

from monai.bundle import ConfigParser

from dim_monai.bundle.callers import running_parser


def running_config() -> dict[str, Any]:
    """Return the config that is being evaluated, with its overlays and overrides, to run again.

    Expressions and references stay text, but for ``bundle_root``, which becomes the folder itself:
    a copy of the config may stand anywhere. The content of ``metadata.json`` is left out.

    Raises:
        ConfigError: no config is being evaluated.
    """
    parser = running_parser()
    config = copy.deepcopy({k: v for k, v in parser.get().items() if k != ConfigParser.meta_key})
    if "bundle_root" in config:
        config["bundle_root"] = parser.get_parsed_content("bundle_root")
    return config
