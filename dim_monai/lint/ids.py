"""Several configs as MONAI merges them: whether every reference and macro meets something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.references import (
    SEPARATOR,
    absolute,
    is_macro,
    macro_file,
    normalized,
    reaches_modules,
    references,
)
from dim_monai.lint.tree import Node

MAX_SUGGESTIONS = 20
"""Closest ids that are looked for in a run: each is compared with all ids."""

MAX_COPIED = 10_000
"""Values that all macros of a config copy together: copies of copies double each time."""

MAX_CIRCLES = 20
"""That are told; nobody mends more at once."""


def check_ids(trees: Sequence[Node], metadata: Node | None = None) -> list[Fault]:
    """Return what does not resolve in a list of configs, the later merged into the former.

    Args:
        trees: of the files, in the order of ``--config_file``.
        metadata: what MONAI adds as ``_meta_``.
    """
    faults: list[Fault] = []
    merged = Node({} if metadata is None else {"_meta_": metadata}, Path())
    for tree in trees:
        for key, node in tree.value.items():
            _merge(merged, key, _copy(node), faults)
    _Macros(merged, faults).resolve(merged, "")
    items = dict(_walk(merged, ""))
    edges = _references(items, faults)
    faults += _circles(items, edges)
    return faults


def _copy(node: Node) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _copy(item) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_copy(item) for item in value]
    return Node(value, node.file, node.line)


def _walk(tree: Node, id_: str) -> Iterator[tuple[str, Node]]:
    for key, node in tree.children():
        inner = f"{id_}{SEPARATOR}{key}" if id_ else key
        yield inner, node
        yield from _walk(node, inner)


def _find(tree: Node, id_: str) -> Node | None:
    """Return what stands at an id, as MONAI's parser looks it up."""
    node = tree
    for key in id_.split(SEPARATOR) if id_ else ():
        try:
            node = node.value[int(key) if isinstance(node.value, list) else key]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return node


def _merge(merged: Node, key: str, node: Node, faults: list[Fault]) -> None:
    """Put one entry of a file in its place; ``+`` extends what is there, otherwise it goes."""
    id_ = normalized(key.removeprefix("+"))
    section, _, name = id_.rpartition(SEPARATOR)
    parent, old = _find(merged, section), _find(merged, id_)
    value = None if parent is None else parent.value
    if key.startswith("+") and old is not None:
        if isinstance(old.value, dict) and isinstance(node.value, dict):
            old.value.update(node.value)
            return
        if isinstance(old.value, list) and isinstance(node.value, list):
            old.value.extend(node.value)
            return
    elif isinstance(value, dict):
        value[name] = node
        return
    elif isinstance(value, list) and old is not None:
        value[int(name)] = node
        return
    what = "nothing to extend" if key.startswith("+") else "nothing to put it in"
    expected = "two mappings or two lists" if old else f"{section} in a config before"
    faults.append(Fault("L033", what, node.file, node.line, id_, expected=expected))


class _Macros:
    """Makes ids absolute and puts copies in the place of macros, in MONAI's order."""

    def __init__(self, merged: Node, faults: list[Fault]) -> None:
        self._merged = merged
        self._faults = faults
        self._left = MAX_COPIED

    def resolve(self, tree: Node, id_: str) -> None:
        for key, node in list(tree.children()):
            inner = f"{id_}{SEPARATOR}{key}" if id_ else key
            self.resolve(node, inner)
            self._absolute(node, inner)
            if isinstance(node.value, str) and is_macro(node.value):
                self._replace(node, inner)
                # Relative ids that came with the copy mean the place they are now in.
                self._absolute(node, inner)
                self.resolve(node, inner)

    def _absolute(self, node: Node, id_: str) -> None:
        if isinstance(node.value, str):
            # A relative id that goes too far up is a fault of that file by itself.
            with suppress(ValueError):
                node.value = absolute(node.value, id_)

    def _replace(self, node: Node, id_: str) -> None:
        macro, target = node.value, node.value[1:]

        def fault(code: str, what: str, expected: str) -> None:
            place = (node.file, node.line, id_, shown(macro), expected)
            self._faults.append(Fault(code, what, *place))

        node.value = None
        if self._left < 0:
            return
        if macro_file(macro):
            fault("L031", "macro of a file", "%id of the same config: a file depends on the shell")
        elif reaches_modules(target):
            fault("L034", "macro of the imports", "%id of something else")
        else:
            found = _find(self._merged, target)
            if found is None:
                fault("L031", "macro of an id that does not exist", "an id of the config")
                return
            inside = [found, *(inner for _, inner in _walk(found, ""))]
            self._left -= len(inside)
            if self._left < 0:
                fault("L002", "macros copy too much", f"at most {MAX_COPIED} values")
            elif any(isinstance(n.value, str) and is_macro(n.value) for n in inside) or any(
                n is node for n in inside
            ):
                fault("L031", "macro of a macro", "%id of what holds no macro")
            else:
                node.value = _copy(found).value


def _references(items: dict[str, Node], faults: list[Fault]) -> dict[str, list[str]]:
    """Return id -> the ids its string refers to; a fault for each that is not there."""
    edges: dict[str, list[str]] = {}
    suggested = 0
    for id_, node in items.items():
        for target in references(node.value) if isinstance(node.value, str) else ():
            place = (node.file, node.line, id_, shown("@" + target))
            if reaches_modules(target):
                what, expected = "reference to the imported modules", "their names in expressions"
                faults.append(Fault("L034", what, *place, expected))
            elif target not in items:
                suggested += 1
                known = list(items) if suggested <= MAX_SUGGESTIONS else []
                close = get_close_matches(target, known, n=1)
                do = f"did you mean @{close[0]}?" if close else None
                what = "reference to an id that does not exist"
                faults.append(Fault("L030", what, *place, "an id of the config", do))
            else:
                edges.setdefault(id_, []).append(target)
    return edges


def _circles(items: dict[str, Node], edges: dict[str, list[str]]) -> Iterator[Fault]:
    """Yield a fault for each reference that closes a circle; a section refers by what is in it."""
    for id_ in items:
        section = id_.rpartition(SEPARATOR)[0]
        if section:
            edges.setdefault(section, []).append(id_)
    found = 0
    done: set[str] = set()
    for start in items:
        path: dict[str, Iterator[str]] = {}
        todo = [start]
        while todo:
            here = todo[-1]
            if here not in path and here not in done:
                path[here] = iter(edges.get(here, ()))
            following = next(path[here], None) if here in path else None
            if following is None:
                path.pop(here, None)
                done.add(here)
                todo.pop()
            elif following in path:
                found += 1
                if found > MAX_CIRCLES:
                    return
                circle = [*list(path)[list(path).index(following) :], following]
                node, got = items[here], " > ".join(circle[:6])
                yield Fault("L032", "references in a circle", node.file, node.line, here, got)
            elif following not in done:
                todo.append(following)
