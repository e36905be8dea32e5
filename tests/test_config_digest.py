"""What counts as another setting, of a whole config and of a section of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from monai.bundle import ConfigParser

from dim_monai.bundle import config_digest, section_digest
from dim_monai.bundle.digest import OF_A_START
from dim_monai.errors import ConfigError

CONFIG: dict[str, Any] = {
    "imports": ["$import dim_monai.bundle as bundle"],
    "whole": "$bundle.config_digest()",
    "section": "$bundle.section_digest('train#preprocessing')",
    "cache_dir": "/cache",
    "cache_memory_gb": 4.0,
    "rate": 0.1,
    "size": [96, 96],
    "spacing": 1.25,
    "first": [{"_target_": "Resize", "spatial_size": "$list(@size)[:1] + [@depth]"}],
    "depth": "$2 * @half_depth",
    "half_depth": 8,
    "train": {
        "cache": {"_target_": "Cache", "folder": "@cache_dir"},
        "preprocessing": {"transforms": "$@first + [@second]"},
        "dataset": {"_target_": "Dataset", "cache": "@train#cache"},
        "dataloader": {"_target_": "DataLoader", "num_workers": 0, "seed": 1},
    },
    "second": {"_target_": "Spacing", "pixdim": "@spacing"},
}


def digests(**changes: Any) -> tuple[str, str]:
    parser = ConfigParser(copy.deepcopy(CONFIG))
    for id_, value in changes.items():
        parser[id_.replace("__", "#")] = value
    whole, section = (parser.get_parsed_content(name) for name in ("whole", "section"))
    return whole, section


WHOLE, SECTION = digests()


@pytest.mark.parametrize(
    "change",
    [
        {"size": [96, 64]},
        {"spacing": 1.0},
        {"half_depth": 4},
        {"depth": 16},
        {"second___target_": "Zoom"},
        {"train__preprocessing": {"transforms": []}},
    ],
    ids=str,
)
def test_all_that_a_section_uses_counts(change: dict[str, Any]) -> None:
    whole, section = digests(**change)
    assert whole != WHOLE
    assert section != SECTION


@pytest.mark.parametrize("change", [{"rate": 0.2}, {"train__dataloader__seed": 2}], ids=str)
def test_what_a_section_does_not_use_does_not_count(change: dict[str, Any]) -> None:
    whole, section = digests(**change)
    assert whole != WHOLE
    assert section == SECTION


@pytest.mark.parametrize(
    "change",
    [
        {"cache_dir": "/elsewhere"},
        {"cache_memory_gb": 0.0},
        {"train__cache": None},
        {"train__dataset__cache": None},
        {"train__dataloader__num_workers": 2},
    ],
    ids=str,
)
def test_what_no_batch_depends_on_does_not_count(change: dict[str, Any]) -> None:
    assert digests(**change) == (WHOLE, SECTION)


@pytest.mark.parametrize("key", ["label_classes", "classes"])
def test_the_order_of_classes_counts_and_of_nothing_else(key: str) -> None:
    """The first class is number 0: in another order a label file gives another label."""
    rules = {"background": [0], "zone": [1], "gland": [2]}
    mapping = {"_target_": "LabelMapping", key: rules}
    exchanged = {"_target_": "LabelMapping", key: dict(sorted(rules.items()))}
    other = {"_target_": "LabelMapping", key: {**rules, "gland": [3]}}
    assert list(rules) != list(exchanged[key])
    told, again, *changed = (
        digests(train__preprocessing=section)
        for section in (mapping, dict(reversed(mapping.items())), exchanged, other)
    )
    assert told == again
    assert all(len({first, *others}) == 3 for first, *others in zip(told, *changed, strict=True))


def test_settings_of_the_cache_may_differ_between_two_starts() -> None:
    assert {"cache_dir", "cache_memory_gb"} <= set(OF_A_START)


@pytest.mark.parametrize("digest", [config_digest, lambda: section_digest("train")])
def test_outside_of_a_config_there_is_no_digest(digest: Any) -> None:
    with pytest.raises(ConfigError, match="no config"):
        digest()
