"""What a training that MONAI Label starts is given: its labelled cases, and all others found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from dim_monai.data.datalist import Datalist
from dim_monai.errors import DataError
from dim_monai.label.lists import pretrained_model, served_datalist, study_folder

Cases = list[dict[str, str]]


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def cases(folder: Path, *names: str, suffix: str = ".nii.gz") -> Cases:
    """What the server passes of studies with a label, which it keeps by the same name."""
    for name in names:
        make_files(folder, f"{name}{suffix}", f"labels/final/{name}{suffix}")
    return [
        {"image": f"{folder}/{name}{suffix}", "label": f"{folder}/labels/final/{name}{suffix}"}
        for name in names
    ]


def ask(
    call: str, labelled: Any, validation: Any = "$[]", handlers: list[dict[str, Any]] | None = None
) -> Any:
    """Evaluate a call in a config over which the server has laid its lists."""
    parser = ConfigParser(
        {
            "imports": ["$import dim_monai.label.lists as label"],
            "answer": f"$label.{call}",
            "train": {"dataset": {"data": labelled}, "handlers": handlers or []},
            "validate": {"dataset": {"data": validation}},
        }
    )
    return parser.get_parsed_content("answer")


def lists(labelled: Any, validation: Any = "$[]", kind: str = "volume") -> Datalist:
    datalist: Datalist = ask(f"served_datalist('{kind}')", labelled, validation)
    return datalist


def images(entries: Any, folder: Path) -> list[str]:
    return sorted(Path(entry["image"]).relative_to(folder).as_posix() for entry in entries)


@pytest.mark.parametrize("call", ["served_datalist()", "study_folder()", "pretrained_model()"])
def test_any_other_run_is_none_of_its_business(call: str) -> None:
    assert ask(call, "$['an expression, as the config has it']") is None


def test_outside_of_a_config_there_is_nothing() -> None:
    assert (served_datalist(), study_folder(), pretrained_model()) == (None, None, None)


def test_all_other_images_of_the_folder_are_unlabelled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labelled, validation = cases(tmp_path, "a"), cases(tmp_path, "b")
    make_files(tmp_path, "c.nii.gz", "d.nii", "site_x/e.nii.gz", "site_x/scanner 2/f.nii.gz")
    # What the server keeps besides, and what is no image.
    make_files(tmp_path, "labels/original/c.nii.gz", "datastore_v2.json", ".lock", "c_seg.nii.gz")
    with caplog.at_level("INFO", logger="dim_monai.label.lists"):
        datalist = lists(labelled, validation)
    assert images(datalist.labeled, tmp_path) == ["a.nii.gz"]
    assert images(datalist.validation, tmp_path) == ["b.nii.gz"]
    assert [e["label"] for e in datalist.labeled] == [str(tmp_path / "labels/final/a.nii.gz")]
    assert images(datalist.unlabeled, tmp_path) == [
        "c.nii.gz",
        "d.nii",
        "site_x/e.nii.gz",
        "site_x/scanner 2/f.nii.gz",
    ]
    assert not any("label" in entry for entry in datalist.unlabeled)
    assert datalist.test == ()
    assert f"unlabelled studies found in {tmp_path}: 4" in caplog.text


def test_a_folder_below_is_a_domain(tmp_path: Path) -> None:
    labelled = cases(tmp_path, "a")
    make_files(tmp_path, "b.nii.gz", "x/c.nii.gz", "x/y/d.nii.gz")
    datalist = lists(labelled)
    domains = {Path(e["image"]).name: e["domain"] for e in (*datalist.labeled, *datalist.unlabeled)}
    assert domains == {
        "a.nii.gz": "unknown",
        "b.nii.gz": "unknown",
        "c.nii.gz": "x",
        "d.nii.gz": "x-y",
    }


def test_a_labelled_case_is_known_by_whatever_path(tmp_path: Path) -> None:
    """The server may be given the studies by a link to their folder."""
    cases(tmp_path / "studies", "a", "b")
    (tmp_path / "link").symlink_to(tmp_path / "studies")
    datalist = lists(cases(tmp_path / "link", "a"))
    assert [Path(entry["image"]).name for entry in datalist.unlabeled] == ["b.nii.gz"]


def test_without_other_images_there_is_no_unlabelled_case(tmp_path: Path) -> None:
    assert lists(cases(tmp_path, "a", "b")).unlabeled == ()


@pytest.mark.parametrize("validation", ["$@train#dataset#data", []])
def test_validation_cases_are_only_those_that_the_server_sets_aside(
    tmp_path: Path, validation: Any
) -> None:
    """With ``val_split`` -1 it leaves the expression of the config, with 0 it passes none."""
    datalist = lists(cases(tmp_path, "a", "b"), validation)
    assert datalist.validation == ()
    assert len(datalist.labeled) == 2


def test_photographs_are_looked_for_as_photographs(tmp_path: Path) -> None:
    labelled = cases(tmp_path, "a", suffix=".png")
    make_files(tmp_path, "b.JPG", "c.tiff", "d.nii.gz")
    assert images(lists(labelled, kind="photograph").unlabeled, tmp_path) == ["b.JPG", "c.tiff"]


def test_the_folder_is_the_one_that_holds_the_labels(tmp_path: Path) -> None:
    assert ask("study_folder()", cases(tmp_path, "a")) == str(tmp_path)


def test_no_label_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        lists([])
    assert isinstance(caught.value.__cause__, DataError)
    assert "save a label" in str(caught.value.__cause__)


def test_labels_of_two_folders_are_refused(tmp_path: Path) -> None:
    both = cases(tmp_path / "one", "a") + cases(tmp_path / "other", "b")
    with pytest.raises(RuntimeError) as caught:
        lists(both)
    assert isinstance(caught.value.__cause__, DataError)
    assert str(tmp_path / "other" / "labels" / "final") in str(caught.value.__cause__)


LOADER = {"_target_": "CheckpointLoader", "load_path": "models/model.pt"}


@pytest.mark.parametrize(
    ("handlers", "expected"),
    [([LOADER, {"_target_": "A"}], "models/model.pt"), ([{"_target_": "A"}], None), ([], None)],
)
def test_the_weights_to_begin_with_are_those_of_the_loader_that_the_server_puts_first(
    tmp_path: Path, handlers: list[dict[str, Any]], expected: str | None
) -> None:
    assert ask("pretrained_model()", cases(tmp_path, "a"), handlers=handlers) == expected
    assert ask("pretrained_model()", "$[]", handlers=handlers) is None
