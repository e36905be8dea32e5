"""Libraries that quote what stands in a header, kept from the log: it holds names."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_QUOTING = ("pydicom", "highdicom")


@contextmanager
def quiet_headers() -> Iterator[None]:
    """Silence what pydicom and highdicom log, and every warning.

    Both quote values that the standard does not allow, such as the name of a patient.
    """
    logs = [logging.getLogger(name) for name in _QUOTING]
    before = [log.disabled for log in logs]
    for log in logs:
        log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled
