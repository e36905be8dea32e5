"""What counts as a number."""

from __future__ import annotations

import math

from dim_monai.errors import NumericError


def require_finite(what: str, value: float | None) -> None:
    """Refuse NaN and infinity: such a value must never reach a mean.

    Raises:
        NumericError: the value is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise NumericError(what, got=value, expected="finite")
