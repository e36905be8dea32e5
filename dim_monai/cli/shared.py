"""What the commands share: their common options, and how they fail, log and write results."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dim_monai.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DimError,
    NumericError,
    one_line,
)
from dim_monai.files import atomic_write, require_writable

EXIT_CODES: dict[type[DimError], int] = {
    ConfigError: 2,
    DataError: 3,
    NumericError: 5,
    CheckpointError: 6,
}
"""By kind of error; 1 for any other, `INTERRUPTED` for Ctrl-C."""

INTERRUPTED = 130

PLAIN_WIDTH = 120
"""Characters of a table that goes to a file or a pipe, whatever the terminal behind it is."""

ProgressHook = Callable[[int, int], None]
"""Is told how many images are done, and of how many."""

Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the same JSON to FILE as well."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing on the way; errors are still said.")
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Show where in the program an error arose.")
]


@contextmanager
def plain_failures(*, quiet: bool, traceback: bool) -> Iterator[None]:
    """Turn errors into one message and the exit status, and the log into lines on stderr."""
    log = logging.getLogger("dim_monai")
    handler, level = logging.StreamHandler(sys.stderr), log.level
    log.addHandler(handler)
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (DimError, OSError) as error:
        if traceback or isinstance(error, BrokenPipeError):  # the latter is typer's to handle
            raise
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        kinds = (code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
        raise typer.Exit(next(kinds, 1)) from None
    except Exception as error:
        if traceback or isinstance(error, (typer.Exit, typer.Abort)):
            raise
        # Only the kind: what it says may quote the header of a file.
        typer.echo(f"unexpected {type(error).__name__}; --traceback shows where", err=True)
        raise typer.Exit(1) from None
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[ProgressHook]:
    """Show a bar on stderr while images are read; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def require_places(*files: Path | None) -> None:
    """Refuse, before work starts, files of options that could not be written at its end.

    Raises:
        DataError: the folder of one is missing or cannot be written, or it is a folder itself.
    """
    for file in filter(None, files):
        folder = file.absolute().parent
        if not folder.is_dir():
            raise DataError("no such folder", file=folder, do="make it first")
        if file.is_dir():
            raise DataError("a folder, where a file is to be written", file=file, do="name a file")
        require_writable(folder)


def write_json(document: Mapping[str, Any], report: Path | None, as_json: bool) -> None:
    """Write a result to the file of ``--report``, and to stdout for ``--json``."""
    text = json.dumps(document, indent=2) + "\n"
    if report is not None:
        with atomic_write(report, "w") as file:
            file.write(text)
    if as_json:
        typer.echo(text, nl=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, each cell on one line; nothing where it has no row."""
    table = Table(box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, overflow="fold")  # a name is never cut
    for row in rows:
        table.add_row(*map(one_line, row))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    if rows:
        console.print(table)
