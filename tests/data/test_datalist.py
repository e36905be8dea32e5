from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dim_monai.data.datalist as module
from dim_monai.data.datalist import (
    LISTS,
    Datalist,
    hashed,
    load_saved_datalist,
    open_datalist,
    was_prepared,
)
from dim_monai.data.kinds import VOLUME
from dim_monai.dicom.write import write_series
from dim_monai.errors import ConfigError, DataError

names = st.text("abcdefgh019-_.", min_size=1, max_size=8).filter(
    lambda name: name[0] != "." and not name.endswith((".", "_seg", "_label", "_lab"))
)
cases = st.dictionaries(
    st.tuples(st.sampled_from(["", "site_a", "site_b"]), names), st.booleans(), min_size=1
)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def lay_out(root: Path, labelled_of: dict[tuple[str, str], bool]) -> Path:
    """Write empty files: a data list looks at names, never into a NIfTI file."""
    for (domain, case), labelled in labelled_of.items():
        touch(root / "images" / domain / f"{case}.nii.gz")
        if labelled:
            touch(root / "labels" / domain / f"{case}.nii.gz")
    return root


def plain(root: Path, labelled: int, unlabelled: int = 0) -> Path:
    count = labelled + unlabelled
    return lay_out(root, {("", f"case_{n:02d}"): n < labelled for n in range(count)})


def written(root: Path, document: object) -> Path:
    root.mkdir(exist_ok=True)
    (root / "datalist.json").write_text(json.dumps(document), encoding="utf-8")
    return root


def listed(root: Path, **counts: int) -> dict[str, list[dict[str, str]]]:
    """Write empty files and return the document that lists them; unlabelled ones have no label."""
    document: dict[str, list[dict[str, str]]] = {}
    for name, count in counts.items():
        document[name] = []
        for n in range(count):
            entry = {"image": f"scans/{name}_{n}.nii.gz"}
            if name != "unlabeled":
                entry["label"] = f"masks/{name}_{n}.nii.gz"
            touch(*(root / path for path in entry.values()))
            document[name].append(entry)
    return document


def by_name(datalist: Datalist) -> dict[str, set[tuple[str, str]]]:
    """Return who stands in each list, as (domain, case)."""
    return {name: {(e["domain"], e["case"]) for e in getattr(datalist, name)} for name in LISTS}


