"""``dim-monai prepare``: from a folder as it is to a data list."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dim_monai.cli.shared import (
    Json,
    Quiet,
    Report,
    Traceback,
    plain_failures,
    progress_bar,
    write_json,
)


def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The folder of images; it is only read.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder to write datalist.json to; made if needed."),
    ],
    layout: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How SOURCE is laid out. Without it, it is detected."),
    ] = None,
    labeled_domain: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            help="Train and select with labels of this domain only; test cases of all domains keep "
            "theirs.",
        ),
    ] = None,
    labeled: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Train on N labelled cases. Default: all of them."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of every draw.")] = 0,
    validation_fraction: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Of the labelled patients, 0 to below 1, to select by."),
    ] = 0.2,
    test_fraction: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of the labelled patients of each domain, 0 to below 1, to test on, where SOURCE "
            "has no test folder.",
        ),
    ] = 0.0,
    paper_protocol: Annotated[
        bool,
        typer.Option(
            "--paper-protocol",
            help="Take the first N files and no validation, as the reference protocol does. "
            "Results are then marked as selected on test data.",
        ),
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy images and labels to DIR, so that it stands alone.")
    ] = False,
    as_json: Json = False,
    report: Report = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Write a data list for a folder as it is: detect its layout, draw the lists by patient.

    The path of the data list is printed. It holds relative paths where possible, the SHA-256 of
    every file, the seed and this command. Images are not copied unless --copy is given. The same
    command gives the same file.

    Exit status: 0 if the data list was written; 2 or 3, with nothing written, if not.
    """
    with plain_failures(quiet=quiet, traceback=traceback):
        # Imported here, as in `check`.
        from dim_monai.data.datalist import DATALIST_NAME
        from dim_monai.data.prepare.prepare import prepare as write_datalist

        with progress_bar("reading", quiet) as progress:
            prepared = write_datalist(
                source,
                out,
                layout=layout,
                labeled_domain=labeled_domain,
                labeled=labeled,
                seed=seed,
                validation_fraction=validation_fraction,
                test_fraction=test_fraction,
                paper_protocol=paper_protocol,
                copy=copy,
                command=shlex.join(["dim-monai", *sys.argv[1:]]),
                progress=progress,
            )
        file = out / DATALIST_NAME
        document = {
            "schema": 1,
            "datalist": str(file),
            "layout": prepared.layout,
            "kind": prepared.kind,
            "notes": list(prepared.notes),
            "counts": {name: dict(counts) for name, counts in prepared.counts.items()},
        }
        write_json(document, report, as_json)
        if not as_json:
            typer.echo(str(file))
        if not quiet:
            typer.echo(f"layout {prepared.layout}, {prepared.kind}s", err=True)
            for name, counts in prepared.counts.items():
                of_domains = ", ".join(f"{domain} {count}" for domain, count in counts.items())
                typer.echo(f"{name}: {of_domains or 'none'}", err=True)
            for note in prepared.notes:
                typer.echo(f"note {note}", err=True)
