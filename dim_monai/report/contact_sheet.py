"""One HTML page that shows what a data set looks like, because people look rather than read."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from dim_monai.data.checks.result import Checked
from dim_monai.data.checks.sample import Sample
from dim_monai.data.checks.table import summary_table
from dim_monai.files import atomic_write
from dim_monai.report.drawing import PREDICTION, TRUTH

COLOURS = (TRUTH.colour, PREDICTION.colour, "#009E73", "#F0E442", "#CC79A7")
"""Of the outlines, class by class, then again from the first: of Okabe and Ito, as the report's."""

WIDTH = 240
"""Of a thumbnail, px: four stand beside each other, and a page of 100 stays below 2 MB."""

_JPEG = {"quality": 85, "subsampling": 0}  # without subsampling, or thin outlines lose their colour


def write_contact_sheet(path: str | os.PathLike[str], checked: Checked) -> None:
    """Write the samples of a checked data set as one self-contained HTML file, whole or absent.

    The page holds faults, remarks, the summary table, and per domain the pictures with the outline
    of every class. It has no script and loads nothing. All text is escaped.

    Args:
        path: the file to write or replace.
        checked: with samples.

    Raises:
        OSError: the file cannot be written; an older one is then left as it was.
    """
    headings, rows = summary_table(checked)
    by_domain = sorted(checked.samples, key=lambda sample: sample.domain)
    environment = Environment(
        loader=PackageLoader("dim_monai.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("contact_sheet.html.j2").render(
        checked=checked,
        headings=headings,
        rows=rows,
        legend=_legend(checked),
        domains=[
            (domain, [_picture(sample) for sample in samples])
            for domain, samples in groupby(by_domain, key=lambda sample: sample.domain)
        ],
    )
    with atomic_write(path, "w") as file:
        file.write(page)


def thumbnail(sample: Sample) -> NDArray[np.uint8]:
    """Return a sample `WIDTH` pixels wide with the outline of each class, uint8 (rows, columns, 3).

    A pixel is on the outline of a class if it is of the class and one of its four neighbours is
    not, so that an outline lies within its structure. Large images are reduced by averaging, small
    ones enlarged.
    """
    rows, columns = sample.pixels.shape[:2]
    size = WIDTH, max(1, round(WIDTH * rows * sample.aspect / columns))
    picture = Image.fromarray(sample.pixels).convert("RGB")
    drawn = np.array(picture.resize(size, Image.Resampling.BOX if columns > WIDTH else _SMOOTH))
    if sample.classes is not None:
        flat = Image.fromarray(np.ascontiguousarray(sample.classes, dtype=np.uint8))
        classes = np.asarray(flat.resize(size, Image.Resampling.NEAREST))
        for index in np.unique(classes[classes > 0]):
            drawn[_outline(classes == index)] = _rgb(_colour(int(index)))
    return drawn


_SMOOTH = Image.Resampling.BICUBIC


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _picture(sample: Sample) -> dict[str, object]:
    drawn = thumbnail(sample)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "JPEG", **_JPEG)
    label = "no label" if sample.classes is None else "outlines of its label"
    where = f", {sample.where}" if sample.where else ""
    return {
        "address": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        "alt": f"{sample.case}{where}, {label}",
        "case": sample.case,
        "where": sample.where,
        "labelled": sample.classes is not None,
        "width": drawn.shape[1],
        "height": drawn.shape[0],
    }


def _legend(checked: Checked) -> list[tuple[str, str]]:
    """Name and colour of each class that is outlined somewhere."""
    seen: set[int] = set()
    for sample in checked.samples:
        seen |= set() if sample.classes is None else set(np.unique(sample.classes).tolist()) - {0}
    return [(_name(checked.class_names, index), _colour(index)) for index in sorted(seen)]


def _name(class_names: Sequence[str], index: int) -> str:
    return class_names[index] if class_names else f"value {index}"


def _colour(index: int) -> str:
    return COLOURS[(index - 1) % len(COLOURS)]


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
