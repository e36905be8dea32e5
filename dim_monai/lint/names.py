"""Whether a config may name a class, a function or a module."""

from __future__ import annotations

import builtins
import re
from difflib import get_close_matches
from functools import cache

from dim_monai.lint.allowed import (
    DENIED,
    DIM_MONAI_PACKAGES,
    MODULES,
    MONAI_PACKAGES,
    OBJECTS,
    TORCH_PACKAGES,
)
from dim_monai.lint.published import defined_at, defined_below

_PART = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*")

UNLISTED = "it is not among what a config may name"


def refusal_of_target(target: str) -> str | None:
    """Return why ``_target_`` may not be ``target``, or None if it may.

    Args:
        target: a dotted name, or the short name of a class of MONAI.
    """
    return refusal(target) if "." in target else _refusal_of_short(target)


def refusal(dotted: str) -> str | None:
    """Return why a config may not name ``dotted``, or None if it may.

    Args:
        dotted: the full name, such as ``torch.optim.AdamW``.
    """
    if dotted in OBJECTS:
        return None
    parts = dotted.split(".")
    if not all(_PART.fullmatch(part) for part in parts):
        return "it is no dotted name of public names"
    for beginning in (".".join(parts[:n]) for n in range(len(parts), 0, -1)):
        if beginning in DENIED:
            return DENIED[beginning]
    module, _, name = dotted.rpartition(".")
    if parts[0] not in ("dim_monai", "monai"):
        return None if module in TORCH_PACKAGES and is_class(name) else UNLISTED
    known = _classes(module)
    if name not in known:
        return _unknown(name, known | _objects(module))
    return _denial(name) if parts[0] == "monai" else None


def refusal_of_module(module: str) -> str | None:
    """Return why a config may not import ``module``, or None if it may."""
    if not all(_PART.fullmatch(part) for part in module.split(".")):
        return "it is no dotted name of public names"
    root = module.partition(".")[0]
    if root not in MODULES:
        return f"a config imports {', '.join(sorted(MODULES))} and nothing else"
    return None


def _refusal_of_short(name: str) -> str | None:
    """MONAI finds a short name among all its classes and functions, and then among all of Python's.

    Of the two only its classes are taken, and of these only what may be named in full.
    """
    if hasattr(builtins, name):
        return "it is a name of Python itself"
    if not is_class(name):
        return "it is no name of a class; a function is given in full"
    known = _short_names()
    return _denial(name) if name in known else _unknown(name, known)


def is_class(name: str) -> bool:
    """Tell whether a name, or the last part of a dotted name, is written like that of a class."""
    return _CLASS.fullmatch(name.rpartition(".")[2]) is not None


@cache
def _denial(name: str) -> str | None:
    """Return why a class of MONAI may not be named, though its package is allowed."""
    for denied, reason in DENIED.items():
        if denied.startswith("monai.") and name in {*defined_below(denied), *denied.split(".")}:
            return f"{denied} defines it, and {reason}"
    return None


def _classes(module: str) -> frozenset[str]:
    """Return the classes of a module of MONAI or ours that may be named, none of another module."""
    if not _within(module, (*DIM_MONAI_PACKAGES, *MONAI_PACKAGES)):
        return frozenset()
    return frozenset(name for name in defined_at(module) if is_class(name))


def _objects(module: str) -> frozenset[str]:
    """Return what is listed of a module one by one."""
    return frozenset(
        name for name in (o.removeprefix(f"{module}.") for o in OBJECTS) if "." not in name
    )


@cache
def _short_names() -> frozenset[str]:
    return frozenset().union(*(defined_below(package) for package in MONAI_PACKAGES))


def _unknown(name: str, known: frozenset[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"{UNLISTED}; did you mean {close[0]}?" if close else UNLISTED


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)
