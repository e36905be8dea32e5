"""A config as a tree of values with their lines: parsed within bounds, nothing constructed.

MONAI reads ``.json`` by `json` and ``.yaml`` by PyYAML's safe loader, so each is parsed by the same
library here: two parsers that differ in one case would be a way around the check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dim_monai.lint.faults import Fault, shown

SUFFIXES = (".json", ".yaml", ".yml")
MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 50
"""Of a config: bytes, values and levels. Ours have 20 kB, a thousand values and eight levels."""

_MAP, _SEQUENCE, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "merge"))
_SCALARS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")
)


@dataclass
class Node:
    """One value of a config.

    Attributes:
        value: a dict of nodes by key, a list of nodes, or a scalar.
        file: where it was read.
        line: counted from 1; None in JSON.
    """

    value: Any
    file: Path
    line: int | None = None

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield key or index and node of what is inside."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from ((str(index), node) for index, node in enumerate(self.value))


class _Unreadable(Exception):
    """Reading stops: the code, what is wrong, the line, what was got."""


def read_tree(file: Path, faults: list[Fault], *, unreadable: str = "L001") -> Node | None:
    """Return the tree of a config file, or None where its faults leave none.

    Args:
        file: with one of `SUFFIXES`.
        faults: takes what is wrong with it.
        unreadable: the code of a file that cannot be parsed.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise _Unreadable("L002", "file is too large", None, f"{size} bytes")
        text = file.read_text(encoding="utf-8")
        read = _read_json if file.suffix.lower() == ".json" else _read_yaml
        tree = read(text, file, faults)
        if not isinstance(tree.value, dict):
            raise _Unreadable("L001", "no mapping", tree.line, shown(tree.value))
        return tree
    except _Unreadable as error:
        code, what, line, got = error.args
        code = unreadable if code == "L001" else code
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        code, what, got = unreadable, "malformed YAML", error.problem
        line = None if mark is None else mark.line + 1
    except RecursionError:
        code, what, line, got = "L002", "nested too deeply", None, None
    except (OSError, ValueError, yaml.YAMLError) as error:
        code, what, line, got = unreadable, "malformed file", None, f"{error}"
    expected = {
        "L002": f"at most {MAX_BYTES} bytes, {MAX_NODES} values, {MAX_DEPTH} levels",
        "L003": "the value itself, or a reference @id",
        "L004": "plain values",
    }
    faults.append(Fault(code, what, file, line, got=got, expected=expected.get(code)))
    return None


def _read_json(text: str, file: Path, faults: list[Fault]) -> Node:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            faults.append(_twice(file, None, twice))
        return mapping

    count = 0

    def node(value: Any, depth: int) -> Node:
        nonlocal count
        count += 1
        _bounded(count, depth, None)
        if isinstance(value, dict):
            value = {key: node(item, depth + 1) for key, item in value.items()}
        elif isinstance(value, list):
            value = [node(item, depth + 1) for item in value]
        return Node(value, file)

    return node(json.loads(text, object_pairs_hook=unique), 1)


def _read_yaml(text: str, file: Path, faults: list[Fault]) -> Node:
    loader = _Composer(text)
    try:
        composed = loader.get_single_node()
        if composed is None:
            return Node({}, file, 1)
        return _node(composed, loader, file, faults)
    finally:
        loader.dispose()


class _Composer(yaml.SafeLoader):
    """Composes nodes within bounds; constructs scalars of plain types only."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, unless it is an alias or the document grows out of bounds."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise _Unreadable("L003", "alias", line, f"*{event.anchor}")
        self._nodes += 1
        self._depth += 1
        _bounded(self._nodes, self._depth, line)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _bounded(nodes: int, depth: int, line: int | None) -> None:
    if nodes > MAX_NODES:
        raise _Unreadable("L002", "too many values", line, f"more than {MAX_NODES}")
    if depth > MAX_DEPTH:
        raise _Unreadable("L002", "nested too deeply", line, f"more than {MAX_DEPTH} levels")


def _node(composed: yaml.Node, loader: _Composer, file: Path, faults: list[Fault]) -> Node:
    line = composed.start_mark.line + 1
    if isinstance(composed, yaml.MappingNode) and composed.tag == _MAP:
        mapping: dict[str, Node] = {}
        for key_node, value_node in composed.value:
            if key_node.tag == _MERGE:
                raise _Unreadable("L003", "merge key", key_node.start_mark.line + 1, "<<")
            key = str(_scalar(key_node, loader))
            if key in mapping:
                faults.append(_twice(file, key_node.start_mark.line + 1, key))
            mapping[key] = _node(value_node, loader, file, faults)
        return Node(mapping, file, line)
    if isinstance(composed, yaml.SequenceNode) and composed.tag == _SEQUENCE:
        return Node([_node(item, loader, file, faults) for item in composed.value], file, line)
    return Node(_scalar(composed, loader), file, line)


def _scalar(composed: yaml.Node, loader: _Composer) -> object:
    line = composed.start_mark.line + 1
    if composed.tag not in _SCALARS:
        plain = composed.tag in (_MAP, _SEQUENCE)  # as a key
        code, what = ("L001", "key that is no word") if plain else ("L004", "tag")
        raise _Unreadable(code, what, line, shown(composed.tag))
    return loader.construct_object(composed)


def _twice(file: Path, line: int | None, key: str) -> Fault:
    do = "take one of them out: only the last is read"
    return Fault("L005", "key given twice", file, line, got=shown(key), do=do)
