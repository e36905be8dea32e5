"""One config file: its targets, special keys, expressions and paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from dim_monai.lint.allowed import GLOBALS
from dim_monai.lint.arguments import check_argument
from dim_monai.lint.expression import MAX_LENGTH, Problem, check_statement, parse
from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.names import refusal_of_target
from dim_monai.lint.paths import check_literals, check_path
from dim_monai.lint.references import (
    IMPORTS,
    SEPARATOR,
    absolute,
    evaluated,
    is_expression,
    is_macro,
    normalized,
    references,
)
from dim_monai.lint.tree import Node

_KEY = re.compile(r"\w+")
_TOP_KEY = re.compile(rf"\+?\w+(?:(?:#|{SEPARATOR})(?:\w+|-\d+))*")
_SPECIAL = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_", "_meta_"})
_MODES = ("default", "callable")


def modules_of(trees: Iterable[Node], faults: list[Fault]) -> dict[str, str]:
    """Return name -> module of all imports that the configs of a bundle make.

    MONAI may merge any of them, so a name means the same in all: otherwise one config could make
    harmless expressions of another call something else.
    """
    modules = dict(GLOBALS)
    for tree in trees:
        for id_, node in walk(tree):
            for name, module in _imports(node.value):
                if modules.setdefault(name, module) != module:
                    what, got = "name of two modules", f"{module} as {name}"
                    expected = f"{modules[name]} as in another config"
                    place = (node.file, node.line, id_, got, expected)
                    faults.append(Fault("L024", what, *place))
    return modules


def _imports(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and is_expression(value) and "import" in value:
        statement = parse(normalized(value)[1:])
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.asname or alias.name, alias.name


def walk(tree: Node, id_: str = "") -> Iterator[tuple[str, Node]]:
    """Yield the id and the node of all that is in a config, the outer before the inner."""
    for key, node in tree.children():
        inner = f"{id_}{SEPARATOR}{key}" if id_ else normalized(key.removeprefix("+"))
        yield inner, node
        yield from walk(node, inner)


def check_config(tree: Node, modules: Mapping[str, str]) -> Iterator[Fault]:
    """Yield every fault of a config that stands in one place of it.

    Args:
        tree: of one file.
        modules: from `modules_of`.
    """
    yield from _keys(tree, "", _TOP_KEY)
    for id_, node in walk(tree):
        if isinstance(node.value, dict):
            yield from _keys(node, id_, _KEY)
        name = id_.rpartition(SEPARATOR)[2]
        yield from _at(node, id_, _member(name, node))
        yield from _at(node, id_, check_argument(name, node, id_, modules))
        if isinstance(node.value, str):
            yield from _at(node, id_, _string(node.value, id_, modules))


def _at(node: Node, id_: str, problems: Iterable[Problem]) -> Iterator[Fault]:
    for code, what, got, expected in problems:
        yield Fault(code, what, node.file, node.line, id_, got, expected)


def _keys(tree: Node, id_: str, pattern: re.Pattern[str]) -> Iterator[Fault]:
    for key, node in tree.value.items():
        if not pattern.fullmatch(key):
            # A relative id puts the keys above it into the text that is evaluated.
            expected = "letters, digits and _; # between the parts of an overlay's key"
            what = "key that cannot be part of an id"
            yield Fault("L006", what, node.file, node.line, id_ or None, shown(key), expected)


def _member(name: str, node: Node) -> Iterator[Problem]:
    """Check what a key alone decides; also ``network#_target_`` in an overlay is a target."""
    value = node.value
    if name == "_target_":
        if not isinstance(value, str):
            yield Problem("L010", "target", shown(value), "the name of a class or function")
            return
        reason = refusal_of_target(value)
        if reason is not None:
            yield Problem("L010", "target that is not allowed", shown(value), reason)
    elif name == "_mode_" and value not in _MODES:
        yield Problem("L011", "mode", shown(value), " or ".join(_MODES))
    elif name.startswith("_") and name.endswith("_") and name not in _SPECIAL:
        yield Problem("L011", "special key", name, ", ".join(sorted(_SPECIAL)))


def _string(text: str, id_: str, modules: Mapping[str, str]) -> Iterator[Problem]:
    try:
        text = absolute(text, id_)
    except ValueError as error:
        yield Problem("L030", "relative id that cannot be resolved", str(error))
        return
    if is_expression(text):
        # The length is checked first: to replace many ids in a long text takes long.
        statement = parse(text if len(text) > MAX_LENGTH else evaluated(text))
        if isinstance(statement, Problem):
            yield statement
            return
        importing = id_.split(SEPARATOR)[0] == IMPORTS
        yield from check_statement(statement, modules, references(text), importing=importing)
        yield from check_literals(statement)
    elif not is_macro(text):  # whose ids are checked where configs are merged
        yield from check_path(text)
