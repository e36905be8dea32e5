"""The mask that an evaluation scores is the one that inference writes, whatever its pieces."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Engine, Events
from scipy import ndimage

from dim_monai.data.kinds import get_kind
from dim_monai.metrics import score_case
from dim_monai.report.scores import read_scores_csv
from tests import photograph_builder
from tests.bundles.examples import PROSTATE, Example, start
from tests.dicom_builder import affine_of, centres
from tests.e2e.segmenting import (
    ball,
    classes_of,
    distances,
    middle,
    photograph,
    segment,
    threshold,
    threshold_bundle,
    write_volume,
)

SPACING_MM, SHAPE = (0.9, 1.1, 3.7), (121, 97, 19)
SIZE, CENTRE, DIAMETER = (431, 307), (200.0, 150.0), 110.0


@pytest.fixture(scope="module")
def place(example: Example, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A bundle whose network sees two pieces in the test case of a data set."""
    root = tmp_path_factory.mktemp("place")
    write = _write_volumes if example is PROSTATE else _write_photographs
    entries = write(root / "data", example)
    lists = {name: [{"image": i, "label": m}] for name, (i, m) in entries.items()}
    (root / "data" / "datalist.json").write_text(json.dumps(lists))
    return SimpleNamespace(
        bundle=threshold_bundle(root, example),
        dataset=root / "data",
        image=root / "data" / entries["test"][0],
        truth=root / "data" / entries["test"][1],
    )


def _write_volumes(folder: Path, example: Example) -> dict[str, tuple[str, str]]:
    """The second piece is a small ball beside the first one, which alone is in the truth."""
    affine = affine_of("oblique_1", SPACING_MM)
    gland = ball(SHAPE, affine)
    aside = middle(SHAPE, affine) + 40 * affine[:3, 0] / SPACING_MM[0]
    distance_mm = np.linalg.norm(centres(SHAPE, affine) - aside, axis=1).reshape(SHAPE)
    speck = np.clip(500 + 100 * (6 - distance_mm), 0, 1000).astype(np.int16)
    entries = {}
    for name in ("labeled", "test"):
        image, label = f"images/{name}{example.image}", f"labels/{name}{example.mask}"
        write_volume(folder / image, np.maximum(gland, speck), affine)
        write_volume(folder / label, (gland > 500).astype(np.uint8), affine)
        entries[name] = image, label
    return entries


def _write_photographs(folder: Path, example: Example) -> dict[str, tuple[str, str]]:
    """The second piece is a speck of rim beside the disc, which alone is in the truth."""
    upright = photograph(SIZE, CENTRE, DIAMETER)
    away = distances(SIZE, (CENTRE[0] + 0.85 * DIAMETER, CENTRE[1]))
    speck = np.clip(128 + 40 * (8 - away), 0, 255)
    upright[..., 0] = np.maximum(upright[..., 0], speck)
    entries = {}
    for number, name in enumerate(("labeled", "test")):
        image, label = f"images/{name}{example.image}", f"labels/{name}{example.mask}"
        upright[0, 0, 2] = number  # no two cases are the same image
        photograph_builder.save(folder / image, upright, 6)  # stored sideways
        photograph_builder.save(folder / label, classes_of(SIZE, CENTRE, DIAMETER), 6)
        entries[name] = image, label
    return entries


def scored_mask(example: Example, place: SimpleNamespace, out: Path, **more: Any) -> np.ndarray:
    """Evaluate, and return the mask that was scored."""
    places = {"dataset_dir": str(place.dataset), "output_dir": str(out)}
    settings = {**threshold(example), **places, **more}
    evaluation = start(place.bundle, "train.yaml", "evaluate.yaml", **settings)
    evaluator = evaluation.parser.get_parsed_content("evaluate#evaluator")
    masks: list[np.ndarray] = []

    def keep(engine: Engine) -> None:
        masks.extend(np.asarray(output["pred"][0]) for output in engine.state.output)

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
    evaluation.run()
    (mask,) = masks
    return mask


def written_mask(example: Example, place: SimpleNamespace, out: Path, **more: Any) -> np.ndarray:
    """Segment the same case, and return the mask that was written."""
    segment(example, place.bundle, place.image, out, **more)
    (file,) = (path for path in out.rglob("*") if path.is_file())
    if example is PROSTATE:
        return np.asarray(nib.load(file).dataobj)
    mask: np.ndarray = get_kind(example.kind).read_label(file)[0]
    return mask


@pytest.mark.parametrize(
    ("more", "pieces"), [({}, 1), ({"largest_component": False}, 2)], ids=["default", "all pieces"]
)
def test_the_mask_that_is_scored_is_the_mask_that_is_written(
    example: Example, place: SimpleNamespace, tmp_path: Path, more: dict[str, Any], pieces: int
) -> None:
    scored = scored_mask(example, place, tmp_path / "scores", **more)
    written = written_mask(example, place, tmp_path / "masks", **more)
    np.testing.assert_array_equal(scored, written)
    assert ndimage.label(written > 0)[1] == pieces

    rows = read_scores_csv(tmp_path / "scores" / "metrics.csv")
    read = get_kind(example.kind).read_label
    regions = {"prostate": [1]} if example is PROSTATE else {"disc": [1, 2], "cup": [2]}
    spacing_mm = SPACING_MM if example is PROSTATE else None
    truth = read(place.truth)[0].astype(int)
    expected = score_case(written.astype(int), truth, spacing_mm, regions)
    for row, score in zip(rows, expected, strict=True):
        assert row.score.dice == score.dice
        assert row.score.hd95 == pytest.approx(score.hd95, rel=1e-5)
