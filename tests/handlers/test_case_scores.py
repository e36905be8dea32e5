"""Scores of whole cases: those of the metrics, in the units of the case."""

from __future__ import annotations

import csv
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from dim_monai.cup_to_disc import vertical_cup_to_disc_ratio
from dim_monai.data.datalist import SELECTED_ON_TEST
from dim_monai.data.photograph import read_mask, read_photograph
from dim_monai.errors import ConfigError, DataError
from dim_monai.handlers import CaseScores
from dim_monai.metrics import BOTH_EMPTY_IS_1, paper_scores, score_case, split_digest
from dim_monai.model_files import weights_digest
from dim_monai.report.scores import read_scores_csv
from tests.handlers.scored_cases import CASES, REGIONS, SPACING_MM, ball, evaluate, volume
from tests.photograph_builder import save


def test_every_case_is_scored_as_a_whole_in_mm(tmp_path: Path) -> None:
    evaluate(CaseScores(str(tmp_path / "out"), REGIONS))
    rows = read_scores_csv(tmp_path / "out" / "metrics.csv")
    assert [(row.case, row.domain, row.split, row.score.class_name) for row in rows] == [
        (case, domain, "validation", region)
        for case, domain in (("a0", "site_a"), ("a1", "site_a"), ("b0", "site_b"))
        for region in REGIONS
    ]
    expected = [
        score
        for entry, prediction in CASES
        for score in score_case(
            prediction.astype(int),
            entry["native_label"][0].numpy().astype(int),
            SPACING_MM,
            REGIONS,
        )
    ]
    assert [row.score for row in rows] == expected
    assert 0 < rows[0].score.dice < 1
    # 4 and 4.5 mm balls whose voxels are up to 3 mm: the distance is of that size, not of voxels.
    assert 0.5 <= rows[0].score.hd95 <= 3.0


@pytest.mark.parametrize(("pictures", "drawn"), [(0, 0), (1, 2), (4, 3)])
def test_so_many_pictures_a_domain_are_in_the_report(
    tmp_path: Path, pictures: int, drawn: int
) -> None:
    evaluate(CaseScores(str(tmp_path), REGIONS, pictures))
    report = (tmp_path / "report.html").read_text()
    captions = set(re.findall(r"site_[ab] / ([ab][01]): ", report))
    assert len(captions) == drawn


def test_a_second_evaluation_begins_anew(tmp_path: Path) -> None:
    handler = CaseScores(str(tmp_path), REGIONS, pictures=0)
    evaluate(handler)
    evaluate(handler)
    assert len(read_scores_csv(tmp_path / "metrics.csv")) == len(CASES) * len(REGIONS)


def test_slices_are_scored_as_the_papers_do_only_if_asked_and_elsewhere(tmp_path: Path) -> None:
    plain, paper = tmp_path / "plain", tmp_path / "paper"
    notes = [f"{SELECTED_ON_TEST}: so"]
    evaluate(CaseScores(str(plain), REGIONS, 0))
    evaluate(CaseScores(str(paper), REGIONS, 0, paper_protocol=True, notes=notes))
    assert not (plain / "metrics_paper.csv").exists()
    assert "Paper Dice" not in (plain / "report.html").read_text()
    assert "Paper Dice" in (paper / "report.html").read_text()
    ours, marked = (read_scores_csv(folder / "metrics.csv") for folder in (plain, paper))
    assert marked == [replace(row, selection=SELECTED_ON_TEST) for row in ours]
    with (paper / "metrics_paper.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = [
        score
        for entry, prediction in CASES
        for labels in REGIONS.values()
        for score in paper_scores(
            prediction.astype(int), entry["native_label"][0].numpy().astype(int), labels
        )
    ]
    assert [line["paper_dice"] for line in lines] == [str(score.dice) for score in expected]
    assert {line["paper_selection"] for line in lines} == {SELECTED_ON_TEST}
    evaluate(CaseScores(str(paper), REGIONS, 0))  # leaves no scores of an earlier evaluation
    assert not (paper / "metrics_paper.csv").exists()


