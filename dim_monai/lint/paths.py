"""Paths in strings: none is absolute, none is somebody's own, none leaves the bundle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from dim_monai.lint.expression import Problem
from dim_monai.lint.faults import shown

_ABSOLUTE = re.compile(r"\s*(?:/\S|\\\\\S|~(?:[/\\]|$)|[A-Za-z]:[\\/]|file:)", re.IGNORECASE)
_PERSONAL = re.compile(
    r"(?<![\w.])(?:/home/|/Users/|/root/|[A-Za-z]:[\\/]+Users[\\/]+)[\w.-]+", re.IGNORECASE
)
_LEAVING = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")


def check_path(text: str, *, appended: bool = False) -> Iterator[Problem]:
    """Yield what is wrong with a string if it is a path.

    Args:
        text: any string.
        appended: whether it goes on from another, so that a slash begins no absolute path.
    """
    personal = _PERSONAL.search(text)
    if personal is not None:
        yield Problem("L041", "personal path", shown(personal.group()), "a path of the bundle")
    elif not appended and _ABSOLUTE.match(text):
        yield Problem("L040", "absolute path", shown(text), "one that begins with @bundle_root")
    if is_leaving(text):
        yield Problem("L042", "path that leaves the bundle", shown(text), "a path without ..")


def is_leaving(text: str) -> bool:
    """Tell whether a path has a part ``..``."""
    return _LEAVING.search(text) is not None


def check_prose(text: str) -> Iterator[tuple[int, Problem]]:
    """Yield line, counted from 1, and fault of each personal path in a document."""
    for number, line in enumerate(text.splitlines(), 1):
        personal = _PERSONAL.search(line)
        if personal is not None:
            yield number, Problem("L041", "personal path", shown(personal.group()))


def check_literals(node: ast.AST, *, appended: bool = False) -> Iterator[Problem]:
    """Yield what is wrong with the paths that an expression spells out.

    In ``@output_dir + '/run.json'`` the second string is appended; in
    ``@root + ('/eval' if @dir else '/demo')`` both choices are.
    """
    match node:
        case ast.Constant(value=str(text)):
            yield from check_path(text, appended=appended)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from check_literals(left, appended=appended)
            yield from check_literals(right, appended=True)
        case ast.IfExp(test=test, body=body, orelse=other):
            yield from check_literals(test)
            yield from check_literals(body, appended=appended)
            yield from check_literals(other, appended=appended)
        case _:
            kept = appended and isinstance(node, ast.BoolOp)
            for part in ast.iter_child_nodes(node):
                yield from check_literals(part, appended=kept)
