"""Which split is evaluated, what a new run leaves of an older one, and what the log says."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from dim_monai.data import source
from dim_monai.data.datalist import Datalist, open_datalist
from dim_monai.data.labels import LabelMapping
from dim_monai.errors import DataError
from dim_monai.model_files import weights_digest
from tests.photograph_builder import save as save_photograph
from tests.photograph_builder import scene
from tests.predict.scans import write_nifti, write_scan

LABELS = LabelMapping({"background": [0], "prostate": [1]})


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def add_case(root: Path, case: str, labelled: bool, affine: np.ndarray | None = None) -> None:
    affine = np.diag([0.5, 0.5, 3.0, 1.0]) if affine is None else affine
    first = sum(case.encode())  # no two cases are equal images
    image = np.arange(first, first + 60, dtype=np.int16).reshape(5, 4, 3)
    save(root / "images" / f"{case}.nii.gz", image, affine)
    if labelled:
        save(root / "labels" / f"{case}.nii.gz", (image > first + 30).astype(np.uint8), affine)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two labelled cases, too few for validation, and an unlabelled one."""
    for case, labelled in (("a", True), ("b", True), ("c", False)):
        add_case(tmp_path / "set", case, labelled)
    return tmp_path / "set"


@pytest.fixture
def out(tmp_path: Path, root: Path) -> Path:
    """The folder of a training on those three, finished, with the model that it deployed."""
    source.begin_run(open_datalist(root), str(tmp_path / "out"), {"rho": 0.05})
    return finish(tmp_path / "out", nn.Conv2d(1, 2, 1))


def finish(out: Path, network: nn.Module) -> Path:
    """Leave what a training writes at its end."""
    torch.save(network.state_dict(), out / "model.pt")
    run = {"weights_sha256": weights_digest(network.state_dict())}
    (out / "run.json").write_text(json.dumps(run))
    return out


def entry(root: Path, name: str, **more: str) -> dict[str, str]:
    paths = {"image": f"{root}/images/{name}.nii.gz", "label": f"{root}/labels/{name}.nii.gz"}
    return {**paths, **more}


