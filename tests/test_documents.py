"""What the documents tell a user to type or to open is there."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from dim_monai.data.datalist import LISTS, load_saved_datalist
from dim_monai.demo import METHODS

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
BUNDLE_READMES = tuple(sorted(REPOSITORY.glob("bundles/*/docs/README.md")))
CONFIGS = REPOSITORY / "bundles" / "dim_prostate" / "configs"
PAGES = (README, *sorted((REPOSITORY / "docs").glob("*.md")), *BUNDLE_READMES)


def commands(page: Path) -> list[list[str]]:
    """The words of each bundle command of a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines() if line.startswith("    "))
    return [shlex.split(line) for line in lines if line.startswith("python -m monai.bundle run")]


COMMANDS = [command for page in PAGES for command in commands(page)]


def config_of(command: list[str]) -> ConfigParser:
    given = command[command.index("--config_file") + 1]
    files = ast.literal_eval(given) if given.startswith("[") else [given]
    parser = ConfigParser()
    parser.read_config([str(REPOSITORY / file) for file in files])
    return parser


def test_the_readme_and_the_bundles_show_the_three_workflows() -> None:
    for page in (README, *BUNDLE_READMES):
        words = " ".join(" ".join(command) for command in commands(page))
        for config in ("train.yaml", "evaluate.yaml", "inference.yaml"):
            assert config in words


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[-60:])
def test_a_command_names_configs_and_settings_that_exist(command: list[str]) -> None:
    parser = config_of(command)
    named = [word.removeprefix("--") for word in command if word.startswith("--")]
    for setting in named:
        if setting != "config_file":
            assert setting in parser
    run_id = command[4] if not command[4].startswith("--") else "run"
    assert run_id in parser


def test_the_readme_lists_every_overlay() -> None:
    listed = set(re.findall(r"^\| `([\w/]+\.yaml)` \|", README.read_text(), re.MULTILINE))
    assert listed
    for overlay in listed:
        assert (CONFIGS / overlay).is_file()
    assert {f"methods/{file.name}" for file in (CONFIGS / "methods").iterdir()} <= listed
    assert {overlay for overlays in METHODS.values() for overlay in overlays} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_is_short_and_has_one_place_for_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    before, begin, rest = text.partition("<!-- results:begin -->")
    assert begin
    assert rest.count("<!-- results:end -->") == 1
    assert "<!-- results" not in before


def test_the_example_of_a_datalist_is_one(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^    \{$.*?^    \}$", text, re.MULTILINE | re.DOTALL)
    lists = json.loads(example)
    for entry in (entry for entries in lists.values() for entry in entries):
        for path in (tmp_path / entry[key] for key in ("image", "label") if key in entry):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "datalist.json").write_text(example)
    datalist = load_saved_datalist(tmp_path / "datalist.json")
    assert [len(getattr(datalist, name)) for name in LISTS] == [1, 1, 1, 1]
