"""What the documents tell a user to type or to open is there."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from typer.main import get_command

from dim_monai.cli import app
from dim_monai.data.datalist import LISTS, load_saved_datalist
from dim_monai.data.prepare.layouts import LAYOUTS
from dim_monai.demo import METHODS
from dim_monai.divergence import DIVERGENCES
from tests.docs.pages import (
    BUNDLE_READMES,
    DOCS,
    PAGES,
    REPOSITORY,
    anchors,
    bundle_commands,
    code_lines,
    dim_monai_commands,
    first_cells,
    links,
    name_of,
    named_blocks,
)

README = REPOSITORY / "README.md"
INDEX = DOCS / "README.md"
HOW_TO = DOCS / "how-to"
CONFIGS = REPOSITORY / "bundles" / "dim_prostate" / "configs"

COMMANDS = [(page, command) for page in PAGES for command in bundle_commands(page)]
OWN_COMMANDS = [(page, command) for page in PAGES for command in dim_monai_commands(page)]


def label(value: object) -> str | None:
    return " ".join(value)[-60:] if isinstance(value, list) else None


def config_of(page: Path, command: list[str], folder: Path) -> ConfigParser:
    """The configs of a command; those that the page itself gives are written to the folder."""
    given = command[command.index("--config_file") + 1]
    files = ast.literal_eval(given) if given.startswith("[") else [given]
    written = named_blocks(page)
    paths = []
    for file in files:
        path = REPOSITORY / file
        if path.name in written and not path.exists():
            path = folder / path.name
            path.write_text(written[path.name])
        paths.append(str(path))
    parser = ConfigParser()
    parser.read_config(paths)
    return parser


def test_the_readme_and_the_bundles_show_the_three_workflows() -> None:
    for page in (README, *BUNDLE_READMES):
        words = " ".join(" ".join(command) for command in bundle_commands(page))
        for config in ("train.yaml", "evaluate.yaml", "inference.yaml"):
            assert config in words


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=label)
def test_a_command_names_configs_and_settings_that_exist(
    page: Path, command: list[str], tmp_path: Path
) -> None:
    parser = config_of(page, command, tmp_path)
    named = [word.removeprefix("--") for word in command if word.startswith("--")]
    for setting in named:
        if setting != "config_file":
            assert setting in parser
    run_id = command[4] if not command[4].startswith("--") else "run"
    assert run_id in parser


@pytest.mark.parametrize(("page", "command"), OWN_COMMANDS, ids=label)
def test_a_command_of_dim_monai_can_be_parsed(page: Path, command: list[str]) -> None:
    group = get_command(app)
    with group.make_context("dim-monai", list(command)) as context:
        name, subcommand, rest = group.resolve_command(context, list(command))
        with subcommand.make_context(name, rest, parent=context):
            pass
    configs = [word for word in command if word.startswith("bundles/") and "/eval/" not in word]
    for word in configs:
        assert (REPOSITORY / word).exists() or Path(word).name in named_blocks(page), word


def test_every_target_of_make_and_every_program_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    lines = [line for page in PAGES for line in code_lines(page)]
    made = {word for line in lines for word in line.split()[1:] if line.startswith("make ")}
    assert {word for word in made if "=" not in word} <= targets
    modules = {found[1] for line in lines if (found := re.match(r"python -m ([\w.]+)", line))}
    assert {name for name in modules if importlib.util.find_spec(name) is None} == set()
    scripts = {found[1] for line in lines if (found := re.match(r"python (\S+\.py)", line))}
    assert {name for name in scripts if not (REPOSITORY / name).is_file()} == set()


def test_the_readme_lists_every_overlay() -> None:
    listed = set(re.findall(r"^\| `([\w/]+\.yaml)` \|", README.read_text(), re.MULTILINE))
    assert listed
    for overlay in listed:
        assert (CONFIGS / overlay).is_file()
    assert {f"methods/{file.name}" for file in (CONFIGS / "methods").iterdir()} <= listed
    assert {overlay for overlays in METHODS.values() for overlay in overlays} <= listed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_to_headings_in_them(page: Path) -> None:
    for target, anchor in links(page):
        if target.startswith("https://"):
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_is_reached_from_the_first_and_leads_back() -> None:
    pages = set(DOCS.rglob("*.md"))
    leads = {
        page: {(page.parent / target).resolve() for target, _ in links(page) if target}
        for page in pages
    }
    assert leads[INDEX] >= pages - {INDEX}
    assert {page for page in pages - {INDEX} if INDEX not in leads[page]} == set()


def test_the_readme_is_short_and_has_one_place_for_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    before, begin, rest = text.partition("<!-- results:begin -->")
    assert begin
    assert rest.count("<!-- results:end -->") == 1
    assert "<!-- results" not in before


def test_the_example_of_a_datalist_is_one(tmp_path: Path) -> None:
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^    \{$.*?^    \}$", text, re.MULTILINE | re.DOTALL)
    lists = json.loads(example)
    for entry in (entry for entries in lists.values() for entry in entries):
        for path in (tmp_path / entry[key] for key in ("image", "label") if key in entry):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "datalist.json").write_text(example)
    datalist = load_saved_datalist(tmp_path / "datalist.json")
    assert [len(getattr(datalist, name)) for name in LISTS] == [1, 1, 1, 1]


def test_the_tables_of_keys_name_settings() -> None:
    known = ConfigParser()
    known.read_config([str(CONFIGS / name) for name in ("train.yaml", "inference.yaml")])
    named = [key for page in HOW_TO.glob("*.md") for key in first_cells(page, "key")]
    assert named
    assert [key for key in named if key not in known] == []


def test_the_table_of_divergences_is_complete() -> None:
    assert set(first_cells(HOW_TO / "choosing-f-and-rho.md", "`divergence`")) == set(DIVERGENCES)


def test_the_public_sets_have_layouts_that_prepare_reads() -> None:
    text = (HOW_TO / "own-data.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| set | what | terms | `prepare` |\n")
    rows = [line.split("|") for line in table.partition("\n\n")[0].splitlines()[1:]]
    layouts = {name for row in rows for name in re.findall(r"`([\w-]+)`", row[4])}
    assert len(rows) >= 10
    assert layouts <= set(LAYOUTS)
    assert all(re.search(r"`[\w-]+`", row[4]) for row in rows)