def trained_on(folder: Path, *notes: str) -> None:
    """Leave the data list of a training in a folder of results."""
    entry = {"image": str(folder / "image.nii"), "label": str(folder / "label.nii")}
    for path in entry.values():
        Path(path).touch()
    lists = {"labeled": [entry], "source": "of the training", "notes": list(notes)}
    (folder / "datalist.json").write_text(json.dumps(lists))


@pytest.mark.parametrize("way", ["scored", "trained"])
def test_whatever_comes_of_a_list_of_the_reference_protocol_is_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    note = f"{SELECTED_ON_TEST}: so"
    trained_on(tmp_path, *([note] if way == "trained" else []))
    handler = CaseScores(str(tmp_path), REGIONS, 1, notes=[note] if way == "scored" else [])
    with caplog.at_level(logging.INFO, "dim_monai"):
        evaluate(handler)
    assert {row.selection for row in read_scores_csv(tmp_path / "metrics.csv")} == {
        SELECTED_ON_TEST
    }
    assert all(SELECTED_ON_TEST in message for message in caplog.messages)
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text())
    assert note in page
    captions = re.findall(r"site_[ab] / [ab][01]: .*", page)
    assert len(captions) == 2
    assert all(caption.strip().endswith(f"({SELECTED_ON_TEST})") for caption in captions)


def test_the_split_of_the_training_is_not_taken_for_the_one_that_was_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained_on(tmp_path)
    handler = CaseScores(str(tmp_path), REGIONS, 0, source="another list")
    with caplog.at_level(logging.INFO, "dim_monai"):
        evaluate(handler)
    assert "split: another list; rule: " in caplog.messages[0]
    assert "of the training" not in caplog.text
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text()).split())
    scores, provenance = page.split("Provenance")
    assert "Split: another list. Rule: " in scores
    assert "of the training" not in scores
    assert "lists of the training split of the training labeled cases unknown 1" in provenance
    assert (
        "what was scored split another list validation cases site_a 2 site_b 1 "
        f"SHA-256 of the validation cases {split_digest(handler.rows)}" in provenance
    )


@pytest.mark.parametrize("scored", ["the same", "others", "unknown"])
def test_a_rule_is_told_of_the_weights_that_it_chose_and_of_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scored: str
) -> None:
    chosen = torch.nn.Linear(2, 1)
    digest = weights_digest(chosen.state_dict())
    run = {"rule": "highest mean Dice", "weights_sha256": digest}
    (tmp_path / "run.json").write_text(json.dumps(run))
    network = {"the same": chosen, "others": torch.nn.Linear(2, 1), "unknown": None}[scored]
    with caplog.at_level(logging.INFO, "dim_monai"):
        evaluate(CaseScores(str(tmp_path), REGIONS, 0), network)
    others = "rule: chosen elsewhere, for run.json is of other weights"
    page = (tmp_path / "report.html").read_text()
    for text in (caplog.messages[0], page.replace("Rule", "rule")):
        assert (others in text) == (scored == "others")
        assert ("rule: highest mean Dice" in text) == (scored != "others")
    assert (digest in page.partition("what was scored")[2].partition("rule")[0]) == (
        scored == "the same"
    )


def test_the_digest_of_weights_is_of_names_types_shapes_and_values() -> None:
    state = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3), "n": torch.zeros(0, 2)}
    turned = {name: state[name].clone() for name in sorted(state)}
    assert weights_digest(turned) == weights_digest(state)
    others = [
        {**state, "b": torch.tensor([1.0, 2.0001])},
        {**state, "b": torch.tensor([[1.0, 2.0]])},
        {**state, "b": torch.tensor([1.0, 2.0]).to(torch.bfloat16)},
        {**state, "a": torch.tensor(3.0)},
        {("c" if name == "b" else name): value for name, value in state.items()},
        {**state, "n": torch.zeros(2, 0)},
    ]
    assert len({weights_digest(s) for s in (state, *others)}) == 1 + len(others)
    matrix = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"a": matrix.T}) == weights_digest({"a": matrix.T.contiguous()})


