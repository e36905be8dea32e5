"""Write the pages of ``docs/reference`` from the code: ``make docs``.

They hold nothing that is not in the code, so that neither can go its own way. A test compares them
with what this module would write.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path

from dim_monai.cli.predict import PARTIAL
from dim_monai.cli.shared import EXIT_CODES, INTERRUPTED
from dim_monai.data.checks import CODES as CHECK_CODES
from dim_monai.lint import CODES as LINT_CODES
from dim_monai.metrics import (
    EMPTY_MASK_RULE,
    PAPER_RULE,
    SCORE_NAMES,
    SCORING_RULE,
    VCDR_NAMES,
    ClassScore,
    PaperScore,
    ScoreRow,
    Summary,
)
from dim_monai.report.scores import columns, write_paper_csv
from scripts.config_keys import Key, header, keys

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "docs" / "reference"
BUNDLES = ("dim_prostate", "dim_fundus")
COMPLETE = ("train.yaml", "inference.yaml")
"""The configs of a bundle that stand alone; all others are overlays."""

NOTICE = "Written by `make docs` from the code. [All pages](../README.md)"


def pages() -> dict[str, str]:
    """Return every page by the name of its file."""
    written = {
        "command-line.md": command_line(),
        "metrics.md": metrics(),
        "codes.md": codes(),
    }
    return written | {f"{name}.md": settings(REPOSITORY / "bundles" / name) for name in BUNDLES}


def command_line() -> str:
    """Return what typer says of the commands of ``dim-monai``, and the targets of make."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "dim_monai.cli",
        "utils",
        "docs",
        "--name",
        "dim-monai",
    ]
    told = subprocess.run(  # noqa: S603 - our own command
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    _, _, body = told.stdout.partition("\n")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## (.*)$", makefile, re.MULTILINE)
    return _page(
        "Command line",
        "Training, evaluation and inference are commands of MONAI: `python -m monai.bundle run`, "
        "with the settings of [dim_prostate](dim_prostate.md) or [dim_fundus](dim_fundus.md). "
        "What the exit statuses mean stands in [codes](codes.md).",
        "## `dim-monai`",
        body.strip(),
        "## `make`",
        _table(("target", "what it does"), ((f"`make {name}`", does) for name, does in targets)),
    )


def settings(bundle: Path) -> str:
    """Return the keys of every config of a bundle, with their defaults and comments."""
    configs = bundle / "configs"
    overlays = sorted(path for path in configs.rglob("*.yaml") if path.name not in COMPLETE)
    parts = [
        f"Every key is an option of `python -m monai.bundle run`: `--max_epochs 40`, nested ones "
        f"with `#` between the parts: `--train#dataloader#num_workers 2`. A key that does not "
        f"exist is an error. Defaults that begin with `$` are computed and those with `@` or `%` "
        f"are the value of another key; of a component, the class is given. How to use "
        f"them: [README of the bundle](../../bundles/{bundle.name}/docs/README.md).",
    ]
    for name in COMPLETE:
        parts += [f"## `{name}`", *_keys(configs / name)]
    parts.append("## Overlays")
    for path in overlays:
        told = header(path.read_text(encoding="utf-8")).removesuffix(":").removesuffix(".") + "."
        parts += [f"### `{path.relative_to(configs).as_posix()}`", told, *_keys(path)]
    return _page(f"Settings of {bundle.name}", *parts)


def metrics() -> str:
    """Return the columns of the tables of scores, and the rules they are made by."""
    return _page(
        "Tables of scores",
        "An evaluation writes `metrics.csv` with one line per case and region, and the same as "
        "means into `report.html`. Nothing in the file is averaged.",
        "## `metrics.csv`",
        "Of volumes:",
        _columns(columns(SCORE_NAMES["mm"]), _meanings("mm")),
        "Of photographs; the last two numbers where disc and cup are segmented:",
        _columns(columns((*SCORE_NAMES["px"], *VCDR_NAMES)), _meanings("px")),
        "## Rules",
        SCORING_RULE,
        EMPTY_MASK_RULE,
        "## Beside every mean",
        _table(
            ("number", "meaning"),
            (
                (name[2:].replace("_", " "), told)
                for name, told in _told(Summary)
                if name[:2] == "n_"
            ),
        ),
        "## `metrics_paper.csv`",
        "Written with `--paper_protocol True`, one line per slice.",
        _columns(_paper_columns(), _paper_meanings()),
        PAPER_RULE,
    )


def codes() -> str:
    """Return the exit statuses, and the codes of faults."""
    kinds = {kind: inspect.cleandoc(kind.__doc__ or "").partition("\n")[0] for kind in EXIT_CODES}
    statuses = [
        (0, "", "done; of `check` and `lint`: no fault"),
        (1, "", "any other error, such as a disk that is full"),
        *((code, f"`{kind.__name__}`", kinds[kind]) for kind, code in EXIT_CODES.items()),
        (PARTIAL, "", "`predict`: some cases were segmented, some failed"),
        (INTERRUPTED, "", "interrupted"),
    ]
    return _page(
        "Exit statuses and codes",
        "## Exit statuses of `dim-monai`",
        _table(
            ("status", "error", "meaning"), ((str(code), *rest) for code, *rest in sorted(statuses))
        ),
        "`python -m monai.bundle run` ends with 1 for every error; its last line begins with the "
        "kind of error, as above.",
        "## Codes of `dim-monai check`",
        "D is a fault, R a remark. [What to do](../data-checks.md#codes).",
        _table(("code", "meaning"), ((f"`{code}`", text) for code, text in CHECK_CODES.items())),
        "## Codes of `dim-monai lint`",
        "[What to do](../lint.md#codes).",
        _table(("code", "meaning"), ((f"`{code}`", text) for code, text in LINT_CODES.items())),
    )


def _keys(config: Path) -> list[str]:
    """Return the keys of a config as tables, each under its section."""
    parts = []
    known = keys(config.read_text(encoding="utf-8"))
    for section, members in groupby(known, key=lambda key: key.section):
        parts += [f"### {section.partition(':')[0].capitalize()}"] if section else []
        rows = ((f"`{key.id}`", _shown(key), key.comment) for key in members)
        parts.append(_table(("key", "default" if section else "value", "meaning"), rows))
    return parts


def _shown(key: Key) -> str:
    counted = key.default.startswith("a list of ") or not key.default
    return key.default if counted else f"`{key.default}`"


def _columns(names: Iterable[str], meanings: dict[str, str]) -> str:
    return _table(("column", "meaning"), ((f"`{name}`", meanings[name]) for name in names))


def _meanings(unit: str) -> dict[str, str]:
    """Return what each column of a table in this unit means, by the docstrings of its classes."""
    score, row = dict(_told(ClassScore)), dict(_told(ScoreRow))
    # A score whose fields are numbers of their own tells which field stands under which name.
    names = [field.name for field in fields(ClassScore)]
    texts = {"class_name": "", "note": "", "unit": unit}
    probe = ClassScore(**{name: texts.get(name, float(n)) for n, name in enumerate(names)})  # type: ignore[arg-type]
    named = {name: score[names[int(value)]] for name, value in probe.named().items() if value}
    shared = {"class": score["class_name"], "note": score["note"]}
    meanings = row | named | shared | {f"tolerance_{unit}": score["tolerance"]}
    return {name: text.replace("`unit`", unit) for name, text in meanings.items()}


def _paper_columns() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        write_paper_csv(path, [])
        return path.read_text(encoding="utf-8").strip().split(",")


def _paper_meanings() -> dict[str, str]:
    paper = {f"paper_{name}": text for name, text in _told(PaperScore)}
    row = dict(_told(ScoreRow))
    slice_ = {"slice": paper["paper_slice"], "class": dict(_told(ClassScore))["class_name"]}
    return row | paper | slice_ | {"paper_selection": row["selection"]}


def _told(cls: type) -> list[tuple[str, str]]:
    """Return name and meaning of each argument in a Google-style docstring."""
    text = inspect.cleandoc(cls.__doc__ or "")
    block = re.search(r"^Args:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", block[1] if block else "", re.MULTILINE)
    # None is an empty cell in a table.
    return [(name, re.sub(r"\bNone\b", "empty", " ".join(told.split()))) for name, told in entries]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in lines)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", NOTICE, *(part for part in parts if part))) + "\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
