"""What a config may not say: expressions and targets, each refused with its code."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.lint import lint_bundle
from dim_monai.lint.config import check_config, modules_of
from dim_monai.lint.tree import Node
from tests.lint.bundles import bundle, write
from tests.lint.expressions import (
    ALLOWED,
    ALLOWED_COMPONENTS,
    EXPRESSIONS,
    IMPORTS,
    TARGETS,
)


def codes(value: object, **more: object) -> list[str]:
    """The codes of one value of a config, among the imports of the sound bundle."""
    lines = ["$import os", "$import dim_monai.data.source as source"]
    tree = nodes({"imports": lines, **more, "x": value})
    faults: list[object] = []
    found = check_config(tree, modules_of([tree], faults))  # type: ignore[arg-type]
    return [fault.code for fault in (*faults, *found)]  # type: ignore[attr-defined]


def nodes(value: object) -> Node:
    if isinstance(value, dict):
        return Node({key: nodes(item) for key, item in value.items()}, Path("x.yaml"))
    if isinstance(value, list):
        return Node([nodes(item) for item in value], Path("x.yaml"))
    return Node(value, Path("x.yaml"))


@pytest.mark.parametrize("text", ALLOWED)
def test_what_configs_need_is_allowed(text: str) -> None:
    assert codes(f"${text}") == []


@pytest.mark.parametrize("text", ALLOWED_COMPONENTS)
def test_a_component_that_configs_need_is_allowed(text: str) -> None:
    assert codes(json.loads(text)) == []


@pytest.mark.parametrize(("code", "text"), EXPRESSIONS)
def test_an_expression_is_refused(code: str, text: str) -> None:
    assert code in codes(f"${text}")


@pytest.mark.parametrize(("code", "text"), TARGETS)
def test_a_component_is_refused(code: str, text: str) -> None:
    assert code in codes(json.loads(text))


@pytest.mark.parametrize("module", IMPORTS)
def test_an_import_is_refused(module: str) -> None:
    tree = nodes({"imports": ["$import dim_monai.data.source as source", f"$import {module}"]})
    faults: list[object] = []
    found = check_config(tree, modules_of([tree], faults))  # type: ignore[arg-type]
    assert {fault.code for fault in (*faults, *found)} & {"L020", "L024"}  # type: ignore[attr-defined]


def test_a_name_may_not_be_imported_from_a_module() -> None:
    assert codes(1, imports=["$from os import system"]) == ["L024"]


def test_an_overlay_may_not_put_a_target_in_place(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    write(root, "configs/methods/evil.yaml", "net#_target_: os.system\n+train: {_mode_: debug}\n")
    assert [fault.code for fault in lint_bundle(root).faults] == ["L010", "L011"]


def test_two_configs_may_not_give_a_name_two_meanings(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    write(root, "configs/methods/evil.yaml", "+imports: [$import os as source]\n")
    assert [fault.code for fault in lint_bundle(root).faults] == ["L024"]


FORBIDDEN = {
    ast.Lambda: "lambda: 0",
    ast.JoinedStr: "f'{1}'",
    ast.FormattedValue: "f'{1}'",
    ast.NamedExpr: "(y := 1)",
    ast.Starred: "[*[1]]",
    ast.GeneratorExp: "(i for i in [1])",
    ast.Await: "(await 1)",
    ast.Yield: "(yield 1)",
    ast.YieldFrom: "(yield from [1])",
}
WALKS = [
    *("().__class__", "torch.os", "'{}'.format", "eval", "@net.f_back", "numpy.lib", "{**{}}"),
    *("os.system", "__import__", "1 @ 2", "1 << 2", "monai.utils.optional_import", "open"),
]
AROUND = [
    *(
        "[{}]",
        "({},)",
        "{{'a': {}}}",
        "{{{}}}",
        "(0 if {} else 1)",
        "({} if 1 else 0)",
        "len([{}])",
    ),
    *("[i for i in [{}]]", "[i for i in [1] if ({})]", "torch.device({})", "@net.to(x=({}))"),
    *("(not ({}))", "(1 + ({}))", "(({}) * 2)", "[1][({})]", "[1][({}):]", "(1 < ({}))"),
    *("(({}) or 1)", "(({})).real", "(({}))()", "torch.zeros(({}))[0]"),
]


def test_every_kind_of_expression_of_this_python_is_allowed_or_refused() -> None:
    kinds = set(ast.expr.__subclasses__())
    texts = [text.replace("@", "").replace("#", ".") for text in ALLOWED]
    seen = {type(node) for text in texts for node in ast.walk(ast.parse(text))}
    later = {"Interpolation", "TemplateStr"}  # of Python 3.14; refused like all that is not listed
    assert {kind for kind in kinds - seen if kind.__name__ not in later} == set(FORBIDDEN)


@given(
    st.sampled_from([*FORBIDDEN.values(), *WALKS]),
    st.lists(st.sampled_from(AROUND), max_size=4),
)
@settings(max_examples=200)
def test_a_forbidden_part_is_found_however_deep_it_stands(inner: str, around: list[str]) -> None:
    text = inner
    for template in around:
        text = template.format(text)
    assert codes(f"${text}") != []


@given(st.lists(st.sampled_from(AROUND), max_size=3))
@settings(max_examples=100)
def test_the_same_around_an_allowed_part_is_allowed(around: list[str]) -> None:
    text = "1"
    for template in around:
        text = template.format(text)
    assert set(codes(f"${text}")) <= {"L025"}  # more loops than two
