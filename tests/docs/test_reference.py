"""The pages of docs/reference are what the code says now."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from scripts.config_keys import HIDDEN, header, keys
from scripts.reference import BUNDLES, FOLDER, REPOSITORY, pages

CURRENT = pages()

EXAMPLE = """\
# What this is. Overlay:
#
#   a command

# --- where -----------------
folder: $@root + '/a'        # of results
size: [1, 2]   # pixels
plain:         # explained as one
  a: [0]
  b: ">0"
panel:         # explained one by one
  flips: false     # twice the time
  small: 0
net:
  _target_: UNet
  width: 3
  norm: [X, {y: true}]   # not batch
list:
- _target_: Flip   # left and right
  axis: 0          # x
- {_target_: Turn, angle: 1}
run:
- $@net
"""


@pytest.mark.parametrize("name", CURRENT)
def test_a_page_is_current(name: str) -> None:
    # Where this fails: make docs.
    assert (FOLDER / name).read_text(encoding="utf-8") == CURRENT[name]


def test_there_is_no_other_page() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(CURRENT)


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("name", ["train.yaml", "inference.yaml"])
def test_every_key_of_the_top_is_listed_and_every_listed_key_exists(bundle: str, name: str) -> None:
    file = REPOSITORY / "bundles" / bundle / "configs" / name
    parser = ConfigParser()
    parser.read_config(str(file))
    listed = [key.id for key in keys(file.read_text(encoding="utf-8"))]
    assert len(set(listed)) == len(listed)
    assert [id_ for id_ in listed if id_ not in parser] == []
    top = {key for key in parser.get() if key not in HIDDEN and key != ConfigParser.meta_key}
    assert {id_.partition("#")[0] for id_ in listed} == top


def test_keys_of_an_example() -> None:
    found = [(key.id, key.default, key.comment) for key in keys(EXAMPLE)]
    assert found == [
        ("folder", "$@root + '/a'", "of results"),
        ("size", "[1, 2]", "pixels"),
        ("plain", "{a: [0], b: '>0'}", "explained as one"),
        ("panel", "", "explained one by one"),
        ("panel#flips", "false", "twice the time"),
        ("panel#small", "0", ""),
        ("net", "UNet", ""),
        ("net#norm", "[X, {y: true}]", "not batch"),
        ("list", "a list of 2", ""),
        ("list#0", "Flip", "left and right"),
        ("list#0#axis", "0", "x"),
        ("list#1", "Turn", ""),
    ]
    assert {key.section for key in keys(EXAMPLE)} == {"where"}
    assert header(EXAMPLE) == "What this is. Overlay:"


def test_a_text_without_a_mapping_has_no_keys() -> None:
    assert keys("") == []
    assert keys("- 1\n- 2\n") == []
