"""DICOM series with any value in any tag that matters: every pixel at its place, or refused.

The files are encoded by hand, because pydicom would not write most of them. The oracle takes the
values that pydicom parses one by one, and computes places and pixels after DICOM PS3.3 itself.
"""

from __future__ import annotations

import copy
import struct
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.uid import CTImageStorage

from dim_monai.dicom.series import read_series
from dim_monai.errors import DataError
from tests.fuzz.law import INPUTS, SECRET, bounded, outcome, require_both

ROWS, COLUMNS, SLICES = 3, 4, 3
EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
LONG = ("OB", "OW", "OF", "OD", "SQ", "UN", "UT")
SIGNED_16 = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1}

Elements = dict[str, tuple[str, bytes]]


def sound_slice(k: int) -> Elements:
    """Slice k of a sound axial series; voxels of 0.5 x 0.75 x 2 mm."""
    pixels = (np.arange(ROWS * COLUMNS) * 7 + 100 * k - 50).astype("<i2")
    texts = {
        "SOPClassUID": ("UI", CTImageStorage),
        "SOPInstanceUID": ("UI", f"1.2.3.{k + 1}"),
        "Modality": ("CS", "CT"),
        "PatientName": ("PN", SECRET),
        "PatientID": ("LO", SECRET),
        "SeriesDescription": ("LO", SECRET),
        "SeriesInstanceUID": ("UI", "1.2.840.1.2"),
        "ImagePositionPatient": ("DS", f"10\\-20\\{30 + 2 * k}"),
        "ImageOrientationPatient": ("DS", "1\\0\\0\\0\\1\\0"),
        "PhotometricInterpretation": ("CS", "MONOCHROME2"),
        "PixelSpacing": ("DS", "0.75\\0.5"),
        "RescaleIntercept": ("DS", "-10"),
        "RescaleSlope": ("DS", "2"),
    }
    numbers = {"SamplesPerPixel": 1, "Rows": ROWS, "Columns": COLUMNS, **SIGNED_16}
    return {
        **{key: (vr, str(text).encode()) for key, (vr, text) in texts.items()},
        **{key: ("US", struct.pack("<H", number)) for key, number in numbers.items()},
        "PixelData": ("OW", pixels.tobytes()),
    }


def encoded(elements: Elements) -> bytes:
    """Explicit little endian; values of odd length are padded as the standard asks."""
    raw = b""
    for keyword in sorted(elements, key=lambda key: tag_for_keyword(key) or 0):
        vr, value = elements[keyword]
        tag = tag_for_keyword(keyword) or 0
        value += b"" if len(value) % 2 == 0 else b"\0" if vr in ("UI", "OB", "UN") else b" "
        raw += struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
        if vr in LONG:
            raw += struct.pack("<HI", 0, len(value) & 0xFFFFFFFF) + value
        else:
            raw += struct.pack("<H", len(value) & 0xFFFF) + value
    return raw


def file_of(elements: Elements, syntax: str = EXPLICIT) -> bytes:
    meta: Elements = {
        "MediaStorageSOPClassUID": ("UI", str(CTImageStorage).encode()),
        "MediaStorageSOPInstanceUID": elements.get("SOPInstanceUID", ("UI", b"1.2")),
        "TransferSyntaxUID": ("UI", syntax.encode()),
    }
    length = ("UL", struct.pack("<I", len(encoded(meta))))
    start = encoded({"FileMetaInformationGroupLength": length})
    return bytes(128) + b"DICM" + start + encoded(meta) + encoded(elements)


def values_of(dataset: pydicom.Dataset, keyword: str) -> np.ndarray:
    return np.atleast_1d(np.asarray(dataset[keyword].value, dtype=np.float64))


def right_pixels(dataset: pydicom.Dataset) -> np.ndarray:
    """Rescaled pixels (rows, columns); fails for what is not plain grey values."""
    assert dataset.SamplesPerPixel == 1
    assert dataset.PhotometricInterpretation == "MONOCHROME2"
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    assert dataset.get("HighBit") in (None, stored - 1)
    kind = f"<u{allocated // 8}"
    count = dataset.Rows * dataset.Columns
    raw = np.frombuffer(dataset.PixelData, kind, count).astype(np.uint64)
    raw = (raw & np.uint64(2**stored - 1)).astype(np.int64)
    if dataset.PixelRepresentation == 1:
        raw = np.where(raw >= 2 ** (stored - 1), raw - 2**stored, raw)
    else:
        assert dataset.PixelRepresentation == 0
    pixels = raw.reshape(dataset.Rows, dataset.Columns).astype(np.float64)
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:
        pixels = pixels * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return pixels.astype(np.float32)


