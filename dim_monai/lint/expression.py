"""What an expression of a config may do: arithmetic, choice, and calls of what is listed.

The text is parsed and walked; it is never compiled or run. What is not among the kinds below is
refused, so a kind of syntax that a later Python adds is refused, too.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from dim_monai.lint.allowed import (
    ARGUMENTS,
    BUILTINS,
    DENIED_ATTRIBUTES,
    NAMING_CLASSES,
    SUBSCRIPTED,
)
from dim_monai.lint.faults import shown
from dim_monai.lint.names import refusal, refusal_of_module
from dim_monai.lint.references import IMPORTS, LOOK_UP

MAX_LENGTH = 2000
"""Characters of an expression. The longest of our own has 150."""
MAX_PARTS = 250
"""Nodes of its syntax tree."""
MAX_LOOPS = 2
"""Of all its comprehensions together."""
MAX_EXPONENT = 64

_PLAIN = (ast.Tuple, ast.List, ast.Set, ast.Slice, ast.IfExp, ast.BoolOp, ast.UnaryOp, ast.Compare)
"""Kinds that are fine if their parts are."""
_ARITHMETIC = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.BitAnd, ast.BitOr, ast.BitXor),
)
_KINDS = {
    ast.Lambda: "lambda",
    ast.JoinedStr: "f-string",
    ast.NamedExpr: "assignment",
    ast.Starred: "starred value",
    ast.GeneratorExp: "generator",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
}


class Problem(NamedTuple):
    """A fault of an expression, which does not know where it stands."""

    code: str
    what: str
    got: str | None = None
    expected: str | None = None


def parse(text: str) -> ast.stmt | Problem:
    """Return the one statement of an evaluated expression, or why there is none."""
    if len(text) > MAX_LENGTH:
        return Problem("L025", "expression too long", f"{len(text)} characters", f"{MAX_LENGTH}")
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        got = error.msg if isinstance(error, SyntaxError) else str(error)
        return Problem("L020", "expression cannot be parsed", got)
    if len(body) != 1:
        return Problem("L020", "not one expression", f"{len(body)} statements")
    if sum(1 for _ in ast.walk(body[0])) > MAX_PARTS:
        return Problem("L025", "expression too large", expected=f"at most {MAX_PARTS} parts")
    return body[0]


def check_statement(
    statement: ast.stmt, modules: Mapping[str, str], ids: Collection[str], *, importing: bool
) -> Iterator[Problem]:
    """Yield what is wrong with a parsed expression.

    Args:
        statement: from `parse`.
        modules: name -> module that an import of the bundle gives it.
        ids: what it refers to by @id, which the parsed text looks up.
        importing: whether it stands where modules may be imported.
    """
    if isinstance(statement, ast.Import):
        yield from _imported(statement, importing)
    elif isinstance(statement, ast.ImportFrom):
        got = f"from {statement.module} import ..."
        yield Problem("L024", "import of a name", got, "import MODULE [as NAME]")
    elif not isinstance(statement, ast.Expr):
        kind = type(statement).__name__.lower()
        yield Problem("L021", "statement", kind, "one expression")
    else:
        loops = [node for node in ast.walk(statement) if isinstance(node, ast.comprehension)]
        if len(loops) > MAX_LOOPS:
            yield Problem("L025", "loops", f"{len(loops)}", f"at most {MAX_LOOPS}")
        yield from _Walk(modules, ids, loops).check(statement.value)


def _imported(statement: ast.Import, importing: bool) -> Iterator[Problem]:
    if not importing:
        yield Problem("L024", "import", expected=f"imports in the section {IMPORTS}")
    if len(statement.names) != 1:
        yield Problem("L024", "several imports", expected="one import a line: others are ignored")
    for alias in statement.names:
        reason = refusal_of_module(alias.name)
        if reason is not None:
            yield Problem("L024", "import that is not allowed", shown(alias.name), reason)
        if alias.asname is not None and alias.asname.startswith("_"):
            yield Problem("L024", "import by a private name", shown(alias.asname))


class _Walk:
    """Walks an expression; knows which names are modules and which its own loops bind."""

    def __init__(
        self, modules: Mapping[str, str], ids: Collection[str], loops: list[ast.comprehension]
    ) -> None:
        self._modules = modules
        self._ids = ids
        targets = [node for loop in loops for node in ast.walk(loop.target)]
        self._bound = {node.id for node in targets if isinstance(node, ast.Name)}

    def check(self, node: ast.AST) -> Iterator[Problem]:
        """Yield what is wrong with ``node`` and its parts."""
        match node:
            case ast.Constant():
                return
            case ast.Name() | ast.Attribute():
                yield from self._chain(node)
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=id_)) if (
                name == LOOK_UP and id_ in self._ids
            ):
                return
            case ast.Subscript(value=value, slice=index):
                key = isinstance(index, ast.Constant) and isinstance(index.value, str)
                if not (key and self._dotted(value) in SUBSCRIPTED):
                    yield from self.check(value)
                yield from self.check(index)
            case ast.Call(func=function, args=given, keywords=keywords):
                yield from self._each([function, *given])
                for keyword in keywords:
                    yield from self._keyword(keyword)
            case ast.BinOp(left=left, op=operator, right=right):
                yield from self._operator(left, operator, right)
                yield from self._each([left, right])
            case ast.Dict(keys=keys, values=values):
                if None in keys:
                    yield Problem("L021", "starred value", "**")
                yield from self._each([key for key in keys if key is not None])
                yield from self._each(values)
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                yield from self._each(ast.iter_child_nodes(node))
            case ast.comprehension(target=target, iter=over, ifs=conditions):
                yield from self._target(target)
                yield from self._each([over, *conditions])
            case _ if isinstance(node, _PLAIN):
                parts = ast.iter_child_nodes(node)
                kinds = (ast.expr_context, ast.boolop, ast.unaryop, ast.cmpop)
                yield from self._each(part for part in parts if not isinstance(part, kinds))
            case _:
                kind = _KINDS.get(type(node), type(node).__name__)
                yield Problem("L021", f"{kind} in an expression")

    def _each(self, nodes: Iterator[ast.AST] | list[ast.expr]) -> Iterator[Problem]:
        for node in nodes:
            yield from self.check(node)

    def _dotted(self, node: ast.AST) -> str | None:
        """Return the full name of a chain that begins at a module."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in self._modules and node.id not in self._bound:
            return ".".join([self._modules[node.id], *names])
        return None

    def _chain(self, node: ast.Name | ast.Attribute) -> Iterator[Problem]:
        dotted = self._dotted(node)
        if dotted is not None:
            reason = refusal(dotted)
            if reason is not None:
                yield Problem("L023", "name that is not allowed", shown(dotted), reason)
            elif dotted.rpartition(".")[2].startswith(NAMING_CLASSES):
                yield Problem("L012", "class that imports by name", shown(dotted), "a _target_")
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in BUILTINS:
                yield Problem("L023", "attribute of a built-in", shown(node.attr))
            elif _is_denied(node.attr):
                yield Problem("L023", "attribute that is not allowed", shown(node.attr))
            yield from self.check(node.value)
        elif node.id not in BUILTINS and node.id not in self._bound:
            expected = "@id, an imported module, or " + ", ".join(sorted(BUILTINS))
            yield Problem("L022", "name that is not allowed", shown(node.id), expected)

    def _keyword(self, keyword: ast.keyword) -> Iterator[Problem]:
        if keyword.arg is None:
            yield Problem("L021", "starred value", "**")
        elif keyword.arg in ARGUMENTS:
            safe = ARGUMENTS[keyword.arg]
            if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is safe):
                yield Problem("L012", "argument", keyword.arg, f"{keyword.arg}={safe}")
        yield from self.check(keyword.value)

    def _operator(self, base: ast.expr, operator: ast.operator, by: ast.expr) -> Iterator[Problem]:
        if isinstance(operator, ast.Pow):
            exponent = by.operand if isinstance(by, ast.UnaryOp) else by
            value = exponent.value if isinstance(exponent, ast.Constant) else None
            small = isinstance(value, (int, float)) and abs(value) <= MAX_EXPONENT
            nested = any(isinstance(part, ast.Pow) for part in ast.walk(base))
            if not small or nested:
                expected = f"one power, with a number of at most {MAX_EXPONENT}"
                yield Problem("L025", "power without bounds", expected=expected)
        elif not isinstance(operator, _ARITHMETIC):
            yield Problem("L021", "operator", type(operator).__name__)

    def _target(self, target: ast.expr) -> Iterator[Problem]:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        for name in names:
            if not isinstance(name, ast.Name):
                yield Problem("L021", "assignment to something else than a name")
            elif name.id in self._modules or hasattr(builtins, name.id) or name.id[0] == "_":
                # Outside of the loop the name would be what it was.
                yield Problem("L022", "loop over a name that is taken", shown(name.id))


def _is_denied(attribute: str) -> bool:
    return attribute.startswith("_") or attribute in DENIED_ATTRIBUTES
