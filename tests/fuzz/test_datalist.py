"""Data lists as somebody might write them: the entries that they state, or refused."""

from __future__ import annotations

import copy
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dim_monai.data.datalist import LISTS, load_saved_datalist, save_datalist
from dim_monai.errors import DataError
from tests.fuzz.law import INPUTS, bounded, outcome, require_both

CASES = 4


def sound() -> dict[str, Any]:
    entries = [
        {"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz", "case": f"c{n}"}
        for n in range(CASES)
    ]
    del entries[1]["label"]
    lists = zip(LISTS, entries, strict=True)
    return {**{name: [entry] for name, entry in lists}, "source": "by hand", "notes": [], "seed": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for n in range(CASES):
            (tmp_path / "set" / kind / f"{n}.nii.gz").touch()
    (tmp_path / "outside.nii.gz").touch()
    (tmp_path / "set" / "link.nii.gz").symlink_to("images/0.nii.gz")
    (tmp_path / "set" / "loop.nii.gz").symlink_to("loop.nii.gz")
    return tmp_path / "set"


TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", ".", "..", "/", "a\nb", "a\x1b[31mb", "a\0b", "\u2028", "\ud800", "\udcff", "é"),
            *("a" * 256, "a" * 5000, "a/" * 3000, "x" * 200_000, "a\\b", "~", "$HOME", "%s{0}"),
            *("/dev/zero", "/dev/stdin", "/proc/self/mem", "/", "/nowhere", "loop.nii.gz"),
            *(
                "../outside.nii.gz",
                "images",
                "images/../labels/0.nii.gz",
                "link.nii.gz",
                "a\u00a0b",
            ),
            *(
                "images/0.nii.gz",
                "images/1.nii.gz",
                "labels/1.nii.gz",
                "labels/../../outside.nii.gz",
            ),
            *("c0", "unknown", "unknown/c0", "file:///etc/hosts", "images/0.nii.gz/", "con", "-rf"),
        ]
    ),
    st.text(max_size=8),
    st.text(st.characters(), min_size=1, max_size=3),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(10**4000))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.one_of(
    st.sampled_from(["image", "label", "case", "domain", "patient", "image_sha256", "labels"]),
    TEXTS,
)


def spoil(data: st.DataObject, document: dict[str, Any]) -> None:
    how = data.draw(
        st.sampled_from(["entry", "entry", "text", "text", "key", "list", "top", "move"])
    )
    name = data.draw(st.sampled_from(LISTS), "list")
    entries = document.get(name)
    entry = entries[0] if isinstance(entries, list) and entries else None
    if how in ("entry", "text", "key") and isinstance(entry, dict):
        keys = KEYS if how == "key" else st.sampled_from(["image", "label", "case", "patient"])
        entry[data.draw(keys, "key")] = data.draw(ANYTHING if how == "entry" else TEXTS, "value")
    elif how == "move" and entry is not None:
        other = document.get(data.draw(st.sampled_from(LISTS), "to"))
        if isinstance(other, list):
            other.append(copy.deepcopy(entry))
    elif how == "top":
        keys = st.one_of(st.sampled_from(["source", "notes", "seed", "kind", "command"]), TEXTS)
        document[data.draw(keys, "key")] = data.draw(
            st.one_of(ANYTHING, st.lists(TEXTS, max_size=2)), "value"
        )
    elif data.draw(st.booleans(), "missing"):
        document.pop(name, None)
    else:
        document[name] = data.draw(ANYTHING, "list")


