"""The sheet shows each sample with its outlines, says every fault, and loads nothing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.result import Checked
from dim_monai.data.checks.sample import Sample
from dim_monai.report.contact_sheet import COLOURS, WIDTH, thumbnail, write_contact_sheet

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Tags in order and visible text; refuses a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += f" {data}"


def sample(case: str = "c1", domain: str = "north", labelled: bool = True) -> Sample:
    pixels = np.zeros((120, 160), np.uint8)
    classes = np.zeros((120, 160), np.uint8)
    classes[30:90, 40:120], classes[50:70, 60:100] = 1, 2
    return Sample(case, domain, "slice 3 of 7", pixels, classes if labelled else None, 1.0)


def checked(*samples: Sample) -> Checked:
    return Checked(
        path=f"/data/{HOSTILE}",
        kind="volume",
        source="a list",
        notes=("nothing was selected",),
        faults=(Fault("D103", "image is constant", f"/data/{HOSTILE}.nii"),),
        remarks=(Fault("R002", "labels that no case uses", "/data/labels"),),
        cases=(),
        domains=(),
        samples=samples,
        class_names=("background", "rim", "cup"),
    )


def write(tmp_path: Path, what: Checked) -> str:
    write_contact_sheet(tmp_path / "sheet.html", what)
    return (tmp_path / "sheet.html").read_text(encoding="utf-8")


def is_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    return (pixels == np.array(list(bytes.fromhex(colour[1:])))).all(axis=-1)


def test_each_class_is_outlined_in_its_colour_within_itself() -> None:
    given = sample()
    drawn = thumbnail(given)
    assert drawn.shape == (WIDTH * 120 // 160, WIDTH, 3)
    scale = WIDTH / 160
    for index, (colour, (first, last)) in enumerate(
        zip(COLOURS, [((30, 40), (90, 120)), ((50, 60), (70, 100))], strict=False), start=1
    ):
        outline = np.argwhere(is_colour(drawn, colour)) / scale
        # As far as the rectangle goes, but for the pixel that the scaling rounds to.
        assert np.abs(outline.min(axis=0) - first).max() <= 1, index
        assert np.abs(outline.max(axis=0) - last).max() <= 1, index
        middle = (drawn.shape[0] // 2, int((first[1] + 5) * scale))
        assert not is_colour(drawn[middle], colour)


def test_without_a_label_the_picture_stays_as_it_is() -> None:
    assert not thumbnail(sample(labelled=False)).any()


@pytest.mark.parametrize(("aspect", "height"), [(0.5, 90), (1.0, 180), (2.0, 360)])
def test_pixels_become_square(aspect: float, height: int) -> None:
    assert thumbnail(replace(sample(), aspect=aspect)).shape[0] == height


def test_a_photograph_keeps_its_colours() -> None:
    pixels = np.full((300, 400, 3), (200, 100, 50), np.uint8)
    drawn = thumbnail(Sample("p", "camera", "", pixels, None, 1.0))
    assert drawn.shape == (180, 240, 3)
    assert (drawn == (200, 100, 50)).all()


def test_every_sample_fault_and_note_is_on_the_page(tmp_path: Path) -> None:
    samples = [sample("c1", "south"), sample("c2"), sample(HOSTILE, labelled=False)]
    html = write(tmp_path, checked(*samples))
    page = Page(html)
    for words in ("D103 image is constant", "R002 labels", "nothing was selected", "rim", "cup"):
        assert words in page.words
    assert page.words.index("north") < page.words.index("south")
    assert [picture["alt"] for picture in page.pictures] == [
        "c2, slice 3 of 7, outlines of its label",
        f"{HOSTILE}, slice 3 of 7, no label",
        "c1, slice 3 of 7, outlines of its label",
    ]
    assert all(picture["loading"] == "lazy" for picture in page.pictures)
    for address in re.findall(r"data:image/jpeg;base64,([^\"]+)", html):
        picture = Image.open(io.BytesIO(base64.b64decode(address)))
        assert (picture.format, picture.size) == ("JPEG", (240, 180))


def test_names_never_become_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    html = write(tmp_path, checked(sample(HOSTILE, HOSTILE)))
    assert "script" not in Page(html).tags
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", html)
    for outside in ("http:", "https:", "//", "@import", "url(", "<script"):
        assert outside not in without_pictures


def test_a_set_without_a_readable_case_has_a_page_too(tmp_path: Path) -> None:
    assert Page(write(tmp_path, checked())).pictures == []


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path, checked(sample())) == write(tmp_path, checked(sample()))
