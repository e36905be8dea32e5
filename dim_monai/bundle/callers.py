"""Which MONAI object is evaluating the config right now, read from the call stack.

MONAI evaluates a ``$`` expression with the config's own names in scope and nothing else: no id
gives the file it came from, the workflow that runs it or the parser that holds it. All three are
callers of the expression, so they are found where callers stand.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

from monai.bundle import ConfigParser

from dim_monai.errors import ConfigError

T = TypeVar("T")


def frames() -> Iterator[FrameType]:
    """Yield the frames of the call stack, the nearest first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def nearest_self(kind: type[T]) -> T | None:
    """Return the nearest caller that is a method of a ``kind``, or None where there is none."""
    for frame in frames():
        owner = frame.f_locals.get("self")
        if isinstance(owner, kind):
            return owner
    return None


def running_parser() -> ConfigParser:
    """Return the parser of the config that is being evaluated.

    Raises:
        ConfigError: there is none.
    """
    parser = nearest_self(ConfigParser)
    if parser is None:
        raise ConfigError("no config is being evaluated", do="call it from a config")
    return parser
