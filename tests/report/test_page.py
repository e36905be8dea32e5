"""The page is whole, says everything, lets nothing in and nothing out."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.metrics import (
    BOTH_EMPTY,
    EMPTY_MASK_RULE,
    FALSE_POSITIVE,
    MISSED,
    PAPER_RULE,
    ClassScore,
    PaperScore,
    ScoreRow,
    split_digest,
)
from dim_monai.report.figures import curves_png
from dim_monai.report.page import Report, write_report

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; refuses a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


def scored(case, domain, split, dice):
    score = ClassScore("prostate", dice, 0.5, 12.0, 3.0, -1.5, surface_dice=0.8, tolerance=2.0)
    return ScoreRow(case, domain, split, score)


ROWS = [
    scored("case-1", "north", "test", 0.9),
    scored("case-2", "north", "test", 0.7),
    scored(HOSTILE, "south & <west>", "test", 0.2),
    scored("case-4", "north", "validation", 0.6),
    ScoreRow("case-5", "north", "test", ClassScore("prostate", 0.0, 0.0, 99, 99, -9.0, MISSED)),
    ScoreRow(
        "case-6", "north", "test", ClassScore("zone", None, None, None, None, None, BOTH_EMPTY)
    ),
]
PNG = curves_png({"x": [(0, 1.0), (1, 0.5)]})
FULL = Report(
    title="Prostate & more " + HOSTILE,
    facts={"Seed": 17, "Cases": {"north": {"labelled": 4, "test": 3}}, HOSTILE: HOSTILE},
    curves={"supervised": [(0, 1.0), (1, 0.5)], HOSTILE: [(0, 1.0)]},
    validation={"dice": [(10, 0.6)]},
    scores=ROWS,
    pictures=[("case-1 " + HOSTILE, PNG)],
    notes=["nothing was selected " + HOSTILE],
)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, FULL)
    return path.read_text(encoding="utf-8")


def test_every_case_fact_note_and_caption_is_on_the_page(html):
    text = Page(html).text
    for row in ROWS:
        assert row.case in text
        assert row.score.note in text
    for words in ("Seed 17", "labelled 4", "test 3", "nothing was selected", "case-1 " + HOSTILE):
        assert words in text


def test_names_never_become_markup(html):
    assert "script" not in Page(html).tags
    assert "<script" not in html.lower()
    assert "<west>" not in html


def test_nothing_is_loaded_from_outside(html):
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", html)
    for outside in ("http:", "https:", "//", "@import", "url("):
        assert outside not in without_pictures
    attributes = Page(html).attributes
    sources = [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
    assert len(sources) == 3
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert not any(name.startswith("on") for name, _ in attributes)


def test_pictures_are_carried_whole(html):
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert base64.b64decode(pictures[-1]) == PNG


def test_means_are_those_of_each_split_alone(html):
    text = Page(html).text
    summary = text[: text.index("Every case")]
    test, validation = summary.split("validation", maxsplit=1)
    # 0.9, 0.7 and the miss; then with 0.2 of the other domain.
    assert "prostate north 3 / 3 1 0 0.533 ± 0.473" in test
    assert "prostate mean of domains 4 / 4 1 0 0.367 ± 0.236" in test
    assert "zone north 0 / 1 0 0 \N{EN DASH} \N{EN DASH}" in test
    assert "prostate north 1 / 1 0 0 0.600" in validation


def test_the_rule_stands_with_the_numbers_and_the_limit_of_use_once(html):
    text = Page(html).text
    assert text.index("Scores") < text.index(EMPTY_MASK_RULE) < text.index("Every case")
    assert text.count("Research use only; not a medical device.") == 1


def eye(case, domain, class_name, vcdr):
    score = ClassScore(class_name, 0.9, 0.8, 3.0, 1.0, -120.0, unit="px")
    return ScoreRow(case, domain, "test", score, vcdr, 0.5)


def test_photographs_are_told_in_pixels_with_their_cup_to_disc_ratio(tmp_path):
    rows = [
        eye(case, "north", name, vcdr)
        for case, vcdr in (("eye-1", 0.62), ("eye-2", 0.46))
        for name in ("disc", "cup")
    ]
    write_report(tmp_path / "report.html", Report("Eyes", scores=rows))
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    summary, cases = text.split("Every case")
    assert "mm)" not in summary
    assert "HD95 (px) ASSD (px) Surface Dice Area error (px) vCDR error" in summary
    assert "cup north 2 / 2 0 0 0.900 ± 0.000 0.800 ± 0.000 3.0 ± 0.0" in summary
    assert "+0.04 ± 0.11" in summary  # of +0.12 and -0.04
    assert "vCDR true vCDR" in cases
    assert (
        "eye-2 north test disc 0.900 0.800 3.0 1.00 \N{EN DASH} \N{MINUS SIGN}120 0.46 0.50"
        in cases
    )


def eyes(*ratios):
    return [
        eye(f"eye-{n}", "north", name, ratio)
        for n, ratio in enumerate(ratios)
        for name in ("disc", "cup")
    ]


def page_of(tmp_path, **parts):
    write_report(tmp_path / "report.html", Report("Run", **parts))
    return Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_a_mean_of_fewer_than_are_scored_says_so(tmp_path):
    text = page_of(tmp_path, scores=eyes(0.62, 0.46, None))
    assert "cup north 3 / 3 0 0" in text
    assert "+0.04 ± 0.11 (2 / 3)" in text


def test_split_digest_rule_and_tolerance_stand_beside_every_table(tmp_path):
    rows = [
        replace(row, sha256=row.case, score=replace(row.score, tolerance=2.0), paper=SLICES)
        for row in (scored("a", "north", "test", 0.9), scored("b", "north", "validation", 0.9))
    ]
    beside = {"split": "drawn", "rule": "highest mean Dice"}
    text = page_of(tmp_path, scores=rows, beside=beside)
    for row in rows:
        words = f"cases: 1, SHA-256 {split_digest([row])}"
        rest = ". Split: drawn. Rule: highest mean Dice."
        assert text.count(words + ", surface Dice within 2 mm" + rest) == 1
        assert text.count(words + rest) == 1  # the table of slices, which has no surface Dice


SLICES = (PaperScore(1, 0.25, 0.2, 7.0, 2.0), PaperScore(2, 0.0, 0.0, None, None, FALSE_POSITIVE))


def test_reference_scores_have_a_labelled_table_of_their_own(tmp_path):
    row = replace(scored("a", "north", "test", 0.9), paper=SLICES)
    text = page_of(tmp_path, scores=[row])
    ours, reference = text.split("Reference definitions, per slice and in pixels")
    assert "Paper" not in ours
    assert "test, as in published tables" in reference
    assert "Paper Dice Paper Jaccard Paper 95HD (px) Paper ASD (px)" in reference
    assert "prostate north 2 / 2 0 1 0.125 ± 0.177 0.100 ± 0.141 7.00 (1 / 2)" in reference
    assert PAPER_RULE in reference
    assert "Paper" not in page_of(tmp_path, scores=[replace(row, paper=())])


@pytest.mark.parametrize("way", ["rows", "notes"])
def test_results_of_a_list_of_the_reference_protocol_are_marked(tmp_path, way):
    row = replace(scored("a", "north", "test", 0.9), paper=SLICES)
    note = f"{SELECTED_ON_TEST}: the reference protocol has no validation"
    if way == "rows":
        text = page_of(tmp_path, scores=[replace(row, selection=SELECTED_ON_TEST)])
    else:
        text = page_of(tmp_path, scores=[row], notes=[note])
    assert f"test: {SELECTED_ON_TEST}" in text
    assert f"as in published tables: {SELECTED_ON_TEST}" in text
    assert text.endswith(SELECTED_ON_TEST)  # the line of the case
    assert SELECTED_ON_TEST not in page_of(tmp_path, scores=[row])


def test_a_report_without_results_says_so(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, Report("Nothing yet"))
    page = Page(path.read_text(encoding="utf-8"))
    assert "No case was scored." in page.text
    assert "img" not in page.tags


def test_the_same_report_has_the_same_bytes(tmp_path, html):
    write_report(tmp_path / "again.html", FULL)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html
