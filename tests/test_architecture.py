"""Imports run one way: every module is held against the table of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "dim_monai"
PAGE = REPOSITORY / "docs" / "architecture.md"
MATHEMATICS = ("divergence", "sharpness", "mixing", "objectives")


@dataclass(frozen=True)
class Row:
    """What one room may import: rooms of this package, and packages of others."""

    rooms: frozenset[str]
    packages: frozenset[str]


def read_table(page: str) -> dict[str, Row]:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    return {room: Row(_names(rooms) | {"errors"}, _names(others)) for room, rooms, others in rows}


def _names(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", cell))


TABLE = read_table(PAGE.read_text(encoding="utf-8"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """The dotted names that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they come from"
            # "from dim_monai import x" names a room only together with x.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(source: str, room: str, row: Row) -> set[str]:
    """The names that a module of ``room`` imports against its row."""
    wrong = set()
    for name in imported(source):
        package, _, rest = name.partition(".")
        inner = rest.partition(".")[0]
        if package == "dim_monai":
            # The package itself may be asked for its version.
            allowed = inner in {"", "__version__", room} or inner in row.rooms
        else:
            allowed = package in sys.stdlib_module_names or package in row.packages
        wrong |= set() if allowed else {name}
    return wrong


def test_the_table_names_every_room_and_no_other() -> None:
    assert set(TABLE) == {room_of(module) for module in MODULES} - {"__init__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.relative_to(PACKAGE).as_posix())
def test_a_module_imports_what_its_room_may(module: Path) -> None:
    room = room_of(module)
    row = TABLE.get(room, Row(frozenset(), frozenset()))  # dim_monai/__init__.py: nothing
    assert violations(module.read_text(encoding="utf-8"), room, row) == set()


def test_there_is_no_cycle_between_rooms() -> None:
    graph = {room: row.rooms - {room} for room, row in TABLE.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(TABLE)


@pytest.mark.parametrize("room", MATHEMATICS)
def test_the_mathematics_knows_torch_alone(room: str) -> None:
    assert TABLE[room] == Row(frozenset({"errors"}), frozenset({"torch"}))


def test_nobody_imports_the_demo() -> None:
    assert [room for room, row in TABLE.items() if "demo" in row.rooms] == []


def test_dicom_reaches_neither_monai_nor_torch() -> None:
    reached, todo = set(), ["dicom"]
    while todo:
        room = todo.pop()
        reached.add(room)
        todo += TABLE[room].rooms - reached
    assert not {"monai", "torch", "ignite"} & {p for room in reached for p in TABLE[room].packages}


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import torch", set()),
        ("import torch.nn.functional as F", set()),
        ("from dim_monai.errors import DimError", set()),
        ("import dim_monai", set()),
        ("from dim_monai import __version__", set()),
        ("import monai", {"monai"}),
        ("from monai.data import Dataset", {"monai.data.Dataset"}),
        ("def f():\n    import numpy", {"numpy"}),
        ("from dim_monai import engine", {"dim_monai.engine"}),
        ("from dim_monai.engine import x", {"dim_monai.engine.x"}),
    ],
)
def test_what_counts_as_a_violation(source: str, wrong: set[str]) -> None:
    assert violations(source, "sharpness", TABLE["sharpness"]) == wrong
