"""Each bundle in turn."""

from __future__ import annotations

import pytest

from tests.bundles.examples import EXAMPLES, Example


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param