@settings(max_examples=40)
@given(cases, st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_a_drawn_split_is_a_partition_by_patient(labelled_of, seed, fraction) -> None:
    labelled = {(d or "unknown", c) for (d, c), flag in labelled_of.items() if flag}
    everything = {(d or "unknown", c) for d, c in labelled_of}
    with tempfile.TemporaryDirectory() as folder:
        root = lay_out(Path(folder), labelled_of)
        if not labelled:
            with pytest.raises(DataError, match="no labelled case"):
                open_datalist(root, seed=seed)
            return
        datalist = open_datalist(root, seed=seed, validation_fraction=fraction)

    found = by_name(datalist)
    assert found["labeled"] | found["validation"] == labelled
    assert found["unlabeled"] == everything - labelled
    assert found["test"] == set()
    assert sum(len(getattr(datalist, name)) for name in LISTS) == len(everything)
    n = len(labelled)
    wanted = 0 if n < 3 else min(max(round(fraction * n), 1), n - 1)
    assert len(datalist.validation) == wanted
    assert bool(datalist.notes) == (wanted == 0)
    patients = {name: {entry["patient"] for entry in getattr(datalist, name)} for name in LISTS}
    assert not patients["validation"] & (patients["labeled"] | patients["unlabeled"])


@settings(max_examples=20)
@given(cases.filter(lambda flags: any(flags.values())), st.integers(0, 99), st.randoms())
def test_a_drawn_split_depends_on_names_alone(labelled_of, seed, shuffler) -> None:
    shuffled = list(labelled_of.items())
    shuffler.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = open_datalist(lay_out(Path(one), labelled_of), seed=seed)
        second = open_datalist(lay_out(Path(other), dict(shuffled)), seed=seed)
        relative = [
            {name: [os.path.relpath(e["image"], root) for e in getattr(d, name)] for name in LISTS}
            for d, root in ((first, one), (second, other))
        ]
    assert relative[0] == relative[1]


def test_the_order_of_the_file_system_has_no_effect(tmp_path, monkeypatch) -> None:
    root = plain(tmp_path, labelled=9, unlabelled=4)
    expected = open_datalist(root)
    backwards = replace(VOLUME, find=lambda folder: VOLUME.find(folder)[::-1])
    monkeypatch.setattr(module, "get_kind", lambda name: backwards)
    assert open_datalist(root) == expected


def test_unlabelled_cases_do_not_change_the_draw(tmp_path) -> None:
    few = open_datalist(plain(tmp_path / "few", labelled=8))
    many = open_datalist(plain(tmp_path / "many", labelled=8, unlabelled=20))
    assert by_name(few)["validation"] == by_name(many)["validation"]


def test_the_seed_decides_who_validates_and_every_patient_can(tmp_path) -> None:
    root = plain(tmp_path, labelled=5)
    drawn = [by_name(open_datalist(root, seed=seed))["validation"] for seed in range(60)]
    assert {case for cases in drawn for case in cases} == {
        ("unknown", f"case_{n:02d}") for n in range(5)
    }


def test_too_few_labelled_patients_are_said_to_select_nothing(tmp_path) -> None:
    (note,) = open_datalist(plain(tmp_path, labelled=2, unlabelled=3)).notes
    assert note.startswith("nothing was selected: 2 labelled patients are too few")


def test_domain_and_patient_in_the_plain_layout(tmp_path) -> None:
    root = lay_out(tmp_path, {("", "p1"): True, ("site_b", "p1"): False})
    datalist = open_datalist(root, domain_of_plain="home")
    image, label = (str(tmp_path / kind / "p1.nii.gz") for kind in ("images", "labels"))
    assert datalist.labeled == (
        {"image": image, "label": label, "domain": "home", "case": "p1", "patient": "home/p1"},
    )
    assert datalist.unlabeled[0]["patient"] == "site_b/p1"


def test_a_name_of_bytes_that_are_no_characters_is_refused_by_name(tmp_path) -> None:
    """Latin-1, from the share of another system: the draw encodes names, and so do all results."""
    root = plain(tmp_path, 3)
    for kind in ("images", "labels"):
        (root / kind / "case_01.nii.gz").rename(root / kind / os.fsdecode(b"M\xfcller.nii.gz"))
    with pytest.raises(DataError, match="cannot be used in a path") as got:
        open_datalist(root)
    assert "UTF-8" in str(got.value)


def test_a_folder_with_a_dicom_series_is_a_case(tmp_path) -> None:
    folder = tmp_path / "images" / "site_c" / "p.1"
    folder.parent.mkdir(parents=True)
    write_series(folder, np.arange(27).reshape(3, 3, 3), np.eye(4), seed_uid="p1")
    touch(tmp_path / "labels" / "site_c" / "p.1.nii.gz")
    (entry,) = open_datalist(tmp_path).labeled
    assert (entry["image"], entry["domain"], entry["case"]) == (str(folder), "site_c", "p.1")


def test_opening_writes_nothing(tmp_path) -> None:
    root = plain(tmp_path / "set", labelled=4, unlabelled=1)
    before = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
    open_datalist(root)
    assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))] == before


def test_listed_paths_start_at_the_folder_of_the_list(tmp_path, monkeypatch) -> None:
    root = tmp_path / "set"
    document = listed(root, labeled=1, unlabeled=1, validation=1, test=1)
    absolute = tmp_path / "elsewhere.nii.gz"
    touch(absolute)
    document["unlabeled"].append({"image": str(absolute), "domain": "d", "patient": "p"})
    written(root, document)
    monkeypatch.chdir(tmp_path)
    datalist = open_datalist("set", seed=3)
    assert datalist == open_datalist(root)
    assert datalist.labeled[0]["image"] == str(root / "scans/labeled_0.nii.gz")
    assert datalist.labeled[0]["label"] == str(root / "masks/labeled_0.nii.gz")
    assert datalist.test[0]["domain"] == "unknown"
    given = {"domain": "d", "patient": "p"}
    assert datalist.unlabeled[1] == {"image": str(absolute), "case": "elsewhere", **given}
    assert (datalist.source, datalist.notes) == ("datalist.json", ())


def test_a_list_without_validation_is_said_to_select_nothing(tmp_path) -> None:
    root = written(tmp_path, listed(tmp_path, labeled=1))
    assert open_datalist(root).notes == (
        "nothing was selected: datalist.json lists no validation case",
    )


@pytest.mark.parametrize(
    ("notes", "added"), [(["mine"], 1), (["nothing was selected: two patients"], 0)]
)
def test_that_nothing_is_selected_is_said_once_beside_other_notes(tmp_path, notes, added) -> None:
    root = written(tmp_path, {**listed(tmp_path, labeled=1), "notes": notes})
    said = "nothing was selected: datalist.json lists no validation case"
    assert open_datalist(root).notes == (*notes, *[said] * added)


