"""What the documents hold: commands, code, links, headings, tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
BUNDLE_READMES = tuple(sorted(REPOSITORY.glob("bundles/*/docs/README.md")))
PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted(DOCS.rglob("*.md")),
    *BUNDLE_READMES,
)


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def code_lines(page: Path) -> list[str]:
    """The lines of indented code, those that end with a backslash joined with the next."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def bundle_commands(page: Path) -> list[list[str]]:
    """The words of each bundle command of a page, from ``python`` on, also of torchrun."""
    start = "-m monai.bundle run"
    begins = ("python", "torchrun", "CUDA_VISIBLE_DEVICES= torchrun")
    lines = (line for line in code_lines(page) if line.startswith(begins) and start in line)
    return [shlex.split("python " + line[line.index(start) :]) for line in lines]


def dim_monai_commands(page: Path) -> list[list[str]]:
    """The words behind ``dim-monai`` of each such command; a synopsis with brackets is none."""
    lines = (line for line in code_lines(page) if line.startswith("dim-monai "))
    return [shlex.split(line)[1:] for line in lines if " [" not in line]


def named_blocks(page: Path) -> dict[str, str]:
    """The code that stands below each heading of a file's name."""
    blocks = re.findall(
        r"^### `([\w.]+)`\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {name: re.sub(r"^    ", "", block, flags=re.MULTILINE) for name, block in blocks}


def prose(page: Path) -> str:
    """The text without code, in which brackets are no links."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$|`[^`\n]*`(?!\])", "", text, flags=re.MULTILINE)


def links(page: Path) -> list[tuple[str, str]]:
    """Target and anchor of each link; the target of a link within the page is ""."""
    return re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """What a link may name behind its #, as the usual renderers make it of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def first_cells(page: Path, heading: str) -> list[str]:
    """The code in the first cells of the tables whose first heading this is."""
    table = rf"^\| {re.escape(heading)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)"
    rows = "".join(re.findall(table, page.read_text(encoding="utf-8"), re.MULTILINE))
    cells = [line.split("|")[1] for line in rows.splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
