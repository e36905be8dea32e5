"""``dim-monai predict``: masks for images as a clinic has them."""

from __future__ import annotations

from pathlib import Path
from traceback import print_exception
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
from dim_monai.errors import one_line

if TYPE_CHECKING:
    from dim_monai.predict.cases import Found
    from dim_monai.predict.run import Outcome
    from dim_monai.predict.session import Session

PARTIAL = 4
"""Exit status where some cases were segmented and some failed."""


def predict(
    given: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A NIfTI file, a DICOM series, a photograph, or any folder tree of them.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for the masks.")],
    bundle: Annotated[
        str,
        typer.Option(
            metavar="BUNDLE",
            help="Folder of a bundle, or the name of one that comes with dim-monai.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its weights. Default: those in the bundle's models."),
    ] = None,
    overlay: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A config merged into inference.yaml, as in training; repeatable."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Such as cpu or cuda:0. Default: a GPU if there is one."),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Segment the mirror image, too, and average: twice the time."),
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write a map of uncertainty beside each mask.")
    ] = False,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Write a DICOM SEG of each DICOM series, too.")
    ] = False,
    keep_all_components: Annotated[
        bool,
        typer.Option(
            "--keep-all-components", help="Keep every piece of a mask, not the largest alone."
        ),
    ] = False,
    allow_missing_slices: Annotated[
        bool,
        typer.Option(
            "--allow-missing-slices",
            help="Take DICOM series with gaps: their masks are empty there, the report says so.",
        ),
    ] = False,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Read and write other cases while the network is at one: faster, more memory.",
        ),
    ] = False,
    as_json: Json = False,
    report: Report = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Segment images: write a mask for each on its own grid, and tell what was taken and what not.

    Each becomes OUT/<relative path>/<case>_seg.nii.gz, or .png of a photograph. A DICOM tree may
    hold anything: what is segmented, and what is skipped, follows stated rules. A case that cannot
    be read is told, and the others go on. Research use only.

    Exit status: 0 if every case was segmented; 2 wrong usage or setting; 3 nothing could be
    segmented; 4 some cases failed; 5 numbers that are not finite; 6 no usable weights.
    """
    with plain_failures(quiet=quiet, traceback=traceback):
        # Imported here, as in `check`.
        from dim_monai.predict.report import kind_of_failure
        from dim_monai.predict.segmenter import Settings
        from dim_monai.predict.session import Request, Session

        require_places(report)
        settings = Settings(model, tuple(overlay or ()), device, tta, keep_all_components)
        session = Session(
            Request(
                given,
                out,
                bundle,
                settings,
                uncertainty,
                dicom_seg,
                allow_missing_slices,
                batch,
            )
        )
        if not quiet:
            if session.segmenter.pretrained:
                typer.echo(f"weights of the bundle: {session.segmenter.pretrained}", err=True)
            _tell_found(session.found)
        try:
            _run(session, quiet=quiet, traceback=traceback)
        finally:
            write_json(session.document(), report, as_json)
        if not as_json:
            _print_table(session)
        if failed := kind_of_failure(session.outcomes):
            if not session.outcomes:
                typer.echo(f"DataError: nothing to segment: {given}", err=True)
            raise typer.Exit(EXIT_CODES[failed])
        if any(outcome.error is not None for outcome in session.outcomes):
            raise typer.Exit(PARTIAL)


def _tell_found(found: Found) -> None:
    for case in found.cases:
        files = f" ({len(case.series.files)} files)" if case.series else ""
        typer.echo(f"take  {one_line(case.name)}{files}", err=True)
        if case.series and case.series.missing:
            slices = ", ".join(map(str, case.series.missing))
            typer.echo(f"      without slices {slices}, counted from 0", err=True)
    for skipped in found.skipped:
        typer.echo(f"skip  {one_line(skipped.name)}: {one_line(skipped.reason)}", err=True)


def _run(session: Session, *, quiet: bool, traceback: bool) -> None:
    from dim_monai.predict.report import failure

    total = len(session.found.cases) + len(session.found.refused)
    with progress_bar("segmenting", quiet) as progress:

        def done(outcome: Outcome) -> None:
            progress(len(session.outcomes), total)
            if outcome.error is not None:
                typer.echo(f"FAIL  {one_line(outcome.name)}: {failure(outcome)}", err=True)
                if traceback:
                    print_exception(outcome.error)
            elif not quiet:
                name, seconds = one_line(outcome.name), f"{outcome.seconds:.1f} s"
                typer.echo(f"done  {name} in {seconds}", err=True)

        session.run(done)


def _print_table(session: Session) -> None:
    from dim_monai.predict.report import table as table_of

    print_table(*table_of(session.outcomes, session.segmenter))