def test_a_datalist_file_decides_over_the_plain_layout(tmp_path) -> None:
    root = written(plain(tmp_path, labelled=5), listed(tmp_path, labeled=1, test=1))
    assert by_name(open_datalist(root))["labeled"] == {("unknown", "labeled_0")}


def test_one_patient_may_train_with_and_without_labels(tmp_path) -> None:
    document = listed(tmp_path, labeled=1, unlabeled=1)
    document["labeled"][0]["patient"] = document["unlabeled"][0]["patient"] = "p"
    assert open_datalist(written(tmp_path, document)).unlabeled[0]["patient"] == "p"


@settings(max_examples=20)
@given(st.text(), st.lists(st.text()), st.text(min_size=1))
def test_a_saved_list_comes_back_equal(source, notes, patient) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = plain(Path(folder), labelled=4, unlabelled=2)
        drawn = open_datalist(root)
        unlabeled = ({**drawn.unlabeled[0], "patient": patient}, *drawn.unlabeled[1:])
        sha256 = {drawn.labeled[0]["image"]: "ab", drawn.labeled[0]["label"]: "cd"}
        facts = {"seed": 3, "test_fraction": 0.25, "command": source}
        saved = replace(
            drawn,
            unlabeled=unlabeled,
            source=source,
            notes=tuple(notes),
            facts=facts,
            sha256=sha256,
        )
        module.save_datalist(root / "split.json", saved)
        assert load_saved_datalist(root / "split.json") == saved


def test_a_saved_draw_can_be_used_again_as_a_datalist(tmp_path) -> None:
    drawn = open_datalist(plain(tmp_path / "set", labelled=6), seed=5)
    (tmp_path / "again").mkdir()
    module.save_datalist(tmp_path / "again" / "datalist.json", drawn)
    assert open_datalist(tmp_path / "again", seed=6) == drawn


def test_hashes_stand_apart_from_the_entries(tmp_path) -> None:
    document = listed(tmp_path, labeled=1, unlabeled=1, test=1)
    document["labeled"][0] |= {"image_sha256": "i", "label_sha256": "l"}
    document["test"][0]["image_sha256"] = "t"
    datalist = open_datalist(written(tmp_path, document))
    assert not any("sha256" in key for name in LISTS for e in getattr(datalist, name) for key in e)
    (entry,) = hashed(datalist, "labeled")
    assert entry == {**datalist.labeled[0], "image_sha256": "i", "label_sha256": "l"}
    assert hashed(datalist, "unlabeled") == datalist.unlabeled
    training = datalist.for_training()
    assert hashed(training, "labeled") == (entry,)
    assert sorted(training.sha256.values()) == ["i", "l"]  # none of a test case


def test_a_list_of_the_reference_protocol_says_that_it_selects_on_test_data(tmp_path) -> None:
    note = "selected on test data: no validation"
    root = written(tmp_path, {**listed(tmp_path, labeled=1, test=1), "notes": [note]})
    assert open_datalist(root).notes == (note,)


def test_paths_can_be_saved_relative_to_a_folder(tmp_path) -> None:
    drawn = open_datalist(plain(tmp_path / "set", labelled=4))
    (tmp_path / "list").mkdir()
    module.save_datalist(tmp_path / "list/a.json", drawn, relative_to=tmp_path / "list")
    assert '"../set/images/case_00.nii.gz"' in (tmp_path / "list/a.json").read_text()
    assert load_saved_datalist(tmp_path / "list/a.json") == drawn
    module.save_datalist(tmp_path / "list/b.json", drawn, relative_to=Path("/another/folder"))
    assert f'"{tmp_path}/set/images/case_00.nii.gz"' in (tmp_path / "list/b.json").read_text()


def test_a_prepared_list_is_known_by_its_layout(tmp_path) -> None:
    root = written(tmp_path, listed(tmp_path, labeled=1))
    assert not was_prepared(root / "datalist.json")
    assert not was_prepared(root / "gone.json")
    written(root, {"layout": "folder"})
    assert was_prepared(root / "datalist.json")