def test_tolerance_and_what_two_empty_masks_score_are_settings(tmp_path: Path) -> None:
    strict = CaseScores(str(tmp_path / "strict"), REGIONS, 0, tolerance=0.1)
    lenient = CaseScores(str(tmp_path / "lenient"), REGIONS, 0, tolerance=9.0, both_empty=1)
    for handler in (strict, lenient):
        evaluate(handler)
    (low, *_, core), (high, *_, core_is_1) = (h.rows for h in (strict, lenient))
    assert low.score.surface_dice < high.score.surface_dice == 1.0
    assert (low.score.tolerance, high.score.tolerance) == (0.1, 9.0)
    assert (core.score.dice, core_is_1.score.dice) == (None, 1.0)
    assert core_is_1.score.note == BOTH_EMPTY_IS_1


def test_the_log_says_the_means_the_cases_and_how_the_network_was_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run.json").write_text('{"rule": "highest mean Dice"}')
    handler = CaseScores(str(tmp_path), REGIONS, 0)
    with caplog.at_level(logging.INFO, "dim_monai"):
        evaluate(handler)
    head = f"cases: 3, SHA-256 {split_digest(handler.rows)}, surface Dice within 2 mm; "
    assert f"validation: {head}split: not told; rule: highest mean Dice" in caplog.text
    assert "validation: core, site_b: Dice - (0/1)" in caplog.text
    assert "(2/2), " in caplog.text
    (tmp_path / "run.json").unlink()
    with caplog.at_level(logging.INFO, "dim_monai"):
        evaluate(handler)
    assert "no run.json" in caplog.text


def test_the_digest_is_of_name_image_and_truth_and_not_of_the_prediction(tmp_path: Path) -> None:
    def digest(case: str = "a0", truth_mm: float = 4.0, predicted_mm: float = 3.0) -> str:
        handler = CaseScores(str(tmp_path), REGIONS, pictures=0)
        entry = {**CASES[0][0], "case": case, "native_label": volume(ball(truth_mm, 2.0))}
        handler._score(entry, volume(ball(predicted_mm)))
        assert len({row.sha256 for row in handler.rows}) == 1
        return handler.rows[0].sha256

    assert digest() == digest(predicted_mm=2.0)
    assert len({digest(), digest(case="a1"), digest(truth_mm=4.5)}) == 3


@pytest.mark.parametrize("axes", ["flipped", "transposed"])
def test_a_label_stored_with_other_axes_than_its_image_scores_the_same(
    axes: str, tmp_path: Path
) -> None:
    entry, prediction = CASES[0]
    truth = entry["native_label"]
    affine, array = truth.affine.clone(), truth.as_tensor()
    if axes == "flipped":
        array = array.flip(2)
        affine[:3, 3] += affine[:3, 1] * (array.shape[2] - 1)
        affine[:3, 1] *= -1
    else:
        array = array.transpose(1, 2)
        affine[:, [0, 1]] = affine[:, [1, 0]]
    stored_otherwise = {**entry, "native_label": MetaTensor(array, affine=affine)}
    rows = []
    for number, item_ in enumerate((entry, stored_otherwise)):
        handler = CaseScores(str(tmp_path / str(number)), REGIONS)
        handler._score(item_, volume(prediction))
        rows.append([row.score for row in handler.rows])
    assert rows[0] == rows[1]
    assert rows[0][0].dice > 0.5


EYE_REGIONS = {"disc": [1, 2], "cup": [2]}


def eye(disc: float, cup: float, shape: tuple[int, int] = (60, 44)) -> np.ndarray:
    """Rim 1 and cup 2 in a photograph (W, H)."""
    distance = np.hypot(*np.ogrid[-20 : shape[0] - 20, -18 : shape[1] - 18])
    return ((distance < disc).astype(int) + (distance < cup)).astype(np.uint8)


