"""Weight files: a zip of raw tensors with a pickle that can only put them together.

The pickle is disassembled, never loaded: it may name what `torch.save` names for a state dict and
nothing else, whatever a later version of PyTorch would let pass.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dim_monai.lint.allowed import words
from dim_monai.lint.archives import leaves
from dim_monai.lint.faults import Fault, shown

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".ts", ".onnx", ".safetensors")
MAX_PICKLE_BYTES = 16 << 20
"""Of names and shapes: a thousand times those of a large network."""
MAX_ENTRIES = 100_000

_DTYPES = words(
    "bfloat16 bool complex64 complex128 float16 float32 float64 int8 int16 int32 int64 uint8",
    "uint16 uint32 uint64",
)
_REBUILDS = words("_rebuild_parameter _rebuild_tensor_v2 _rebuild_tensor_v3")
_STORAGES = words("BFloat16 Bool Byte Char Double Float Half Int Long Short")
GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch.storage UntypedStorage",
        *(f"torch._utils {name}" for name in _REBUILDS),
        *(f"torch {name}" for name in _DTYPES),
        *(f"torch {name}Storage" for name in _STORAGES),
    }
)
"""What the pickle of a state dict names."""

OPCODES = words(
    "APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD",
    "EMPTY_DICT EMPTY_LIST EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWTRUE",
    "NONE PROTO REDUCE SETITEM SETITEMS STOP TUPLE TUPLE1 TUPLE2 TUPLE3",
)
_ENTRY = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
_FORMATS = {
    ".ts": "TorchScript is a program",
    ".onnx": "it cannot be told what an ONNX file reads and runs",
}


def check_weights(file: Path) -> Iterator[Fault]:
    """Yield every fault of a weight file."""
    do = "write the state dict by torch.save, or as safetensors"
    suffix = file.suffix.lower()
    with file.open("rb") as opened:
        start = opened.read(4)
    if suffix == ".safetensors":
        yield from _safetensors(file)
    elif suffix in _FORMATS:
        yield Fault("L080", "weights that cannot be checked", file, got=_FORMATS[suffix], do=do)
    elif start != b"PK\x03\x04" or not zipfile.is_zipfile(file):
        what, got = "weights that are no zip archive", "a pickle of the old format, or no weights"
        yield Fault("L080", what, file, got=got, do=do)
    else:
        try:
            with zipfile.ZipFile(file) as archive:
                yield from _archive(file, archive, do)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            yield Fault("L082", "weights archive is damaged", file, got=f"{error}")


def _archive(file: Path, archive: zipfile.ZipFile, do: str) -> Iterator[Fault]:
    entries = archive.infolist()
    names = [entry.orig_filename for entry in entries]
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        yield Fault("L080", "weights that cannot be checked", file, got=_FORMATS[".ts"], do=do)
        return
    for name in names:
        if leaves(name):
            what = "name that leaves the folder of the archive"
            yield Fault("L074", what, file, got=shown(name), do="do not unpack it")

    def malformed(what: str, got: object = None) -> Fault:
        return Fault("L082", what, file, got=None if got is None else shown(got), do=do)

    if len(set(names)) < len(names) or len(names) > MAX_ENTRIES:
        yield malformed("name given twice, or too many")
    if archive.comment or min(entry.header_offset for entry in entries) != 0:
        # A second archive or pickle around it: two readers would see two files.
        yield malformed("weights archive with something around it")
    pickles = []
    for entry in entries:
        name = entry.orig_filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            yield malformed("compressed or encrypted entry", name)
        elif not _ENTRY.fullmatch(name.partition("/")[2]):
            yield malformed("entry that torch.save does not write", name)
        elif name.endswith("data.pkl"):
            pickles.append(entry)
    if len(pickles) != 1 or len({name.partition("/")[0] for name in names}) != 1:
        yield malformed("not one state dict", f"{len(pickles)} pickles")
    for entry in pickles:
        if entry.file_size > MAX_PICKLE_BYTES:
            yield malformed("pickle is too large", f"{entry.file_size} bytes")
        else:
            yield from _pickle(file, archive.read(entry))


def _pickle(file: Path, content: bytes) -> Iterator[Fault]:
    told = set()
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(content):
            end = (position or 0) + 1
            got = f"{argument}" if opcode.name == "GLOBAL" else opcode.name
            allowed = GLOBALS if opcode.name == "GLOBAL" else OPCODES
            if got not in allowed and got not in told:
                told.add(got)
                expected = "what the pickle of a state dict names"
                where = f"{got} at byte {position}"
                what = "weights that run code when they are read"
                yield Fault("L081", what, file, got=shown(where), expected=expected)
    except (ValueError, EOFError, IndexError) as error:
        yield Fault("L082", "pickle is damaged", file, got=f"{error}")
        return
    if end != len(content):  # the last opcode is STOP, of one byte
        yield Fault("L082", "pickle is followed by something", file)


def _safetensors(file: Path) -> Iterator[Fault]:
    """Raw tensors behind a JSON header: there is nothing to run, only to be malformed."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length <= MAX_PICKLE_BYTES else b""
    try:
        sound = isinstance(json.loads(header), dict)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        yield Fault("L082", "header of safetensors is damaged", file)