def require_in_place(folder: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Fail unless every pixel of every file is in the voxel at its place in the patient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        assert len({str(dataset.SeriesInstanceUID) for dataset in slices}) == 1
        hit = np.zeros(volume.shape, bool)
        for dataset in slices:
            pixels = right_pixels(dataset)
            between_rows, between_columns = values_of(dataset, "PixelSpacing")
            row, column = values_of(dataset, "ImageOrientationPatient").reshape(2, 3)
            r, c = np.indices(pixels.shape).reshape(2, -1, 1)
            lps = values_of(dataset, "ImagePositionPatient") + c * between_columns * row
            ras = (lps + r * between_rows * column) * [-1, -1, 1]
            index = np.linalg.solve(affine, np.c_[ras, np.ones(len(ras))].T)[:3].T
            nearest = np.rint(index).astype(int)
            assert np.abs(index - nearest).max() < 0.3
            np.testing.assert_array_equal(volume[tuple(nearest.T)], pixels.ravel())
            hit[tuple(nearest.T)] = True
    assert hit.all()


def check(folder: Path, files: dict[str, bytes]) -> str:
    for path in folder.iterdir():
        path.unlink()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    found = outcome(lambda: read_series(folder), folder, reserves=True)
    if isinstance(found, DataError):
        return "refused"
    volume, affine, _ = found
    assert volume.dtype == np.float32
    assert np.isfinite(volume).all()
    assert np.isfinite(affine).all()
    require_in_place(folder, volume, affine)
    return "accepted"


NUMBER = st.one_of(
    st.sampled_from(["nan", "inf", "-inf", "1e400", "1e308", "-1e308", "1e-300", "1e-5"]),
    st.sampled_from(["0", "-0", "-1", "0.5", "0.75", "1", "2"]),
    st.floats(-3, 3).map(lambda x: f"{x:.6g}"),
)
TEXT = st.one_of(
    st.lists(NUMBER, max_size=8).map("\\".join),
    st.sampled_from(
        ["", "\\", "abc", SECRET, f"{SECRET}\\1", "1,5\\2", "1 2", "1\n2", "\x1b[31m", "0x10"]
    ),
    st.just("\\".join(["1"] * 2000)),
).map(str.encode)
POSITIONS = [b"10\\-20\\30", b"10\\-20\\32", b"10\\-20\\35", b"10\\-20.01\\32", b"10\\-21\\32"]
DIRECTIONS = [
    *(
        b"0\\1\\0\\0\\0\\-1",
        b"1\\0\\0\\0\\-1\\0",
        b"-1\\0\\0\\0\\1\\0",
        b"0.6\\0.8\\0\\-0.8\\0.6\\0",
    ),
    *(b"1\\0\\0\\1\\0\\0", b"2\\0\\0\\0\\2\\0", b"1\\0\\0\\0\\0.9999\\0.01", b"0\\0\\0\\0\\0\\0"),
    *(b"1e200\\1e200\\0\\-1e200\\1e200\\0", b"0.9999\\0\\0\\0\\1\\0"),
]
WORD = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 24, 32, 64, 65535]), st.integers(0, 65535)
)
BINARY = st.one_of(
    WORD.map(lambda n: struct.pack("<H", n)),
    st.lists(WORD, max_size=3).map(lambda ns: struct.pack(f"<{len(ns)}H", *ns)),
    st.floats().map(lambda x: struct.pack("<d", x)),
    st.binary(max_size=9),
)
DECIMALS = {
    "ImagePositionPatient": st.one_of(TEXT, st.sampled_from(POSITIONS)),
    "ImageOrientationPatient": st.one_of(TEXT, st.sampled_from(DIRECTIONS)),
    "PixelSpacing": TEXT,
    "RescaleSlope": TEXT,
    "RescaleIntercept": TEXT,
    "NumberOfFrames": st.one_of(TEXT, st.sampled_from([b"1", b"2", b"0"])),
}
CODES = {
    "Modality": st.sampled_from([b"MR", b"", SECRET.encode(), b"C\nT", b"CT\\MR", b"\xff\xfe"]),
    "PhotometricInterpretation": st.sampled_from(
        [b"MONOCHROME1", b"RGB", b"", SECRET.encode(), b"MONO\nCHROME2", b"MONOCHROME2\\RGB"]
    ),
    "SeriesInstanceUID": st.sampled_from([b"1.2.840.1.3", b"", SECRET.encode(), b"1\n2", b"1\\2"]),
}
WORDS = ("Rows", "Columns", "SamplesPerPixel", *SIGNED_16)
VALUES = {**DECIMALS, **CODES, **dict.fromkeys(WORDS, BINARY)}
OTHER_VR = [
    "LO",
    "PN",
    "US",
    "SS",
    "FD",
    "FL",
    "UL",
    "IS",
    "DS",
    "UN",
    "SQ",
    "AT",
    "OB",
    "ZZ",
    "DT",
]
DEPTHS = [(8, 8, 7), (16, 12, 11), (16, 12, 15), (16, 8, 7), (16, 0, 0), (16, 17, 16), (8, 16, 15)]
SYNTAXES = [IMPLICIT, BIG_ENDIAN, DEFLATED, RLE, "1.2.840.10008.1.2.4.50", "1.2.3", "", SECRET]