def test_photographs_in_the_plain_layout(tmp_path) -> None:
    for n, suffix in enumerate(("jpg", "PNG", "tif", "jpeg")):
        touch(tmp_path / "images" / "north" / f"e.{n}.{suffix}")
    touch(*(tmp_path / "labels" / "north" / f"e.{n}.png" for n in range(3)))
    datalist = open_datalist(tmp_path, kind="photograph")
    assert by_name(datalist)["unlabeled"] == {("north", "e.3")}
    labelled = (*datalist.labeled, *datalist.validation)
    assert {(e["case"], Path(e["label"]).name) for e in labelled} == {
        (f"e.{n}", f"e.{n}.png") for n in range(3)
    }
    module.save_datalist(tmp_path / "list.json", datalist)
    assert load_saved_datalist(tmp_path / "list.json") == datalist
    touch(tmp_path / "labels" / "north" / "e.3.jpg")
    with pytest.raises(DataError, match=r"label in another format: .*e\.3\.jpg; expected a mask"):
        open_datalist(tmp_path, kind="photograph")


def test_an_unknown_kind_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown kind of case; got 'photo'"):
        open_datalist(plain(tmp_path, labelled=3), kind="photo")


def test_training_cannot_open_the_test_list(tmp_path) -> None:
    root = written(tmp_path, listed(tmp_path, labeled=1, unlabeled=1, validation=1, test=1))
    datalist = open_datalist(root)
    training = datalist.for_training()
    for name in ("labeled", "unlabeled", "validation"):
        assert getattr(training, name) == getattr(datalist, name)
    with pytest.raises(DataError, match="test list cannot be opened in training"):
        _ = training.test
    assert datalist.test[0]["image"] not in repr(training)


def edit(change: Callable[[dict[str, list[dict[str, str]]]], object]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        document = listed(root, labeled=2, unlabeled=1, validation=1, test=1)
        change(document)
        written(root, document)

    return spoil


def give(*lists: str, **values: object) -> Callable[[Path], object]:
    """Change keys of the first entry of some lists; None takes a key out."""

    def change(document: dict[str, list[dict[str, str]]]) -> None:
        for name in lists:
            entry = {**document[name][0], **values}
            document[name][0] = {key: value for key, value in entry.items() if value is not None}

    return edit(change)


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "datalist.json").write_bytes(content)


def alias(root: Path) -> None:
    document = listed(root, labeled=1, test=1)
    (root / "scans" / "test_0.nii.gz").unlink()
    (root / "scans" / "test_0.nii.gz").symlink_to(root / "scans" / "labeled_0.nii.gz")
    written(root, document)


def alias_of_label(root: Path) -> None:
    document = listed(root, labeled=1, test=1)
    (root / "masks" / "test_0.nii.gz").unlink()
    (root / "masks" / "test_0.nii.gz").symlink_to(root / "masks" / "labeled_0.nii.gz")
    written(root, document)


