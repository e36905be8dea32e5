"""The versions that are pinned can be installed wherever dim_monai can.

One that asks for a newer Python does not fail at once: pip looks for packages that could do without
it, for as long as one waits.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_installed_version_runs_on_the_oldest_python_that_is_promised() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (promise,) = SpecifierSet(project["requires-python"])
    assert promise.operator == ">="
    wants = {d.name: d.metadata.get("Requires-Python") or "" for d in distributions()}
    assert len(wants) > 50
    oldest = f"{promise.version}.2"  # of Debian 12; a pin may refuse what was before it
    refused = {name: want for name, want in wants.items() if oldest not in SpecifierSet(want)}
    assert not refused
