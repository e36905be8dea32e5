"""``dim-monai check``: everything that is wrong with a data set, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dim_monai.cli.shared import (
    EXIT_CODES,
    Json,
    Quiet,
    Report,
    Traceback,
    plain_failures,
    print_table,
    progress_bar,
    require_places,
    write_json,
)
from dim_monai.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dim_monai.data.checks import Checked
    from dim_monai.data.labels import LabelMapping

PICTURES = 12
"""Of each domain on a contact sheet: three rows, which a person looks at in one go."""


def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A data set: a folder with datalist.json or with images and labels, or a "
            "datalist.json. Any other folder or image is checked as inference reads it.",
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="RULES",
            help="Which label values form which class, the background first, such as "
            '"background=0,prostate=>0" or "background=0,rim=1,cup=2+3".',
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Take classes and kind from the train.yaml of this bundle: its folder, or the "
            "name of one that comes with dim-monai.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What the images are: volume or photograph. Without it the files tell.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Write a page with up to {PICTURES} pictures of each domain and its labels.",
        ),
    ] = None,
    as_json: Json = False,
    report: Report = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Check a data set, and tell every fault: what training refuses, and what a person should see.

    One line a fault: its code, what is wrong, in which file, what was found, what was expected,
    and what to do. Nothing is changed. Without --classes or --bundle a label may hold any integers
    from 0 to 255, and their volumes are told by value.

    Exit status: 0 if there is no fault, with or without remarks; 3 if there is one.
    """
    with plain_failures(quiet=quiet, traceback=traceback):
        # Imported here, for it takes seconds: help and usage errors do not wait for it.
        from dim_monai.data.checks import check_dataset, detect_kind
        from dim_monai.report.contact_sheet import write_contact_sheet

        require_places(report, html)
        mapping, bundle_kind = _label_classes(classes, bundle)
        with progress_bar("checking", quiet) as progress:
            checked = check_dataset(
                path,
                mapping,
                kind=kind or bundle_kind or detect_kind(path),
                pictures=PICTURES if html else 0,
                progress=progress,
            )
        write_json(checked.as_dict(), report, as_json)
        if html is not None:
            write_contact_sheet(html, checked)
        if not as_json:
            _print_checked(checked)
        if not quiet:
            counts = _count(len(checked.faults), "fault"), _count(len(checked.remarks), "remark")
            read = f"{_count(len(checked.cases), checked.kind)} read ({checked.source})"
            typer.echo(f"{read}: {', '.join(counts)}", err=True)
    if not checked.is_sound:
        raise typer.Exit(EXIT_CODES[DataError])


def _label_classes(
    classes: str | None, bundle: str | None
) -> tuple[LabelMapping | None, str | None]:
    from dim_monai.data.checks.settings import classes_of_bundle, parse_classes
    from dim_monai.shipped import path_of

    if classes is not None and bundle is not None:
        raise ConfigError("label classes given twice", do="pass --classes or --bundle, not both")
    if bundle is not None:
        return classes_of_bundle(path_of(bundle))
    return (None if classes is None else parse_classes(classes)), None


def _print_checked(checked: Checked) -> None:
    from dim_monai.data.checks.table import summary_table

    for line in (*checked.faults, *checked.remarks):
        typer.echo(str(line))
    for note in checked.notes:
        typer.echo(f"note {note}")
    print_table(*summary_table(checked))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
