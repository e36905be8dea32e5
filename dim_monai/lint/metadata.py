"""``configs/metadata.json`` and ``large_files.yml``: complete, inert, and verifiable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dim_monai.lint.config import walk
from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.paths import check_path
from dim_monai.lint.references import is_expression, is_macro
from dim_monai.lint.tree import SUFFIXES, Node, read_tree

METADATA = Path("configs", "metadata.json")
LARGE_FILES = "large_files"

REQUIRED: dict[str, type] = {
    "schema": str,
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}
"""What MONAI's schema of 2024-07-25 requires."""
REQUIRED_OF_TENSOR: dict[str, type] = {
    "type": str,
    "format": str,
    "num_channels": int,
    "spatial_shape": list,
    "dtype": str,
    "value_range": list,
}
_ARITHMETIC = re.compile(r"(?:\d{1,4}(?!\d)|[pn+*/() -]){1,40}")
_KINDS = {str: "a string", dict: "an object", int: "an integer", list: "a list"}


def check_metadata(bundle: Path, faults: list[Fault]) -> Node | None:
    """Return the metadata of a bundle; None where they cannot be read."""
    file = bundle / METADATA
    if not file.is_file():
        do = "a folder without it is no bundle"
        faults.append(Fault("L060", "metadata cannot be read", file, expected="a file", do=do))
        return None
    tree = read_tree(file, faults, unreadable="L060")
    if tree is None:
        return None
    faults += _missing(tree, tree, "", REQUIRED)
    formats = tree.value.get("network_data_format")
    if formats is not None and isinstance(formats.value, dict):
        faults += _missing(tree, formats, "network_data_format", {"inputs": dict, "outputs": dict})
        for side, tensors in formats.children():
            for name, tensor in tensors.children():
                faults += _tensor(tree, tensor, f"network_data_format::{side}::{name}")
    for id_, node in walk(tree):
        faults += _inert(node, id_)
    return tree


def _missing(tree: Node, section: Node, id_: str, required: dict[str, type]) -> Iterator[Fault]:
    for key, kind in required.items():
        entry = section.value.get(key)
        if entry is None or not isinstance(entry.value, kind) or entry.value == "":
            got = "nothing" if entry is None else shown(entry.value)
            what, where = f"metadata without {key}", id_ or None
            yield Fault("L061", what, tree.file, None, where, got, _KINDS[kind])


def _tensor(tree: Node, tensor: Node, id_: str) -> Iterator[Fault]:
    if not isinstance(tensor.value, dict):
        yield Fault("L061", "tensor", tree.file, None, id_, shown(tensor.value), "an object")
        return
    yield from _missing(tree, tensor, id_, REQUIRED_OF_TENSOR)
    shape = tensor.value.get("spatial_shape")
    for _, size in shape.children() if shape is not None else ():
        if isinstance(size.value, str) and not _is_shape(size.value):
            place = (tree.file, None, id_, shown(size.value), "such as *, p*n or 2**p*n")
            yield Fault("L062", "shape that would be evaluated", *place)


def _is_shape(size: str) -> bool:
    """Tell whether a size is plain arithmetic; a power of a power could have no end."""
    return _ARITHMETIC.fullmatch(size) is not None and size.count("**") <= 1


def _inert(node: Node, id_: str) -> Iterator[Fault]:
    """MONAI merges the metadata into the config: there must be nothing to evaluate in them."""
    text = node.value
    if id_.endswith("_target_") or (
        isinstance(text, str) and (is_expression(text) or is_macro(text))
    ):
        what, got = "metadata that would be evaluated", shown(text)
        yield Fault("L062", what, node.file, node.line, id_, got, "plain text")
    elif isinstance(text, str):
        for problem in check_path(text):
            place = (node.file, node.line, id_, problem.got, problem.expected)
            yield Fault(problem.code, problem.what, *place)


def check_large_files(bundle: Path, faults: list[Fault]) -> None:
    """Check the list of what is downloaded into the bundle: where to, and against which hash."""
    for file in sorted(bundle.glob(f"{LARGE_FILES}.*")):
        is_list = file.suffix.lower() in SUFFIXES and file.is_file()
        tree = read_tree(file, faults) if is_list else None
        entries = None if tree is None else tree.value.get(LARGE_FILES)
        for index, entry in entries.children() if entries is not None else ():
            faults += _large_file(entry, f"{LARGE_FILES}::{index}")


def _large_file(entry: Node, id_: str) -> Iterator[Fault]:
    given = {key: node.value for key, node in entry.children()}
    place = (entry.file, entry.line, id_)
    path, url = str(given.get("path", "")), str(given.get("url", ""))
    for code, what, got, expected in check_path(path):
        yield Fault(code, what, *place, got, expected)
    if not path:
        yield Fault("L063", "large file without a path", *place)
    if not url.startswith("https://"):
        yield Fault("L063", "large file from an unsafe place", *place, shown(url), "https://...")
    kind, value = str(given.get("hash_type", "")), str(given.get("hash_val", ""))
    if kind != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        got, expected = shown(f"{kind} {value}".strip()), "hash_type sha256 and its hash_val"
        yield Fault("L063", "large file without a hash", *place, got, expected)