def photograph(truth: np.ndarray, case: str = "eye") -> dict[str, object]:
    image = np.repeat(100 * truth[None], 3, axis=0).astype(np.float32)
    return {
        "native_image": MetaTensor(torch.from_numpy(image)),
        "native_label": MetaTensor(torch.from_numpy(truth[None].astype(np.float32))),
        "case": case,
        "domain": "clinic",
        "split": "test",
    }


def test_photographs_are_scored_in_pixels_with_their_ratio(tmp_path: Path) -> None:
    truth, prediction = eye(14, 7), eye(13, 8)
    handler = CaseScores(str(tmp_path), EYE_REGIONS, unit="px")
    handler._score(photograph(truth), MetaTensor(torch.from_numpy(prediction[None]).float()))
    handler._score(photograph(truth, "missed"), MetaTensor(torch.zeros(1, *truth.shape)))
    handler._write()
    rows = read_scores_csv(tmp_path / "metrics.csv")
    assert [row.score for row in rows[:2]] == score_case(prediction, truth, None, EYE_REGIONS)
    assert {(row.vcdr, row.vcdr_truth) for row in rows[:2]} == {
        tuple(vertical_cup_to_disc_ratio(labels, [1, 2], [2]) for labels in (prediction, truth))
    }
    assert rows[0].vcdr == pytest.approx(8 / 13, abs=0.05)
    assert [(row.vcdr, row.score.note) for row in rows[2:]] == [(None, "missed")] * 2
    assert rows[2].score.hd95 == pytest.approx(np.hypot(60, 44))
    report = (tmp_path / "report.html").read_text()
    assert "clinic / eye: disc Dice" in report
    assert "HD95 (px)" in report


def test_a_photograph_that_is_stored_sideways_scores_as_its_upright_twin(tmp_path: Path) -> None:
    truth, prediction = eye(14, 7), eye(13, 8)
    colours = np.repeat(80 * truth[..., None], 3, axis=2)
    rows = []
    for orientation in range(1, 9):
        folder = tmp_path / str(orientation)
        save(folder / "eye.png", colours, orientation)
        save(folder / "mask.png", truth, orientation)
        item_ = photograph(read_mask(folder / "mask.png"))
        image = read_photograph(folder / "eye.png").astype(np.float32)
        item_["native_image"] = MetaTensor(torch.from_numpy(image).permute(2, 0, 1))
        handler = CaseScores(str(folder), EYE_REGIONS, pictures=0, unit="px")
        handler._score(item_, MetaTensor(torch.from_numpy(prediction[None])))
        rows.append(handler.rows)
    assert all(twin == rows[0] for twin in rows)
    assert rows[0][0].vcdr is not None


@pytest.mark.parametrize("regions", [{"disc": [1, 2]}, {"vessel": [1]}])
def test_without_disc_and_cup_there_is_no_ratio(tmp_path: Path, regions: dict) -> None:
    handler = CaseScores(str(tmp_path), regions, pictures=0, unit="px")
    truth = (eye(14, 0) > 0).astype(np.uint8)
    handler._score(photograph(truth), MetaTensor(torch.from_numpy(truth[None])))
    assert [(row.vcdr, row.vcdr_truth) for row in handler.rows] == [(None, None)]
    handler._write()
    assert "vcdr" not in (tmp_path / "metrics.csv").read_text()


def test_a_prediction_on_another_grid_is_refused(tmp_path: Path) -> None:
    handler = CaseScores(str(tmp_path), EYE_REGIONS, unit="px")
    with pytest.raises(DataError, match="different grids"):
        handler._score(photograph(eye(14, 7)), MetaTensor(torch.zeros(1, 44, 60)))


def test_there_is_no_other_unit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mm or px"):
        CaseScores(str(tmp_path), EYE_REGIONS, unit="cm")
