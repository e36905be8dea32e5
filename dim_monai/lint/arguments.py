"""Arguments by which a component runs or imports something, although its target is allowed.

MONAI's `LoadImage`, `SaveImage` and `PatchInferer` import a reader, writer or merger that is given
as a dotted name, and call it. A string there is a target like any other. What only becomes a string
at run time cannot be checked: a name is therefore spelt out, or an object of a class is made.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from dim_monai.lint.allowed import ARGUMENTS, NAMING_ARGUMENTS, NAMING_CLASSES, READERS
from dim_monai.lint.expression import Problem, parse
from dim_monai.lint.faults import shown
from dim_monai.lint.names import is_class, refusal_of_target
from dim_monai.lint.references import absolute, evaluated, is_expression
from dim_monai.lint.tree import Node


def check_argument(
    name: str, node: Node, id_: str, modules: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield what is wrong with one value, as an argument of its name.

    Args:
        name: the last part of ``id_``.
        node: the value.
        id_: where it stands.
        modules: name -> module that an import of the bundle gives it.
    """
    value = node.value
    if name in ARGUMENTS and value is not ARGUMENTS[name]:
        expected = str(ARGUMENTS[name]).lower()
        yield Problem("L012", "argument", f"{name}: {shown(value)}", expected)
    elif name in NAMING_ARGUMENTS and not _is_named(node, id_, modules):
        got = shown(value if isinstance(value, str) else type(value).__name__)
        expected = "the name of an allowed class, or an expression that calls one"
        yield Problem("L012", f"{name} that cannot be told", got, expected)
    elif isinstance(value, dict):
        target = value["_target_"].value if "_target_" in value else None
        named = isinstance(target, str) and target.rpartition(".")[2].startswith(NAMING_CLASSES)
        if named and "_mode_" in value:
            yield Problem("L012", "class that imports by name", shown(target), "no _mode_")


def _is_named(node: Node, id_: str, modules: Mapping[str, str]) -> bool:
    value = node.value
    if isinstance(value, list):
        return all(_is_named(item, id_, modules) for item in value)
    if isinstance(value, dict):
        target = value.get("_target_")
        return target is not None and isinstance(target.value, str) and is_class(target.value)
    if not isinstance(value, str):
        return value is None
    if is_expression(value):
        return _is_class_or_call(value, id_, modules)
    return refusal_of_target(value) is None or value.lower() in READERS


def _is_class_or_call(text: str, id_: str, modules: Mapping[str, str]) -> bool:
    """Tell whether an expression is the name of a class, or a call of one."""
    try:
        statement = parse(evaluated(absolute(text, id_)))
    except ValueError:
        return False  # a fault by itself
    node = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(node, ast.Call):
        node = node.func
    name = node.attr if isinstance(node, ast.Attribute) else ""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in modules and is_class(name)