def state(folder: Path, **lists: list[dict[str, str]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps(lists))


def evaluated(root: Path | None, out: Path) -> Datalist:
    dataset_dir, model = None if root is None else str(root), str(out / "model.pt")
    return source.evaluation_datalist(dataset_dir, str(out), 0, 0.2, model)


def test_two_folders_are_evaluated_by_the_split_of_the_training(
    root: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dim_monai")
    add_case(root, "c", labelled=True)  # drawn anew, a, b and c would have a validation case
    assert open_datalist(root).validation
    assert evaluated(root, out).validation == ()
    assert caplog.messages == [f"split: {out / 'datalist.json'}, saved by the training"]


def test_a_stated_split_goes_before_the_saved_one(
    root: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dim_monai")
    add_case(root, "d", labelled=True)
    state(root, labeled=[entry(root, "a")], test=[entry(root, "d")])
    assert [case["case"] for case in evaluated(root, out).test] == ["d"]
    assert caplog.messages == [f"split: {root / 'datalist.json'}"]


def test_another_set_without_a_datalist_is_split_anew(
    root: Path, out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dim_monai")
    for case in "abc":
        add_case(tmp_path / "other", case, labelled=True)
    assert len(evaluated(tmp_path / "other", out).validation) == 1
    assert [m.startswith("split: drawn from images and labels") for m in caplog.messages] == [True]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("case", ["b", "c"])  # with and without its label
def test_a_case_that_trained_is_not_evaluated(root: Path, out: Path, split: str, case: str) -> None:
    add_case(root, "c", labelled=True)
    state(root, labeled=[entry(root, "a")], **{split: [entry(root, case, patient="new", case="n")]})
    with pytest.raises(DataError, match=f"a {split} case has trained the network") as caught:
        evaluated(root, out)
    assert caught.value.file == str(root / "images" / f"{case}.nii.gz")
    assert str(out / "datalist.json") in str(caught.value.got)


def test_a_link_to_an_image_that_trained_is_that_image(
    root: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.nii.gz").symlink_to(root / "images" / "b.nii.gz")
    linked = entry(root, "b", patient="new", case="n") | {"image": str(tmp_path / "link.nii.gz")}
    state(root, labeled=[entry(root, "a")], test=[linked])
    with pytest.raises(DataError, match="link"):
        evaluated(root, out)


def test_a_patient_that_trained_is_not_evaluated_and_another_of_that_name_is(
    root: Path, out: Path
) -> None:
    add_case(root, "d", labelled=True)
    # A case of two folders is a patient of its own, named domain/case.
    state(root, labeled=[entry(root, "a")], test=[entry(root, "d", patient="unknown/b")])
    with pytest.raises(DataError, match="patient unknown/b on the training side") as caught:
        evaluated(root, out)
    assert "say so with 'patient'" in str(caught.value)
    state(root, labeled=[entry(root, "a")], test=[entry(root, "d", patient="somebody else")])
    assert len(evaluated(root, out).test) == 1


def test_a_second_training_does_not_hide_what_trained_the_model(root: Path, out: Path) -> None:
    """It has written its own split, and the model is still the first one's."""
    state(root, labeled=[entry(root, "a")], test=[entry(root, "b")])
    source.begin_run(open_datalist(root), str(out), {})
    for dataset_dir in (root, None):  # None: the split saved there would be scored
        with pytest.raises(DataError, match="the training in this folder is not finished") as got:
            evaluated(dataset_dir, out)
        assert got.value.file == str(out)
        assert "by the same command" in str(got.value)
        assert "output_dir" in str(got.value)
    finish(out, nn.Conv2d(1, 2, 1))
    assert [case["case"] for case in evaluated(root, out).test] == ["b"]


def test_the_split_of_a_training_is_not_taken_for_that_of_other_weights(
    root: Path, out: Path, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.pt")
    torch.save(nn.Conv2d(1, 2, 1).state_dict(), other)
    with pytest.raises(DataError, match="deployed other weights") as caught:
        source.evaluation_datalist(str(root), str(out), 0, 0.2, other)
    assert caught.value.file == other
    assert "output_dir" in str(caught.value)
    elsewhere = tmp_path / "elsewhere"
    assert source.evaluation_datalist(str(root), str(elsewhere), 0, 0.2, other).labeled


@pytest.mark.parametrize("told", ["half of it {", "[]", '{"rule": "best"}'])
def test_a_record_of_a_training_that_cannot_be_read_is_refused(
    root: Path, out: Path, told: str
) -> None:
    (out / "run.json").write_text(told)
    with pytest.raises(DataError, match="record of a training cannot be read"):
        evaluated(root, out)


def test_the_advice_where_there_is_nothing_to_evaluate_works(root: Path, out: Path) -> None:
    network, model = nn.Conv2d(1, 2, 1), str(out / "model.pt")
    with pytest.raises(DataError, match="nothing to evaluate") as caught:
        source.require_sound_evaluation(evaluated(root, out), LABELS, model, network)
    advice = str(caught.value)
    assert all(word in advice for word in ("datalist.json", "'test'", "'labeled'", "dataset_dir"))
    add_case(root, "d", labelled=True)
    trained = [entry(root, "a"), entry(root, "b")]
    state(root, labeled=trained, test=[entry(root, "d")])
    source.require_sound_evaluation(evaluated(root, out), LABELS, model, network)


def test_a_run_begins_without_the_results_of_the_last_one(root: Path, out: Path) -> None:
    results = ("metrics.csv", "report.html", "run.json", "training_log.csv")
    for name in (*results, "mine.txt"):
        (out / name).write_text("old")
    source.begin_run(open_datalist(root), str(out), {"rho": 0.1})
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "config.json",
        "datalist.json",
        "mine.txt",
        "model.pt",
    ]
    assert json.loads((out / source.CONFIG_FILE).read_text()) == {"rho": 0.1}


@pytest.mark.parametrize(
    ("second", "in_plane", "between"),
    [
        (np.diag([0.5, 0.5, 3.0, 1.0]), "0.50", "3.00"),
        (np.diag([0.4, 0.75, 3.6, 1.0]), "0.40 to 0.75", "3.00 to 3.60"),
        # Stored with head first and front last, to the feet: the same spacings in the patient.
        (
            np.array([[0, -0.4, 0, 0], [0, 0, 0.75, 0], [-3.6, 0, 0, 0], [0, 0, 0, 1.0]]),
            "0.40 to 0.75",
            "3.00 to 3.60",
        ),
    ],
    ids=["one", "range", "permuted"],
)
def test_the_log_tells_the_spacings_of_what_is_trained_on(
    root: Path, caplog: pytest.LogCaptureFixture, second: np.ndarray, in_plane: str, between: str
) -> None:
    caplog.set_level(logging.INFO, "dim_monai")
    add_case(root, "c", labelled=False, affine=second)
    source.require_sound_training(open_datalist(root).for_training(), LABELS)
    told = [line for line in caplog.messages if line.startswith("spacing")]
    assert told == [f"spacing: {in_plane} mm in the plane, {between} mm between slices"]


def test_photographs_go_the_same_way_as_volumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dim_monai")
    root, out = tmp_path / "eyes", tmp_path / "out"
    for number in range(4):
        image = scene((13 + number, 7), seed=number)
        save_photograph(root / "images" / f"eye{number}.png", image, 6)
        if number < 3:
            save_photograph(root / "labels" / f"eye{number}.png", image[..., 0] % 2)
    datalist = source.training_datalist(str(root), str(out), 0, 0.2, kind="photograph")
    source.require_sound_training(datalist.for_training(), LABELS, kind="photograph")
    assert "cases: 2 labelled, 1 unlabelled, 1 for validation" in caplog.messages
    assert "size: 13 to 16 px the longer side, 7 px the shorter" in caplog.messages
    source.begin_run(datalist, str(out), {})
    network, model = nn.Conv2d(3, 2, 1), str(out / "model.pt")
    finish(out, network)
    again = source.evaluation_datalist(str(root), str(out), 0, 0.2, model, kind="photograph")
    assert again == datalist
    source.require_sound_evaluation(again, LABELS, model, network, kind="photograph")
    cases = source.inference_cases(str(root / "images"), kind="photograph")
    assert [case["case"] for case in cases] == ["eye0", "eye1", "eye2", "eye3"]
    names, masks = LABELS.class_names, str(tmp_path / "masks")
    source.require_sound_inference(cases, model, network, names, masks, kind="photograph")
    assert not Path(masks).exists()


def test_photographs_of_one_name_would_be_written_to_one_mask(tmp_path: Path) -> None:
    for name in ("eye.png", "eye.jpg"):
        save_photograph(tmp_path / name, scene())
    with pytest.raises(DataError, match="two cases of one name"):
        source.inference_cases(str(tmp_path), kind="photograph")


def test_maps_of_uncertainty_are_no_cases(tmp_path: Path) -> None:
    for name in ("eye.png", "eye_uncertainty.png"):
        save_photograph(tmp_path / name, scene())
    (case,) = source.inference_cases(str(tmp_path), kind="photograph")
    assert case["case"] == "eye"


def test_a_series_and_a_file_in_it_of_its_name_would_be_written_to_one_mask(
    tmp_path: Path,
) -> None:
    scan = write_scan(tmp_path / "T2")
    write_nifti(scan / "T2.nii.gz")
    with pytest.raises(DataError, match="two cases of one name"):
        source.inference_cases(str(scan))
    assert len(source.inference_cases(str(tmp_path))) == 2  # T2_seg and T2/T2_seg


def test_an_unreadable_photograph_stops_the_segmentation_before_it_begins(tmp_path: Path) -> None:
    network, model = nn.Conv2d(3, 2, 1), str(tmp_path / "model.pt")
    torch.save(network.state_dict(), model)
    save_photograph(tmp_path / "grey.png", scene()[..., 0])
    (tmp_path / "half.png").write_bytes(b"half")
    cases = source.inference_cases(str(tmp_path), kind="photograph")
    names, masks = LABELS.class_names, str(tmp_path / "masks")
    with pytest.raises(DataError, match="nothing was segmented") as caught:
        source.require_sound_inference(cases, model, network, names, masks, kind="photograph")
    assert all(name in str(caught.value) for name in ("grey.png", "half.png"))


@pytest.mark.parametrize("kind", ["volume", "photograph", "photograph of one colour"])
def test_an_empty_export_stops_the_segmentation_before_it_begins(tmp_path: Path, kind: str) -> None:
    """As the check and a training refuse it: a network would find its structure in nothing."""
    network, model = nn.Conv2d(3, 2, 1), str(tmp_path / "model.pt")
    torch.save(network.state_dict(), model)
    kind, _, colour = kind.partition(" of ")
    if colour:
        save_photograph(tmp_path / "blue.png", np.zeros_like(scene()) + np.uint8([9, 30, 99]))
        got = "blue.png; got 9, 30, 99 in every pixel"
    elif kind == "photograph":
        save_photograph(tmp_path / "black.png", np.zeros_like(scene()))
        got = "black.png; got 0 in every pixel"
    else:
        nib.save(nib.Nifti1Image(np.full((4, 5, 6), 7.0), np.eye(4)), tmp_path / "empty.nii.gz")
        got = "empty.nii.gz; got 7 in every voxel"
    cases = source.inference_cases(str(tmp_path), kind=kind)
    with pytest.raises(DataError, match="image is constant") as caught:
        source.require_sound_inference(
            cases, model, network, LABELS.class_names, str(tmp_path / "out"), kind=kind
        )
    assert got in str(caught.value)


def test_a_folder_that_cannot_be_written_is_told_of_before_there_is_anything_to_write(
    root: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    below = str(tmp_path / "file" / "out")
    with pytest.raises(DataError, match="folder cannot be written") as caught:
        source.begin_run(open_datalist(root), below, {})
    assert caught.value.file == below
    cases, model = source.inference_cases(str(root / "images")), str(out / "model.pt")
    network, names = nn.Conv2d(1, 2, 1), LABELS.class_names
    with pytest.raises(DataError, match="folder cannot be written"):
        source.require_sound_inference(cases, model, network, names, below)
    source.require_sound_inference(cases, model, network, names, str(tmp_path / "masks"))


def test_images_in_a_format_that_is_not_read_are_warned_of(
    root: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("site/d.mha", "site/e.mha", "site/notes.txt", "a.mha"):  # a is converted
        (root / "images" / name).parent.mkdir(exist_ok=True)
        (root / "images" / name).touch()

    def warnings() -> list[str]:
        told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        caplog.clear()
        return told

    source.training_datalist(str(root), str(out), 0, 0.2)
    (line,) = warnings()
    for words in (f"{root}/images/site", "2 files, the first d.mha", "convert them to NIfTI"):
        assert words in line
    source.inference_cases(str(root / "images"))
    assert warnings() == [line]
    source.inference_cases(str(root / "images" / "a.nii.gz"))
    state(root, labeled=[entry(root, "a")])  # says itself what is used
    source.training_datalist(str(root), str(out), 0, 0.2)
    assert warnings() == []
