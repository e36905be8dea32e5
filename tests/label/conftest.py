"""The fixtures of the bundles' tests: each bundle in turn, and its demo set."""

from tests.bundles.conftest import demo, example

__all__ = ["demo", "example"]