def spoil_tag(data: st.DataObject, elements: Elements, targets: list[Elements]) -> None:
    keyword = data.draw(st.sampled_from(sorted(VALUES)), "tag")
    how = data.draw(st.sampled_from(["value", "value", "value", "missing", "vr"]), keyword)
    value = data.draw(VALUES[keyword], "value")
    vr = elements.get(keyword, ("DS", b""))[0]
    if how == "vr":
        vr = data.draw(st.sampled_from(OTHER_VR), "vr")
        value = data.draw(st.one_of(st.just(value), TEXT, BINARY), "bytes")
    for target in targets:
        if how == "missing":
            target.pop(keyword, None)
        else:
            target[keyword] = (vr, value)


def spoil_pixels(data: st.DataObject, targets: list[Elements]) -> None:
    if data.draw(st.booleans(), "depth"):
        names = ("BitsAllocated", "BitsStored", "HighBit")
        for name, number in zip(names, data.draw(st.sampled_from(DEPTHS)), strict=True):
            for target in targets:
                target[name] = ("US", struct.pack("<H", number))
    else:
        length = data.draw(st.one_of(st.integers(0, 60), st.just(24)), "bytes of pixels")
        values = data.draw(st.binary(min_size=length, max_size=length), "pixels")
        for target in targets:
            target["PixelData"] = (data.draw(st.sampled_from(["OW", "OB", "UN"])), values)


