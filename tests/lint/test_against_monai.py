"""What the check assumes of MONAI is what the installed MONAI does."""

from __future__ import annotations

import re
from copy import deepcopy

import monai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ComponentLocator, ConfigParser, ReferenceResolver

from dim_monai.lint.allowed import MONAI_PACKAGES, OBJECTS
from dim_monai.lint.ids import check_ids
from dim_monai.lint.names import refusal_of_target
from dim_monai.lint.references import absolute, evaluated, macro_file, references
from dim_monai.lint.tree import Node
from tests.lint.test_expressions import nodes

TEXTS = st.text(alphabet="@%#:$ab1_'. (+[", max_size=14)
IDS = st.lists(st.sampled_from(["a", "b", "1"]), min_size=1, max_size=3).map("::".join)


@given(TEXTS, IDS)
@settings(max_examples=200)
def test_a_relative_id_becomes_the_same_text(text: str, id_: str) -> None:
    try:
        expected = ConfigParser.resolve_relative_ids(id_, text)
    except ValueError:
        with pytest.raises(ValueError, match="relative id"):
            absolute(text, id_)
    else:
        assert absolute(text, id_) == expected


@given(TEXTS)
@settings(max_examples=200)
def test_the_text_that_is_parsed_is_the_text_that_is_evaluated(text: str) -> None:
    text = absolute("$" + text.replace("@#", "").replace("@:", ""), "a::b::c::d::e::f::g")
    found = ReferenceResolver.match_refs_pattern(text)
    assert set(references(text)) == set(found)
    assert evaluated(text) == ReferenceResolver.update_refs_pattern(text, found)[1:]


@given(TEXTS)
def test_a_plain_value_refers_to_the_same_ids(text: str) -> None:
    text = text.replace("#", "::")
    assert set(references(text)) == set(ReferenceResolver.match_refs_pattern(text))


@pytest.mark.parametrize(
    "text",
    ["%a.yaml", "%/x/a.json#b", "%a#b", "%a.yaml.txt", "%a.YML::b", "%a.yamlb", "%x\na.json"],
)
def test_a_macro_reads_a_file_where_monai_reads_one(text: str) -> None:
    assert bool(macro_file(text)) == bool(ConfigParser.split_path_id(text[1:])[0])


def test_short_names_are_those_of_monais_allowed_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dim_monai.lint.names.get_close_matches", lambda *_, **__: [])  # slow
    locator = ComponentLocator()
    locator.get_component_module_name("UNet")
    table = locator._components_table
    inside = tuple(f"{package}." for package in MONAI_PACKAGES)
    accepted = {name for name in table if refusal_of_target(name) is None}
    assert len(accepted) > 900
    for name in accepted:
        assert all(f"{module}.".startswith(inside) for module in table[name])
    refused = {
        module
        for name, modules in table.items()
        if re.fullmatch("[A-Z][A-Za-z0-9]*", name) and name not in accepted
        for module in modules
    }
    # Of the allowed packages only these classes are left out: engines of TensorRT, exporters, and
    # some that are defined within a condition.
    assert {module for module in refused if f"{module}.".startswith(inside)} <= {
        "monai.handlers.trt_handler",
        "monai.losses.perceptual",
        "monai.networks.nets.dints",
        "monai.networks.trt_compiler",
        "monai.networks.utils",
    }


@pytest.mark.parametrize("name", sorted(name for name in OBJECTS if name.startswith("monai.")))
def test_what_the_table_lists_exists(name: str) -> None:
    value: object = monai
    for part in name.split(".")[1:]:
        value = getattr(value, part)


CONFIGS: list[list[dict[str, object]]] = [
    [{"a": 1, "b": "@a"}],
    [{"a": {"b": [1, {"c": "@#0"}]}, "d": "$@a#b#1#c"}],
    [{"a": "@b"}],
    [{"a": "$[@b, @a]", "b": 1}],
    [{"a": "@b", "b": {"c": "@a"}}],
    [{"a": "%b", "b": {"c": 1}, "d": "@a#c"}],
    [{"a": "%b#c", "b": {"c": {"e": "@##f"}, "f": 2}}],
    [{"a": {"b": 1}}, {"a#b": 2, "c": "@a#b"}],
    [{"a": [1]}, {"+a": [2], "c": "@a#1"}],
    [{"a": [1]}, {"+a": [2], "c": "@a#2"}],
    [{"a": [{"b": 1}]}, {"a#-1#b": 2}],
    [{"a": {"b": 1}}, {"x#b": 2}],
    [{"a": {"b": 1}}, {"+a": {"c": "@d"}}],
    [{"a": {"b": 1}}, {"+a": [1]}],
]


@pytest.mark.parametrize("configs", CONFIGS)
def test_a_config_resolves_where_monai_resolves_it(configs: list[dict[str, object]]) -> None:
    trees: list[Node] = [nodes(config) for config in configs]
    configs = deepcopy(configs)  # MONAI changes them
    parser = ConfigParser({})
    try:
        for config in configs:
            for key, value in config.items():
                if key.startswith("+"):
                    old = parser[key[1:]]
                    old.update(value) if isinstance(old, dict) else old.extend(value)
                else:
                    parser[key] = value
        parser.parse()
        for id_ in list(parser.ref_resolver.items):
            parser.get_parsed_content(id_)
    except (KeyError, ValueError, AttributeError, TypeError):
        assert check_ids(trees) != []
    else:
        assert check_ids(trees) == []
