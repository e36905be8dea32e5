"""Every code is found where its fault was made, and nothing else is; the page lists them all."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch

from dim_monai.lint import CODES, Fault, lint_bundle
from dim_monai.lint.tree import MAX_BYTES, MAX_NODES
from tests.lint.bundles import LOGGING, TENSOR, TRAIN, add, bundle, metadata, write
from tests.lint.expressions import EXPRESSIONS, TARGETS
from tests.lint.files import FILES, MORE, Spoil, evil_weights

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "lint.md"
TRAIN_FILE, LOGGING_FILE = "configs/train.yaml", "configs/logging.conf"
METADATA_FILE = "configs/metadata.json"


def lines(text: str) -> Spoil:
    return lambda root: add(root, text)


def logging(old: str, new: str) -> Spoil:
    return lambda root: write(root, LOGGING_FILE, LOGGING.replace(old, new))


def large(entry: str) -> Spoil:
    return lambda root: write(root, "large_files.yml", f"large_files:\n- {entry}\n")


def shaped(size: str) -> Spoil:
    tensor = {"inputs": {"image": {**TENSOR, "spatial_shape": [size]}}, "outputs": {}}
    return lambda root: metadata(root, network_data_format=tensor)


def deep(levels: int) -> str:
    return "deep: " + "[" * levels + "]" * levels + "\n"


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"

# code, what spoils a sound bundle, the file at fault, words of its line
CASES: list[tuple[str, Spoil, str, list[str]]] = [
    ("L001", lines("x: [1\n"), TRAIN_FILE, ["malformed YAML"]),
    ("L001", lambda r: write(r, "configs/a.json", "{"), "configs/a.json", ["malformed"]),
    ("L001", lambda r: write(r, "configs/a.json", "[1]"), "configs/a.json", ["no mapping"]),
    ("L001", lambda r: write(r, TRAIN_FILE, b"\xff\xfe"), TRAIN_FILE, ["malformed"]),
    ("L001", lambda r: write(r, TRAIN_FILE, "a: 1\n---\nb: 1\n"), TRAIN_FILE, ["another document"]),
    ("L002", lines("#" * MAX_BYTES), TRAIN_FILE, ["file is too large"]),
    ("L002", lines(f"x: [{'1,' * MAX_NODES}]\n"), TRAIN_FILE, ["too many values"]),
    ("L002", lines(deep(90)), TRAIN_FILE, ["nested too deeply"]),
    ("L002", lambda r: write(r, "configs/a.json", "[" * 5000), "configs/a.json", []),
    ("L003", lines(LAUGHS), TRAIN_FILE, ["*a"]),
    ("L003", lines("x: &x\n  y: *x\n"), TRAIN_FILE, ["*x"]),
    ("L003", lines("x: {<<: {a: 1}}\n"), TRAIN_FILE, ["merge key"]),
    ("L004", lines("x: !!python/object/apply:os.system [id]\n"), TRAIN_FILE, ["python/object"]),
    ("L004", lines("x: !!python/name:os.system\n"), TRAIN_FILE, ["python/name"]),
    ("L004", lines("x: !!binary aGk=\n"), TRAIN_FILE, ["binary"]),
    ("L005", lines("rate: 1\n"), TRAIN_FILE, ["'rate'", "only the last is read"]),
    ("L005", lambda r: write(r, "configs/a.json", '{"a": 1, "a": 2}'), "configs/a.json", ["'a'"]),
    ("L006", lines("x: {\"y'] or z['\": 1}\n"), TRAIN_FILE, ["key that cannot be part"]),
    ("L006", lines("'a b#c': 1\n"), TRAIN_FILE, ["'a b#c'"]),
    ("L025", lines("x: $'" + "a" * 2000 + "'\n"), TRAIN_FILE, ["expression too long"]),
    ("L030", lines("x: '@nett'\n"), TRAIN_FILE, ["'@nett'", "did you mean @net?"]),
    ("L030", lines("x: $@train#trainr.run()\n"), TRAIN_FILE, ["train::trainr"]),
    ("L030", lines("x: '@##y'\n"), TRAIN_FILE, ["above the top"]),
    ("L031", lines("x: '%nett'\n"), TRAIN_FILE, ["does not exist"]),
    ("L031", lines("x: '%/etc/other.yaml#y'\n"), TRAIN_FILE, ["macro of a file"]),
    ("L031", lines("x: {y: '%z'}\nz: ['%x']\n"), TRAIN_FILE, ["macro of a macro"]),
    ("L031", lines("x: {y: '%x'}\n"), TRAIN_FILE, ["macro of a macro"]),
    ("L032", lines("x: '@y'\ny: $[@z]\nz: {deep: ['@x']}\n"), TRAIN_FILE, ["x > y > z"]),
    ("L032", lines("x: {y: '@x'}\n"), TRAIN_FILE, ["x::y > x"]),
    ("L033", lines("trane#trainer#max_epochs: 3\n"), TRAIN_FILE, ["trane::trainer"]),
    ("L033", lines("+rate: [1]\n"), TRAIN_FILE, ["two mappings or two lists"]),
    ("L034", lines("x: '@imports#0'\n"), TRAIN_FILE, ["imported modules"]),
    ("L034", lines("x: $@imports[0].name\n"), TRAIN_FILE, ["imported modules"]),
    ("L034", lines("x: $list(@)\n"), TRAIN_FILE, ["imported modules"]),
    ("L034", lines("x: '%imports'\n"), TRAIN_FILE, ["macro of the imports"]),
    ("L040", lines("x: /data/images\n"), TRAIN_FILE, ["'/data/images'", "@bundle_root"]),
    ("L040", lines("x: ~/images\n"), TRAIN_FILE, []),
    ("L040", lines("x: /etc/other.yaml\n"), TRAIN_FILE, []),
    ("L040", lines("x: C:\\data\n"), TRAIN_FILE, []),
    ("L040", lines("x: $'/data' + @bundle_root\n"), TRAIN_FILE, ["'/data'"]),
    ("L040", lines("x: $os.path.join('/data', @bundle_root)\n"), TRAIN_FILE, ["'/data'"]),
    ("L041", lines("x: $@bundle_root + '/home/ann/images'\n"), TRAIN_FILE, ["'/home/ann'"]),
    ("L041", lambda r: write(r, "docs/README.md", "cd\ncd C:\\Users\\ann\n"), "docs/README.md", []),
    ("L042", lines("x: models/../../other\n"), TRAIN_FILE, ["models/../../other"]),
    ("L042", lines("x: $@bundle_root + '/../other'\n"), TRAIN_FILE, ["/../other"]),
    ("L042", large("{path: ../x, url: 'https://x'}"), "large_files.yml", ["'../x'"]),
    ("L050", logging("[loggers]", "loggers"), LOGGING_FILE, ["cannot be read"]),
    ("L050", logging("(sys.stdout,)", "%(nothing)s"), LOGGING_FILE, ["nothing"]),
    ("L051", logging("(sys.stdout,)", "(os.system('id'),)"), LOGGING_FILE, ["args", "os.system"]),
    ("L051", logging("(sys.stdout,)", "(sys.modules,)"), LOGGING_FILE, ["args"]),
    ("L051", logging("StreamHandler", "os.system"), LOGGING_FILE, ["class", "StreamHandler"]),
    ("L051", logging("StreamHandler", "FileHandler"), LOGGING_FILE, ["class"]),
    ("L051", logging("[loggers]", "[DEFAULT]\nclass = eval\n[loggers]"), LOGGING_FILE, ["'eval'"]),
    ("L051", logging("StreamHandler", "%(x)s\nx = eval"), LOGGING_FILE, ["'eval'"]),
    ("L051", logging("args =", "kwargs = dict(a=exit())\nargs ="), LOGGING_FILE, ["kwargs"]),
    ("L051", logging("format =", "class = evil.Evil\nformat ="), LOGGING_FILE, ["evil.Evil"]),
    ("L051", logging("format =", "defaults = exit()\nformat ="), LOGGING_FILE, ["defaults"]),
    ("L060", lambda r: (r / METADATA_FILE).unlink(), METADATA_FILE, ["no bundle"]),
    ("L060", lambda r: write(r, METADATA_FILE, "{"), METADATA_FILE, ["malformed"]),
    ("L061", lambda r: metadata(r, version=None), METADATA_FILE, ["metadata without version"]),
    ("L061", lambda r: metadata(r, authors=["a"]), METADATA_FILE, ["a string"]),
    ("L061", lambda r: metadata(r, network_data_format={"inputs": {}}), METADATA_FILE, ["outputs"]),
    ("L062", lambda r: metadata(r, task="$import os"), METADATA_FILE, ["evaluated"]),
    ("L062", lambda r: metadata(r, data={"_target_": "UNet"}), METADATA_FILE, ["evaluated"]),
    ("L062", shaped("__import__('os')"), METADATA_FILE, ["shape that would be evaluated"]),
    ("L062", shaped("9**9**9"), METADATA_FILE, ["shape"]),
    ("L063", large("{path: models/a.pt, url: 'http://x'}"), "large_files.yml", ["https://"]),
    ("L063", large("{path: a.pt, url: 'https://x', hash_val: 0a}"), "large_files.yml", ["sha256"]),
    ("L063", large("{url: 'https://x'}"), "large_files.yml", ["without a path"]),
    *FILES,
]
"""Faults of expressions and targets stand in tests.lint.expressions."""


def codes_of(root: Path) -> list[str]:
    return [fault.code for fault in lint_bundle(root).faults]


def test_a_sound_bundle_has_no_fault(tmp_path: Path) -> None:
    assert lint_bundle(bundle(tmp_path / "b")).faults == ()


@pytest.mark.parametrize("name", ["dim_prostate", "dim_fundus"])
def test_our_bundles_have_no_fault(name: str) -> None:
    assert lint_bundle(REPOSITORY / "bundles" / name).faults == ()


@pytest.mark.parametrize(
    ("code", "spoil", "file", "words"),
    CASES,
    ids=[f"{code}-{n}" for n, (code, *_) in enumerate(CASES)],
)
def test_a_code_is_found_where_its_fault_was_made(
    tmp_path: Path, code: str, spoil: Spoil, file: str, words: list[str]
) -> None:
    root = bundle(tmp_path / "b")
    spoil(root)
    faults = lint_bundle(root).faults
    found = [fault for fault in faults if fault.code == code]
    assert found
    told = " / ".join(str(fault) for fault in found)
    assert {fault.file for fault in found} == {root / file}
    for word in words:
        assert word in told
    for fault in faults:
        assert str(fault).startswith(f"{fault.code} ")
        assert str(fault).isprintable()


@pytest.mark.parametrize(
    ("codes", "spoil"), [(codes, spoil) for codes, spoils in MORE.items() for spoil in spoils]
)
def test_a_name_that_leaves_an_archive_is_found(tmp_path: Path, codes: str, spoil: Spoil) -> None:
    root = bundle(tmp_path / "b")
    spoil(root)
    assert sorted(codes_of(root)) == codes.split()


def test_too_many_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dim_monai.lint.content.MAX_FILES", 3)
    assert codes_of(bundle(tmp_path / "b")) == ["L075"]


def test_every_code_of_the_table_is_tested() -> None:
    tested = {case[0] for case in CASES} | {c for codes in MORE for c in codes.split()} | {"L075"}
    assert tested | {code for code, _ in [*EXPRESSIONS, *TARGETS]} == set(CODES)


def test_the_page_explains_every_code_and_no_other() -> None:
    rows = re.findall(r"^\| `(L\d{3})` \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == CODES
    assert len(rows) == len(CODES)


def test_a_code_outside_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="L999"):
        Fault("L999", "something", Path("x"))


def test_all_faults_are_told_in_one_run_with_line_and_id(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    add(root, "x: {_target_: os.system, a: $eval('1')}\ny: /data\n")
    write(root, "run.sh", "")
    evil_weights(root)
    faults = lint_bundle(root).faults
    assert [fault.code for fault in faults] == ["L010", "L022", "L040", "L070", "L081"]
    line = TRAIN.count("\n") + 1
    assert [(f.line, f.id) for f in faults[:3]] == [
        (line, "x::_target_"),
        (line, "x::a"),
        (line + 1, "y"),
    ]


def test_the_names_that_a_bundle_chose_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b")
    write(root, "a\x1b[2J\n.py", "")
    (fault,) = lint_bundle(root).faults
    assert str(fault).isprintable()
    assert "\\x1b[2J\\n" in str(fault)
    json.dumps(fault.as_dict())


def test_what_a_run_stores_is_fine(tmp_path: Path) -> None:
    """States of optimizers and random streams, all kinds of tensors, links within the bundle."""
    root = bundle(tmp_path / "b")
    net = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    kinds = (torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.uint32, torch.int64)
    state = {
        "network": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": (random.getstate(), torch.get_rng_state()),
        "kinds": {str(kind): torch.zeros(2, dtype=kind) for kind in kinds},
        "plain": [None, True, 2**70, 0.5, "text", (1, 2), {}],
    }
    (root / "eval").mkdir()
    torch.save(state, root / "eval" / "last.pt")
    (root / "models" / "last.pt").symlink_to("../eval/last.pt")
    (root / "eval" / "scores.csv").write_text("case,dice\n")
    assert lint_bundle(root).faults == ()


def test_too_many_configs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dim_monai.lint.bundle.MAX_CONFIGS", 2)
    assert "L075" in codes_of(bundle(tmp_path / "b"))
