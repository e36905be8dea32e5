"""The keys of a config as its text has them: id, default and the comment behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

HIDDEN = frozenset({"imports", "initialize", "run", "training", "finalize"})
"""Keys that say what runs, and in which order: no settings."""

_SECTION = re.compile(r"^# --- (.+?) -+$", re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        id: as on the command line, such as ``train#trainer``.
        default: its value as in the file; of a component its class, of a list of components how
            many there are, of a section that is listed key by key "".
        comment: what stands behind it, or "".
        section: the heading above it, or "".
    """

    id: str
    default: str
    comment: str
    section: str


def keys(text: str) -> list[Key]:
    """Return the keys of a config, top to bottom, without those that only run something.

    Those are: every key of the top, or of its plain sections what is in them; the members of a
    list of components; and within a component whatever has a comment.

    Args:
        text: of a YAML file; one without a mapping has no keys.
    """
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(top, yaml.MappingNode):
        return []
    headings = [(found.start(), found[1]) for found in _SECTION.finditer(text)]
    return [
        Key(id_, default, comment, _last_before(start, headings))
        for id_, default, comment, start in _of_mapping(top, "", text)
        if id_.removeprefix("+") not in HIDDEN
    ]


def header(text: str) -> str:
    """Return the first paragraph of the comment that a file begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


_Row = tuple[str, str, str, int]


def _of_mapping(node: yaml.MappingNode, prefix: str, text: str) -> Iterator[_Row]:
    for name, value in node.value:
        id_ = f"{prefix}{name.value}"
        comment = _comment(name, value, text)
        start = name.start_mark.index
        inner = list(_within(value, id_, text))
        if _is_plain(value) and inner:
            yield from ((id_, "", comment, start),) if comment else ()
        elif name.value != "_target_":
            yield id_, _default(value, text), comment, start
        yield from inner


def _within(value: yaml.Node, id_: str, text: str) -> Iterator[_Row]:
    """Yield what is worth a row of its own below a value."""
    if isinstance(value, yaml.MappingNode) and not _is_flow(value):
        rows = list(_of_mapping(value, f"{id_}#", text))
        telling = [row for row in rows if row[2] or (_is_plain(value) and _has_component(value))]
        # A plain mapping of values is one setting, unless some of them are explained by themselves.
        yield from rows if _is_plain(value) and telling else telling
    elif isinstance(value, yaml.SequenceNode) and not _is_flow(value):
        for number, item in enumerate(value.value):
            if _target(item) is None:
                continue
            line = text[item.start_mark.index :].partition("\n")[0]
            comment = "" if _is_flow(item) else _behind(line)
            yield f"{id_}#{number}", _default(item, text), comment, item.start_mark.index
            yield from (row for row in _within(item, f"{id_}#{number}", text) if row[2])


def _comment(name: yaml.Node, value: yaml.Node, text: str) -> str:
    on_one_line = isinstance(value, yaml.ScalarNode) or _is_flow(value)
    end = value.end_mark.index if on_one_line else name.end_mark.index + 1
    return _behind(text[end:].partition("\n")[0])


def _behind(line: str) -> str:
    found = re.search(r"(?:^|\s)#\s+(.*)", line)
    return found[1].strip() if found else ""


def _default(value: yaml.Node, text: str) -> str:
    if (target := _target(value)) is not None:
        return target
    if isinstance(value, yaml.SequenceNode) and any(_target(item) for item in value.value):
        return f"a list of {len(value.value)}"
    if isinstance(value, yaml.ScalarNode):
        return str(value.value)
    if _is_flow(value):
        return text[value.start_mark.index : value.end_mark.index]
    plain = yaml.safe_load(yaml.serialize(value))
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000).strip()


def _is_flow(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _target(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    values = {name.value: value.value for name, value in node.value}
    return values.get("_target_")


def _is_plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and not _is_flow(node) and _target(node) is None


def _has_component(node: yaml.MappingNode) -> bool:
    return any(_target(value) is not None for _, value in node.value)


def _last_before(start: int, headings: list[tuple[int, str]]) -> str:
    return next((name for at, name in reversed(headings) if at < start), "")
