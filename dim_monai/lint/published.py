"""Which names an installed package defines, read from its source text; nothing is imported.

A dotted name such as ``torch.os.system`` walks from a package to whatever its modules have
imported. A name that stands here is a class or function that the package itself defines, so no such
walk is possible, and a misspelt name is found as well.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

_DEFINITION = re.compile(r"^(?:class|def|async def) +(\w+)", re.MULTILINE)
_LAMBDA = re.compile(r"^((?:\w+ = )+)lambda\b", re.MULTILINE)
_ALIAS = re.compile(r"^((?:\w+ = )+)\(?\s*(\w+)\s*\)?$", re.MULTILINE)


def defined_at(dotted: str) -> frozenset[str]:
    """Return the public names that the module or package at ``dotted`` defines.

    Those of a package are also what its ``__init__`` imports from its own modules.
    """
    place = _place(dotted)
    return frozenset() if place is None else _names(place)


@cache
def defined_below(dotted: str) -> frozenset[str]:
    """Return the public names that are defined anywhere in the module or package at ``dotted``."""
    place = _place(dotted)
    if place is None:
        return frozenset()
    files = place.parent.rglob("*.py") if place.name == "__init__.py" else [place]
    return frozenset().union(*(_defined(file) for file in files))


@cache
def _root(package: str) -> Path | None:
    """Return the folder of a top-level package; it is found, not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module in the making has none
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _place(dotted: str) -> Path | None:
    package, *modules = dotted.split(".")
    root = _root(package)
    if root is None:
        return None
    folder = root.joinpath(*modules)
    for file in (folder / "__init__.py", folder.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def _names(file: Path) -> frozenset[str]:
    if file.name != "__init__.py":
        return _defined(file)
    own = file.parent.name
    imported = {
        alias.asname or alias.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        and (node.level == 1 or own in (node.module or "").split("."))
        for alias in node.names
        if not (file.parent / alias.name).is_dir()
        and not (file.parent / f"{alias.name}.py").is_file()
    }
    return _defined(file) | {name for name in imported if not name.startswith("_")}


def _defined(file: Path) -> frozenset[str]:
    text = file.read_text(encoding="utf-8")
    names = set(_DEFINITION.findall(text))
    aliases = [*_LAMBDA.findall(text)]
    aliases += [given for given, name in _ALIAS.findall(text) if name in names]
    for given in aliases:
        names.update(given.replace("=", " ").split())
    return frozenset(name for name in names if not name.startswith("_"))
