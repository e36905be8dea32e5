"""How a bundle is run, and what its config calls: its place, its settings, plain failures."""

from __future__ import annotations

from dim_monai.bundle.command import bundle_command
from dim_monai.bundle.device import usable_device
from dim_monai.bundle.digest import config_digest, section_digest
from dim_monai.bundle.failures import show_cause_last
from dim_monai.bundle.overrides import check_overrides
from dim_monai.bundle.place import bundle_root, resolve_dataset_dir
from dim_monai.bundle.record import running_config
from dim_monai.bundle.settings import check_settings

__all__ = [
    "bundle_command",
    "bundle_root",
    "check_overrides",
    "check_settings",
    "config_digest",
    "resolve_dataset_dir",
    "running_config",
    "section_digest",
    "show_cause_last",
    "usable_device",
]
