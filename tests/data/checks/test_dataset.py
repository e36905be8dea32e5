"""What is told of a data set: its facts, its summary, its JSON, whatever the number of threads."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from dim_monai.data.checks import check_dataset, detect_kind
from dim_monai.data.checks.sample import choose
from dim_monai.data.checks.settings import classes_of_bundle, parse_classes
from dim_monai.data.checks.table import summary_table
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import ConfigError, DataError
from tests.data.checks.sets import (
    AFFINE,
    entry,
    gland,
    photographs,
    ramp,
    save,
    save_picture,
    state,
    volumes,
)

ZONES = LabelMapping({"background": [0], "peripheral": [1], "central": [2]})
DISC = LabelMapping({"background": [0], "rim": [1], "cup": [2]})
BUNDLES = Path(__file__).resolve().parents[3] / "bundles"

FAULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["code", "what", "file", "got", "expected", "do"],
    "properties": {
        "code": {"pattern": "^[DR][0-9]{3}$"},
        "what": {"type": "string"},
        **{key: {"type": ["string", "null"]} for key in ("file", "got", "expected", "do")},
    },
}
NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}
RANGES = {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}}


def schema(unit: str) -> dict[str, object]:
    """What scripts may rely on; a change needs another number of the schema."""
    domain = {
        "domain": {"type": "string"},
        "cases": {"type": "integer"},
        "labelled": {"type": "integer"},
        "size": RANGES,
        "spacing_mm": RANGES,
        "orientations": NUMBERS,
        "intensity": NUMBERS,
        f"volumes_{unit}": NUMBERS,
    }
    case = {
        "case": {"type": "string"},
        "domain": {"type": "string"},
        "split": {"enum": ["labeled", "unlabeled", "validation", "test"]},
        "size": {"type": "array", "items": {"type": "integer"}},
        "spacing_mm": {"type": "array", "items": {"type": "number"}},
        "orientation": {"type": "string"},
        "intensity": NUMBERS,
        f"volumes_{unit}": {"anyOf": [NUMBERS, {"type": "null"}]},
        "empty_slices": {"type": ["integer", "null"]},
    }
    properties = {
        "schema": {"const": 1},
        "path": {"type": "string"},
        "kind": {"enum": ["volume", "photograph"]},
        "source": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "sound": {"type": "boolean"},
        "faults": {"type": "array", "items": FAULT},
        "remarks": {"type": "array", "items": FAULT},
        "domains": {"type": "array", "items": closed(domain)},
        "cases": {"type": "array", "items": closed(case)},
    }
    return closed(properties)


def closed(properties: dict[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


@pytest.fixture
def two_sites(tmp_path: Path) -> Path:
    """north: p (labelled) and q, of another size; south: r, with a label that does not fit."""
    for name, shape in (("north/p", (8, 6, 5)), ("north/q", (10, 6, 5)), ("south/r", (8, 6, 5))):
        image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        save(tmp_path / "images" / f"{name}.nii.gz", image)
    save(tmp_path / "labels" / "north" / "p.nii.gz", gland())
    save(tmp_path / "labels" / "south" / "r.nii.gz", gland()[:-1])
    return tmp_path


def test_the_summary_of_each_domain_is_that_of_its_cases(two_sites: Path) -> None:
    north, south = check_dataset(two_sites, ZONES).domains
    assert (north.domain, north.cases, north.labelled) == ("north", 2, 1)
    assert (south.domain, south.cases, south.labelled) == ("south", 1, 1)
    assert north.size == ((8, 10), (6, 6), (5, 5))
    assert north.spacing_mm == ((0.5, 0.5), (0.75, 0.75), (3.0, 3.0))
    assert north.orientations == {"RAS": 2}
    # 0.5 x 0.75 x 3 mm a voxel: 17 and 1 of them.
    assert north.volumes == pytest.approx({"peripheral": 17 * 0.001125, "central": 0.001125})
    # The percentiles of 0..239 and of 0..299, and the middle of the two.
    expected = [
        np.percentile([0, 239], p) / 2 + np.percentile([0, 299], p) / 2 for p in (1, 50, 99)
    ]
    assert north.intensity == pytest.approx(expected)


def test_without_a_mapping_each_value_is_counted(two_sites: Path) -> None:
    summary, *_ = check_dataset(two_sites).domains
    assert summary.volumes == pytest.approx({"1": 17 * 0.001125, "2": 0.001125})


def test_percentiles_of_a_large_image_are_those_of_its_values_but_for_the_draw(
    tmp_path: Path,
) -> None:
    values = np.random.default_rng(1).permutation(64 * 64 * 32).astype(np.float32)
    save(tmp_path / "x.nii.gz", values.reshape(64, 64, 32))
    (case,) = check_dataset(tmp_path).cases
    ranks = np.array(case.intensity) / values.size * 100
    # Standard error of a rank in percent, n = 20000: 100 sqrt(p (1 - p) / n); four of them.
    assert np.abs(ranks - (1, 50, 99)).max() < 4 * 100 * (0.5 * 0.5 / 20_000) ** 0.5


@pytest.mark.parametrize("kind", ["volume", "photograph"])
def test_the_json_keeps_to_its_schema(tmp_path: Path, kind: str) -> None:
    volume = kind == "volume"
    root = (volumes if volume else photographs)(tmp_path)
    (root / "labels" / ("z.nii.gz" if volume else "z.png")).write_bytes(b"no label")
    document = check_dataset(root, ZONES if volume else DISC, kind=kind).as_dict()
    jsonschema.validate(json.loads(json.dumps(document)), schema("ml" if volume else "px"))
    assert document["sound"] is False
    assert document["cases"][0]["intensity"].keys() == {"p1", "p50", "p99"}


def test_areas_of_a_photograph_are_in_pixels_and_it_has_no_spacing(tmp_path: Path) -> None:
    checked = check_dataset(photographs(tmp_path), DISC, kind="photograph")
    labelled, unlabelled = checked.cases
    assert labelled.volumes == {"rim": 12.0, "cup": 4.0}
    assert unlabelled.volumes is None
    assert labelled.shape == (12, 10)
    assert labelled.spacing_mm == ()
    headings, (row,) = summary_table(checked)
    assert len(headings) == len(row)
    assert not any("mm" in heading or "ml" in heading for heading in headings)
    assert row[-1] == "rim 12, cup 4"
    assert "12 × 10" in row


def test_what_is_found_does_not_depend_on_threads(two_sites: Path) -> None:
    save(two_sites / "images" / "south" / "s.nii.gz", ramp() * 0)
    (two_sites / "images" / "north" / "n.nii.gz").write_bytes(b"no image")
    one, four = (check_dataset(two_sites, ZONES, threads=n) for n in (1, 4))
    assert one.as_dict() == four.as_dict()
    assert [fault.code for fault in one.faults] == ["D202", "D101", "D103"]


def test_progress_is_told_after_each_case(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    check_dataset(volumes(tmp_path), ZONES, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_test_cases_are_checked(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    save(root / "labels" / "b.nii.gz", gland() * 9)
    state(root, labeled=[entry("a")], test=[entry("b")])
    checked = check_dataset(root, ZONES)
    assert [(case.case, case.split) for case in checked.cases] == [("a", "labeled"), ("b", "test")]
    assert [fault.code for fault in checked.faults] == ["D204"]


def test_a_label_beside_its_image_is_unused_and_its_image_is_not(tmp_path: Path) -> None:
    for name, array in (
        ("a_t2", ramp()),
        ("b_t2", ramp() + 1),
        ("a_seg", gland()),
        ("b_seg", gland()),
    ):
        save(tmp_path / f"{name}.nii.gz", array)
    a = {"image": "a_t2.nii.gz", "label": "a_seg.nii.gz"}
    state(tmp_path, labeled=[a], unlabeled=[{"image": "b_t2.nii.gz"}])
    (remark,) = check_dataset(tmp_path).remarks
    assert (remark.code, remark.got) == ("R002", "1, the first b_seg.nii.gz")


def test_nothing_is_written(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check_dataset(root, ZONES, pictures=5)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_samples_are_chosen_evenly_and_labelled_ones_first() -> None:
    entries = [{"domain": "x", "label": "l"} if n % 2 else {"domain": "x"} for n in range(20)]
    entries += [{"domain": "y"}]
    assert choose(entries, 5) == {3, 7, 11, 15, 19, 20}
    few = choose(entries, 12)
    assert {n for n in range(20) if n % 2} <= few
    assert len(few) == 13
    assert choose(entries, 0) == set()


def test_a_sample_is_the_slice_with_most_of_the_label_as_a_radiologist_sees_it(
    tmp_path: Path,
) -> None:
    image, mask = np.zeros((8, 6, 5), np.float32), np.zeros((8, 6, 5), np.uint8)
    mask[1:3, 1:3, 1], mask[5:8, 3:6, 3] = 1, 1
    image[7, 5, 3] = 100.0  # patient right, anterior: on the viewer's left, at the top
    save(tmp_path / "images" / "a.nii.gz", image)
    turned = AFFINE @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    save(tmp_path / "labels" / "a.nii.gz", mask[::-1], turned)  # stored otherwise, the same place
    (sample,) = check_dataset(tmp_path, pictures=1).samples
    assert sample.where == "slice 4 of 5"
    assert sample.pixels.shape == (6, 8)
    assert sample.aspect == pytest.approx(1.5)
    assert sample.classes is not None
    assert np.argwhere(sample.pixels == 255).tolist() == [[0, 0]]
    assert sample.classes[:3, :3].all()
    assert sample.classes.sum() == 9


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["images/a.nii.gz"], "volume"),
        (["images/s/1.dcm"], "volume"),
        (["images/s/IM0001"], "volume"),
        (["images/a.jpg", "labels/a.nii.gz"], "photograph"),
        (["a.png", "notes.txt"], "photograph"),
        ([], "volume"),
    ],
)
def test_the_kind_is_told_by_the_images(tmp_path: Path, files: list[str], kind: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert detect_kind(tmp_path) == kind


def test_the_kind_of_a_data_list_is_that_of_its_images(tmp_path: Path) -> None:
    state(tmp_path, labeled=[{"image": "far/a.JPG", "label": "b.png"}], unlabeled=[3], test=None)
    assert detect_kind(tmp_path) == detect_kind(tmp_path / "datalist.json") == "photograph"


def test_two_kinds_side_by_side_are_not_guessed_at(tmp_path: Path) -> None:
    save(volumes(tmp_path) / "images" / "z.nii.gz", ramp())
    save_picture(tmp_path / "images" / "z.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match="side by side"):
        detect_kind(tmp_path)


def test_nothing_at_the_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to check"):
        detect_kind(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a case"):
        check_dataset(tmp_path / "nowhere")


def test_classes_are_parsed_as_a_config_writes_them() -> None:
    parsed = parse_classes("background=0, prostate=>0")
    assert parsed.class_names == ("background", "prostate")
    assert str(parse_classes("b=0,rim=1,cup=2+3")) == "b [0], rim [1], cup [2, 3]"


@pytest.mark.parametrize(
    "rules", ["", "a", "a=", "a=0,b=x", "a=0", "a=0,b=0", "a=0,a=1", "a=0;b=1"]
)
def test_classes_that_cannot_be_meant_are_refused(rules: str) -> None:
    with pytest.raises(ConfigError):
        parse_classes(rules)


@pytest.mark.parametrize(
    ("bundle", "kind", "first"),
    [("dim_prostate", "volume", "background"), ("dim_fundus", "photograph", "background")],
)
def test_a_bundle_says_its_classes_and_kind(bundle: str, kind: str, first: str) -> None:
    mapping, found = classes_of_bundle(BUNDLES / bundle)
    assert found == kind
    assert mapping.class_names[0] == first


@pytest.mark.parametrize("text", [None, "a: [", "a: 1", "label_classes: 3"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "train.yaml").write_text(text)
    with pytest.raises(ConfigError):
        classes_of_bundle(tmp_path)
