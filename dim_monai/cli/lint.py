"""``dim-monai lint``: what a bundle would do, read without doing any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dim_monai.cli.shared import (
    EXIT_CODES,
    Json,
    Quiet,
    Report,
    Traceback,
    plain_failures,
    write_json,
)
from dim_monai.errors import DataError


def lint(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="Folder of a bundle, or the name of one that comes with dim-monai.",
        ),
    ],
    config: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Resolve ids in this config alone; given again, it is merged into those before, "
            "as by --config_file. A path, or a name in BUNDLE/configs.",
        ),
    ] = None,
    as_json: Json = False,
    report: Report = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Check a bundle before it is run, without evaluating, importing or loading anything of it.

    One line a fault: its code, what is wrong, in which file, line and id, what was found, what was
    expected, and what to do. A bundle without faults names only what is on the lists of this
    check; that it computes what it says is for a person to judge.

    Exit status: 0 if there is no fault, 3 if there is one.
    """
    with plain_failures(quiet=quiet, traceback=traceback):
        from dim_monai.lint import lint_bundle
        from dim_monai.shipped import path_of

        linted = lint_bundle(path_of(bundle), config or ())
        write_json(linted.as_dict(), report, as_json)
        if not as_json:
            for fault in linted.faults:
                typer.echo(str(fault))
        if not quiet:
            faults = "1 fault" if len(linted.faults) == 1 else f"{len(linted.faults)} faults"
            typer.echo(f"{len(linted.configs)} configs read: {faults}", err=True)
    if not linted.is_sound:
        raise typer.Exit(EXIT_CODES[DataError])
