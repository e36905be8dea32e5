"""What spoils the files of a bundle: programs, links, archives and weights."""

from __future__ import annotations

import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from warnings import catch_warnings, simplefilter

import torch

from tests.lint.bundles import write

MODEL_FILE = "models/model.pt"

Spoil = Callable[[Path], object]


def zipped(name: str, file: str = "data.zip") -> Spoil:
    def spoil(root: Path) -> None:
        with zipfile.ZipFile(root / file, "w") as archive:
            archive.writestr(name, "x")

    return spoil


def tarred_link(root: Path) -> None:
    with tarfile.open(root / "data.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../outside"
        archive.addfile(link)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("true",)


def evil_weights(root: Path) -> None:
    torch.save({"weight": torch.zeros(2), "evil": Evil()}, root / MODEL_FILE)


def legacy_weights(root: Path) -> None:
    torch.save({"w": torch.zeros(2)}, root / MODEL_FILE, _use_new_zipfile_serialization=False)


def repacked(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Spoil:
    """The weights with entries added, or compressed."""

    def spoil(root: Path) -> None:
        with zipfile.ZipFile(root / MODEL_FILE) as archive:
            content = [(entry, archive.read(entry)) for entry in archive.namelist()]
        with zipfile.ZipFile(root / MODEL_FILE, "w", compression) as archive, catch_warnings():
            simplefilter("ignore")  # the library warns of a name that is given twice
            for name, data in [*content, *entries.items()]:
                archive.writestr(name, data)

    return spoil


def traversing_weights(root: Path) -> None:
    with zipfile.ZipFile(root / MODEL_FILE, "a") as archive:
        archive.writestr("model/../../evil", "x")


def surrounded_weights(root: Path) -> None:
    file = root / MODEL_FILE
    file.write_bytes(b"PK\x03\x04" + file.read_bytes())


# code, what spoils a sound bundle, the file at fault, words of its line
FILES: list[tuple[str, Spoil, str, list[str]]] = [
    ("L070", lambda r: write(r, "scripts/__init__.py", ""), "scripts/__init__.py", []),
    ("L070", lambda r: write(r, "models/lib.so", ""), "models/lib.so", []),
    ("L070", lambda r: write(r, "docs/plot.png", b"\x7fELF\x02"), "docs/plot.png", []),
    ("L070", lambda r: write(r, "eval/a.dcm", b"MZ\x90\x00"), "eval/a.dcm", []),
    ("L071", lambda r: write(r, "models/a.pkl", "x"), "models/a.pkl", []),
    ("L071", lambda r: write(r, "eval/a.csv", pickle.dumps([1])), "eval/a.csv", ["to read it"]),
    ("L072", lambda r: (r / "data").symlink_to("/"), "data", ["'/'"]),
    ("L072", lambda r: (r / "configs/a.yaml").symlink_to("../../x.yaml"), "configs/a.yaml", []),
    ("L072", lambda r: (r / "other").symlink_to("configs"), "other", ["no plain file"]),
    ("L072", lambda r: os.mkfifo(r / "configs" / "a.yaml"), "configs/a.yaml", ["no plain file"]),
    ("L073", zipped("a.txt"), "data.zip", ["unpack it"]),
    ("L073", zipped("a.txt", "docs/notes.txt"), "docs/notes.txt", []),
    ("L073", lambda r: write(r, "data.tar", "x" * 600), "data.tar", []),
    ("L080", legacy_weights, MODEL_FILE, ["old format"]),
    ("L080", lambda r: write(r, MODEL_FILE, pickle.dumps(Evil())), MODEL_FILE, ["old format"]),
    ("L080", lambda r: write(r, "models/a.onnx", "x"), "models/a.onnx", ["ONNX"]),
    ("L080", lambda r: write(r, "models/model.ts", "x"), "models/model.ts", ["a program"]),
    ("L080", repacked({"model/code/__torch__.py": b""}), MODEL_FILE, []),
    ("L081", evil_weights, MODEL_FILE, [f"{os.name} system"]),
    ("L082", repacked({}, zipfile.ZIP_DEFLATED), MODEL_FILE, ["compressed"]),
    ("L082", repacked({"model/extra": b"x"}), MODEL_FILE, ["does not write"]),
    ("L082", repacked({"model/data.pkl": b"\x80\x02}."}), MODEL_FILE, ["given twice"]),
    ("L082", repacked({"x/data.pkl": b"\x80\x02}."}), MODEL_FILE, ["2 pickles"]),
    ("L082", surrounded_weights, MODEL_FILE, []),
    ("L082", lambda r: write(r, "models/a.safetensors", "\xff" * 9), "models/a.safetensors", []),
]

MORE = {
    "L073 L074": [zipped("../../evil.txt"), zipped("/etc/evil"), zipped("C:\\evil"), tarred_link],
    "L074 L082": [traversing_weights],
}