REFUSED_LISTS: list[tuple[Callable[[Path], object], str]] = [
    (raw(b'{"labeled": [\n  {]}'), r"malformed JSON: .*datalist\.json; .* at line 2, column 4"),
    (raw(b"[]"), "malformed data list: .* expected an object with four lists"),
    (raw(b'{"labeled": "\xff"}'), r"data list cannot be read: .*datalist\.json"),
    (raw(b'{"labeled": [], "labeled": []}'), "repeated key in data list: .*; got labeled"),
    (raw(b'{"labeled": {}}'), 'malformed data list: .*; expected "labeled" a list of objects'),
    (edit(lambda lists: lists.update(source=[])), '"source" a string'),
    (edit(lambda lists: lists.update(seed=[])), '"seed" a text or number'),
    (
        edit(lambda lists: lists.update(labelled=[])),
        "unknown key in data list: .*; got 'labelled'; .*; did you mean 'labeled'?",
    ),
    (give("test", imag="x"), r"unknown key in test\[0\]: .*'imag'; .*; did you mean 'image'?"),
    (give("test", patient=7), r"malformed test\[0\]: .*; got patient 7; expected a string"),
    (give("test", image=None), r"test\[0\] has no image"),
    (
        give("test", image="gone.nii"),
        r"image of test\[0\] does not exist: .*/gone\.nii; mend .*json",
    ),
    (
        give("test", label="gone.nii"),
        r"label of test\[0\] does not exist: .*/gone\.nii; mend .*json",
    ),
    *(
        (give(name, label=None), rf"{name}\[0\] has no label: .*; got scans/{name}_0\.nii\.gz")
        for name in ("labeled", "validation", "test")
    ),
    (give("unlabeled", label="masks/test_0.nii.gz"), r"unlabeled\[0\] has a label: .*test_0"),
    (
        edit(lambda lists: lists["test"].append(lists["labeled"][1])),
        r"image listed twice: .*labeled_1\.nii\.gz; got labeled\[1\] and test\[1\]",
    ),
    (alias, r"image listed twice: .*; got labeled\[0\] and test\[0\]"),
    (
        give("test", label="masks/labeled_0.nii.gz"),
        r"label listed twice: .*labeled_0\.nii\.gz; got labeled\[0\] and test\[0\]; give each",
    ),
    (alias_of_label, r"label listed twice: .*test_0.*; got labeled\[0\] and test\[0\]"),
    (
        give("test", label="scans/test_0.nii.gz"),
        r"label that is an image: .*test_0\.nii\.gz; got image of test\[0\], label of test\[0\]",
    ),
    (
        give("test", label="scans/unlabeled_0.nii.gz"),
        r"label that is an image: .*; got image of unlabeled\[0\], label of test\[0\]",
    ),
    (
        give("test", case="labeled_0"),
        r"same name: .*; got unknown/labeled_0 as labeled\[0\] and test",
    ),
    *(
        (
            give(one, other, patient="P7"),
            rf"both sides of a split: .*{other}_0\.nii\.gz; got P7 as {one}\[0\] and {other}\[0\]",
        )
        for one, other in itertools.combinations(LISTS, 2)
        if other != "unlabeled"
    ),
    (give("test", domain="../.."), r"cannot be used in a path: .*; got '\.\./\.\.'"),
    (
        edit(lambda lists: lists.update(labeled=[])),
        "no labelled case: .*; got 0 labeled, 1 unlabeled, 1 validation, 1 test",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED_LISTS)
def test_a_contradictory_datalist_is_refused(tmp_path, spoil, message) -> None:
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        open_datalist(tmp_path)


def link_to_folder(root: Path) -> None:
    (root / "series").mkdir()
    (root / "images" / "late").symlink_to(root / "series", target_is_directory=True)


def series_as_images(root: Path) -> None:
    write_series(root / "images" / "new", np.arange(27).reshape(3, 3, 3), np.eye(4), seed_uid="p")
    for file in (root / "images" / "new").iterdir():
        file.rename(root / "images" / file.name)


REFUSED_LAYOUTS: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda root: (root / "images").rename(root / "imagesTr"),
        "not a data set folder: .*; expected datalist.json, or .* images .*; rename imagesTr",
    ),
    (
        lambda root: touch(root / "labels" / "case_07.nii.gz"),
        r"label without image: .*labels/case_07\.nii\.gz; .*the closest image is .*images/case_0",
    ),
    (
        lambda root: touch(root / "labels" / "site_b" / "case_00.nii.gz"),
        r"label without image: .*labels/site_b/case_00\.nii\.gz",
    ),
    (
        lambda root: (root / "labels" / "case_00.nii.gz").rename(root / "labels" / "case_00.nrrd"),
        r"label in another format: .*labels/case_00\.nrrd",
    ),
    (
        lambda root: touch(root / "labels" / "case_00" / "1.dcm"),
        r"label in another format: .*labels/case_00/1\.dcm",
    ),
    *(
        (
            lambda root, kind=kind: touch(root / kind / "case_00.nii"),
            rf"two files for one case: .*; got also .*{kind}/case_00\.nii",
        )
        for kind in ("images", "labels")
    ),
    (
        lambda root: touch(root / "images" / "a" / "b" / "c.nii.gz"),
        r"wrong depth: .*images/a/b/c\.nii\.gz; expected images/case or images/domain/case",
    ),
    (series_as_images, "wrong depth: .*/images; "),
    (link_to_folder, "passed over: .*images/late; got a link to a folder"),
    (
        lambda root: (root / "images" / "late.nii.gz").symlink_to(root / "gone"),
        r"passed over: .*images/late\.nii\.gz; got a link to nothing",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED_LAYOUTS)
def test_a_layout_that_would_lose_a_case_is_refused(tmp_path, spoil, message) -> None:
    open_datalist(plain(tmp_path, labelled=2))
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        open_datalist(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data set folder not found: .*nowhere; check dataset_dir"):
        open_datalist(tmp_path / "nowhere")


def test_other_files_beside_the_labels_are_let_be(tmp_path) -> None:
    root = plain(tmp_path, labelled=3)
    touch(root / "labels" / "README.txt", root / "labels" / ".case_00.swp")
    assert len(open_datalist(root).labeled) == 2


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, float("nan")])
def test_a_validation_fraction_out_of_range_is_refused(tmp_path, fraction) -> None:
    with pytest.raises(ConfigError, match="validation_fraction"):
        open_datalist(plain(tmp_path, labelled=3), validation_fraction=fraction)
