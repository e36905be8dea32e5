"""A logging config: Python evaluates parts of it, so only the plainest of them may stand there.

`logging.config.fileConfig` evaluates ``class``, ``args`` and ``kwargs`` of a handler as Python,
imports the class of a formatter, and from Python 3.12 on evaluates its ``defaults``. They are read
here as it reads them, with its interpolation and its section of defaults.
"""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.tree import MAX_BYTES

HANDLERS = frozenset(
    {"NullHandler", "StreamHandler", "logging.NullHandler", "logging.StreamHandler"}
)
"""Others write to files, sockets or mailboxes."""
FORMATTERS = frozenset({"Formatter", "logging.Formatter"})
FIELDS = ("class", "args", "kwargs")
STREAMS = frozenset({"stderr", "stdout"})

_LITERAL = (
    *(ast.Tuple, ast.List, ast.Dict, ast.Constant, ast.keyword),
    *(ast.UnaryOp, ast.USub, ast.expr_context),
)


def check_logging(file: Path) -> Iterator[Fault]:
    """Yield every fault of a logging config."""
    try:
        if file.stat().st_size > MAX_BYTES:
            yield Fault("L050", "file is too large", file, expected=f"at most {MAX_BYTES} bytes")
            return
        text = file.read_text(encoding="utf-8")
        parser = configparser.ConfigParser()
        parser.read_string(text)
        given = {name: {f: parser.get(name, f, fallback="") for f in FIELDS} for name in parser}
        for name, fields in given.items():
            fields["defaults"] = parser.get(name, "defaults", raw=True, fallback="")
    except (OSError, ValueError, configparser.Error, RecursionError) as error:
        yield Fault("L050", "logging config cannot be read", file, got=" ".join(f"{error}".split()))
        return
    for section, fields in given.items():
        known = FORMATTERS if section.startswith("formatter") else HANDLERS
        for field, value in fields.items():
            expected = "literals, sys.stdout or sys.stderr"
            if field == "class":
                refused, expected = value not in known, " or ".join(sorted(known))
            else:
                refused = not _is_literal(value)
            if value and refused:
                yield _fault(file, text, section, field, value, expected)


def _fault(file: Path, text: str, section: str, field: str, got: str, expected: str) -> Fault:
    lines = [line.strip() for line in text.splitlines()]
    line = lines.index(f"[{section}]") + 1 if f"[{section}]" in lines else None
    what = f"{field} that is evaluated"
    return Fault("L051", what, file, line, section, shown(got), expected)


def _is_literal(text: str) -> bool:
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    todo: list[ast.AST] = [body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Attribute):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id == "sys" and node.attr in STREAMS):
                return False
        elif isinstance(node, _LITERAL):
            todo += ast.iter_child_nodes(node)
        else:
            return False
    return True
