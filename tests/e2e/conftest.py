"""Each bundle in turn, as in the tests of the bundles."""

from __future__ import annotations

from tests.bundles.conftest import _no_curves, example

__all__ = ["_no_curves", "example"]
