"""The files of a bundle: none is executable, none is a link to outside, weights are checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dim_monai.lint.allowed import words
from dim_monai.lint.archives import check_archive
from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.logging_conf import check_logging
from dim_monai.lint.paths import check_prose
from dim_monai.lint.weights import SUFFIXES as WEIGHTS
from dim_monai.lint.weights import check_weights

MAX_FILES = 100_000
PROSE_BYTES = 1 << 20

EXECUTABLE = words(
    ".bat .cmd .com .dll .dylib .egg .exe .ipynb .jar .js .msi .ps1 .py .pyc .pyd .pyo .pyw .pyx",
    ".sh .so .vbs .whl",
)
PICKLES = frozenset({".dill", ".joblib", ".pickle", ".pkl"})
ARCHIVES = words(".7z .bz2 .rar .tar .tbz .tgz .txz .xz .zip")
PROSE = frozenset({"", ".cfg", ".conf", ".json", ".md", ".txt", ".yaml", ".yml"})
"""Documents that are passed on with a bundle; they stand at its top, in configs and in docs."""

_PROGRAMS = (
    b"\x7fELF",
    b"MZ",
    b"#!",
    b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
)
_PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_ZIP = b"PK\x03\x04"


def check_content(bundle: Path) -> Iterator[Fault]:
    """Yield every fault of the files below a bundle; a link is checked as what it is called."""
    root = Path(os.path.realpath(bundle))
    count = 0
    unreadable: list[OSError] = []
    for walked, folders, files in os.walk(bundle, onerror=unreadable.append):
        folders.sort()
        for name in sorted([*files, *(n for n in folders if Path(walked, n).is_symlink())]):
            count += 1
            if count > MAX_FILES:
                yield Fault("L075", "too many files", bundle, expected=f"at most {MAX_FILES}")
                return
            file = Path(walked, name)
            try:
                yield from _check(file, bundle, root)
            except OSError as error:
                yield Fault("L072", "file cannot be read", file, got=error.strerror)
    for failed in unreadable:
        folder = Path(str(failed.filename))
        yield Fault("L072", "folder cannot be read", folder, got=failed.strerror)


def _check(file: Path, bundle: Path, root: Path) -> Iterator[Fault]:
    expected = "a file, a folder, or a link to a file of the bundle"
    if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
        got = shown(os.readlink(file))
        yield Fault("L072", "link that leaves the bundle", file, got=got, expected=expected)
        return
    if not file.is_file():  # a pipe or a device, too: to open it could block
        yield Fault("L072", "no plain file", file, expected=expected)
        return
    suffix = file.suffix.lower()
    with file.open("rb") as opened:
        start = opened.read(4)
    do = "take it out: a bundle holds configs, documents and weights"
    if suffix in EXECUTABLE or ".so." in file.name or start.startswith(_PROGRAMS):
        yield Fault("L070", "executable file", file, do=do)
    elif suffix in WEIGHTS:
        yield from check_weights(file)
    elif suffix in PICKLES or start.startswith(_PICKLE):
        yield Fault("L071", "pickle: to read it is to run it", file, do=do)
    elif suffix in ARCHIVES or file.name.lower().endswith(".tar.gz") or start == _ZIP:
        yield from check_archive(file)
    elif suffix == ".conf":
        yield from check_logging(file)
    if suffix in PROSE and file.relative_to(bundle).parts[0] in ("configs", "docs", file.name):
        yield from _prose(file)


def _prose(file: Path) -> Iterator[Fault]:
    with file.open("rb") as opened:
        text = opened.read(PROSE_BYTES).decode("utf-8", "replace")
    for line, (code, what, got, expected) in check_prose(text):
        yield Fault(code, what, file, line, None, got, expected)
