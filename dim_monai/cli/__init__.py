"""The commands ``dim-monai prepare``, ``check``, ``predict`` and ``lint``: parse, call, report.

Standard output holds the result and nothing else; what is said on the way goes to standard error.
"""

from __future__ import annotations

from typing import Annotated

import typer

from dim_monai import __version__
from dim_monai.cli.check import check
from dim_monai.cli.lint import lint
from dim_monai.cli.predict import predict
from dim_monai.cli.prepare import prepare

app = typer.Typer(
    name="dim-monai",
    help="Semi-supervised segmentation of medical images: prepare data sets, check them, segment.",
    epilog="Exit status: 0 fine, 2 wrong usage or setting, 3 bad data, 4 some cases failed, "
    "5 numbers that are not finite, 6 no usable weights, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, which is the same in every terminal and in a pipe
)

app.command()(prepare)
app.command()(check)
app.command()(predict)
app.command()(lint)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