def as_bytes(data: st.DataObject, document: dict[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=data.draw(st.booleans(), "ascii"))
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    how = data.draw(st.integers(0, 9), "bytes")
    if how == 0:
        del raw[data.draw(st.integers(0, len(raw))) :]
    elif how == 1:
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    elif how == 2:
        key = data.draw(KEYS, "repeated")
        raw[-1:] = f", {json.dumps(key)}: 1, {json.dumps(key)}: 2}}".encode()
    return bytes(raw)


def require_stated(path: Path, raw: bytes) -> None:
    """Fail unless the lists are what plain reading of the file gives."""
    found = load_saved_datalist(path)
    document = json.loads(raw)
    images, patients = [], {}
    for name in LISTS:
        entries = getattr(found, name)
        assert len(entries) == len(document.get(name, []))
        side = "training" if name in ("labeled", "unlabeled") else name
        for entry, stated in zip(entries, document.get(name, []), strict=True):
            for key in ("image", "label"):
                assert (key in entry) == (key in stated)
                if key in entry:
                    expected = os.path.normpath(os.path.join(path.parent, stated[key]))
                    assert os.path.normpath(entry[key]) == expected
                    assert os.path.exists(expected)
            assert entry["case"] == stated.get("case", entry["case"])
            assert not set("/\\\n\0") & set(entry["case"] + entry["domain"])
            assert ("label" in entry) == (name != "unlabeled")
            images.append(os.path.realpath(entry["image"]))
            assert patients.setdefault(entry["patient"], side) == side
            said = entry["image"] + entry.get("label", "") + entry["domain"] + entry["case"]
            assert not {unicodedata.category(char) for char in said} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(images) == len(set(images))
    assert found.labeled
    save_datalist(path.with_name("again.json"), found)
    again = load_saved_datalist(path.with_name("again.json"))
    assert again == found


def stated_paths(path: Path, raw: bytes) -> set[str]:
    document = json.loads(raw)
    entries = [entry for name in LISTS for entry in document.get(name, [])]
    texts = [entry[key] for entry in entries for key in ("image", "label") if key in entry]
    places = {os.path.join(path.parent, text) for text in texts if isinstance(text, str)}
    return {str(Path(place)) for place in places} | {os.path.abspath(place) for place in places}


def check(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    found = outcome(lambda: load_saved_datalist(path), Path("/"))
    if isinstance(found, DataError):
        # The fault is the list's, or that of an image or label that it names, wherever that lies.
        assert found.file == str(path) or found.file in stated_paths(path, raw)
        return "refused"
    require_stated(path, raw)
    return "accepted"


@pytest.mark.timeout(120)
def test_any_data_list_gives_its_entries_or_is_refused(folder: Path) -> None:
    outcomes: Counter[str] = Counter()

    @bounded(INPUTS + 300)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        document = sound()
        for _ in range(data.draw(st.integers(0, 2), "faults")):
            spoil(data, document)
        outcomes[check(folder / "datalist.json", as_bytes(data, document))] += 1

    read_all()
    require_both(outcomes)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[" * 200_000, "lists within lists"),
        (b'{"labeled": ' * 100_000, "lists within lists"),
        (b'{"seed": ' + b"7" * 5000 + b"}", "a number too long"),
        (b'{"labeled": [], "seed": NaN}', "got NaN; expected finite numbers"),
        (b'{"labeled": [], "seed": -Infinity}', "got -Infinity"),
        (b'{"labeled": [], "seed": 1e999}', "got seed inf"),
        (b'{"labeled": [], "a\\nb": 1, "a\\nb": 2}', r"got a\nb"),
        (b'{"labeled": [{"image": "a\\u001b[2Jb"}]}', r"got image 'a\x1b[2Jb'; expected one line"),
        (b'{"labeled": [{"patient": "\\ud800"}]}', r"surrogates not allowed"),
        (b'{"labeled": [{"image": "' + b"a" * 5000 + b'"}]}', "at most 4096 characters"),
        (b'{"labeled": [{"patient": "' + b"a" * 500 + b'"}]}', "at most 255 characters"),
        (b'{"labeled": [{"image": "' + b"a" * 300 + b'", "label": "b"}]}', "File name too long"),
        (b"\xff\xfe{}", "data list cannot be read"),
    ],
)
def test_a_hostile_list_is_refused_in_one_short_line(folder: Path, raw: bytes, words: str) -> None:
    path = folder / "datalist.json"
    path.write_bytes(raw)
    found = outcome(lambda: load_saved_datalist(path), path)
    assert isinstance(found, DataError)
    assert words in str(found)


def test_a_hundred_thousand_keys_are_looked_through_once(folder: Path) -> None:
    keys = {f"key{n}": n for n in range(100_000)}
    assert check(folder / "datalist.json", json.dumps(keys).encode()) == "refused"