@pytest.mark.timeout(120)
def test_any_header_gives_its_volume_or_is_refused(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    sound = [sound_slice(k) for k in range(SLICES)]

    @bounded(INPUTS + 300)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        slices = copy.deepcopy(sound)
        for _ in range(data.draw(st.integers(1, 2), "faults")):
            everywhere = data.draw(st.booleans(), "in all slices")
            targets = slices if everywhere else [slices[data.draw(st.integers(0, SLICES - 1))]]
            if data.draw(st.integers(0, 3)):
                spoil_tag(data, targets[0], targets)
            else:
                spoil_pixels(data, targets)
        files = {f"{k}.dcm": file_of(elements) for k, elements in enumerate(slices)}
        outcomes[check(tmp_path, files)] += 1

    read_all()
    require_both(outcomes)


@pytest.mark.timeout(120)
def test_damaged_and_mixed_files_give_their_volume_or_are_refused(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    sound = [sound_slice(k) for k in range(SLICES)]

    @bounded(300)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        count = data.draw(st.sampled_from([SLICES, SLICES, 2, 1]), "slices")
        files = {f"{k}.dcm": file_of(elements) for k, elements in enumerate(sound[:count])}
        name = data.draw(st.sampled_from(sorted(files)), "file")
        k = int(name[0])
        raw = bytearray(files[name])
        how = data.draw(st.sampled_from(["bytes", "cut", "syntax", "length", "copy", "series"]))
        if how == "bytes":
            for _ in range(data.draw(st.integers(1, 3))):
                raw[data.draw(st.integers(100, len(raw) - 1))] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del raw[data.draw(st.integers(0, len(raw))) :]
        elif how == "syntax":
            raw = bytearray(file_of(sound[k], data.draw(st.sampled_from(SYNTAXES))))
        elif how == "length":
            # A length of a value that the file does not hold.
            place = data.draw(st.integers(300, len(raw) - 5))
            raw[place : place + 4] = data.draw(st.sampled_from([b"\xff" * 4, b"\xfe\xff\xff\x07"]))
        elif how == "copy":
            files[data.draw(st.sampled_from(["z.dcm", "z", "junk.txt"]))] = bytes(raw)
        else:
            other = {**sound[k], "SeriesInstanceUID": ("UI", b"1.2.840.1.9")}
            if data.draw(st.booleans(), "a name for a modality"):
                other["Modality"] = ("CS", SECRET.encode())
            files["z.dcm"] = file_of(other)
        files[name] = bytes(raw)
        outcomes[check(tmp_path, files)] += 1

    read_all()
    require_both(outcomes, 300)


def refuse(folder: Path, words: str, everywhere: bool = True, **tags: tuple[str, bytes]) -> None:
    """Set tags in all slices or in the last one, and read."""
    slices = [sound_slice(k) for k in range(SLICES)]
    for elements in slices if everywhere else slices[-1:]:
        elements |= tags
    for k, elements in enumerate(slices):
        (folder / f"{k}.dcm").write_bytes(file_of(elements))
    found = outcome(lambda: read_series(folder), folder)
    assert isinstance(found, DataError)
    assert words in str(found)


def test_an_untouched_series_is_accepted(tmp_path: Path) -> None:
    files = {f"{k}.dcm": file_of(sound_slice(k)) for k in range(SLICES)}
    assert check(tmp_path, files) == "accepted"


def test_slices_of_a_declared_size_take_no_memory(tmp_path: Path) -> None:
    most = ("US", struct.pack("<H", 65535))
    refuse(tmp_path, "cannot be decoded", Rows=most, Columns=most)


def test_bits_that_the_decoder_would_not_take_are_refused(tmp_path: Path) -> None:
    """Twelve bits in the upper part of sixteen: the decoder takes the lower twelve."""
    refuse(
        tmp_path,
        "BitsStored 12, HighBit 15",
        BitsStored=("US", struct.pack("<H", 12)),
        HighBit=("US", struct.pack("<H", 15)),
    )


@pytest.mark.parametrize(
    "tag", ["Rows", "PixelSpacing", "ImagePositionPatient", "RescaleSlope", "SamplesPerPixel"]
)
@pytest.mark.parametrize("vr", ["LO", "PN"])
def test_a_name_in_the_place_of_a_number_is_not_repeated(tmp_path: Path, tag: str, vr: str) -> None:
    refuse(tmp_path, tag, everywhere=False, **{tag: (vr, SECRET.encode())})


def test_a_name_in_the_place_of_a_code_is_not_repeated(tmp_path: Path) -> None:
    name = ("CS", SECRET.encode())
    refuse(tmp_path, "of another kind", PhotometricInterpretation=name)
    refuse(tmp_path, "unknown ...no UID", False, Modality=name, SeriesInstanceUID=name)


@pytest.mark.parametrize("number", [b"1e300", b"-1e7", b"nan", b"inf"])
def test_a_position_beyond_a_kilometre_is_refused(tmp_path: Path, number: bytes) -> None:
    place = ("DS", b"10\\-20\\" + number)
    refuse(tmp_path, "none beyond 1e+06", everywhere=False, ImagePositionPatient=place)


def test_a_rescaling_that_overflows_is_refused_and_not_warned_of(tmp_path: Path) -> None:
    refuse(tmp_path, "not finite", RescaleSlope=("DS", b"1e300"))


def test_what_the_parser_warns_of_is_not_passed_on(tmp_path: Path) -> None:
    """pydicom quotes a value that is too long, or no decimal string of the standard."""
    slices = [sound_slice(k) for k in range(SLICES)]
    for elements in slices:
        elements["PixelSpacing"] = ("DS", b"0.7500000000000000000\\0.5000000000000000000")
    files = {f"{k}.dcm": file_of(elements) for k, elements in enumerate(slices)}
    assert check(tmp_path, files) == "accepted"
