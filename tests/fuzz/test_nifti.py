"""NIfTI headers with any value in any field: the volume as the standard defines it, or refused.

The oracle is written after the NIfTI-1.1 header definition and knows nothing of nibabel.
"""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dim_monai.data.reader import FORM_TOLERANCE, read_case
from dim_monai.errors import DataError
from tests.fuzz.law import INPUTS, SECRET, bounded, outcome, require_both

SHAPE = (3, 4, 2)
FORMS = ("both", "sform", "qform")
DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
DTYPES |= {1024: "i8", 1280: "u8"}

# Field: (offset, format) in the 348 bytes of NIfTI-1; in the 540 of NIfTI-2.
FIELDS = {
    "sizeof_hdr": ((0, "i"), (0, "i")),
    "magic": ((344, "4s"), (4, "8s")),
    "dim": ((40, "8h"), (16, "8q")),
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    "pixdim": ((76, "8f"), (104, "8d")),
    "vox_offset": ((108, "f"), (168, "q")),
    "scl_slope": ((112, "f"), (176, "d")),
    "scl_inter": ((116, "f"), (184, "d")),
    "xyzt_units": ((123, "B"), (500, "i")),
    "qform_code": ((252, "h"), (344, "i")),
    "sform_code": ((254, "h"), (348, "i")),
    "quatern": ((256, "3f"), (352, "3d")),
    "qoffset": ((268, "3f"), (376, "3d")),
    "srow": ((280, "12f"), (400, "12d")),
}
MAGIC = (b"n+1\0", b"n+2\0\r\n\x1a\n")
SIZES = (348, 540)


def place(version: int, name: str) -> tuple[int, str]:
    return FIELDS[name][version - 1]


def put(raw: bytearray, version: int, order: str, name: str, *values: object) -> None:
    offset, code = place(version, name)
    struct.pack_into(order + code, raw, offset, *values)


def get(raw: bytes, version: int, order: str, name: str) -> tuple:
    offset, code = place(version, name)
    return struct.unpack_from(order + code, raw, offset)


def sound(version: int = 1, order: str = "<", forms: str = "both", datatype: int = 4) -> bytearray:
    """The bytes of a sound file of 3 x 4 x 2 voxels."""
    start = SIZES[version - 1] + 4
    raw = bytearray(start)
    put(raw, version, order, "sizeof_hdr", SIZES[version - 1])
    put(raw, version, order, "magic", MAGIC[version - 1])
    put(raw, version, order, "dim", 3, *SHAPE, 1, 1, 1, 1)
    put(raw, version, order, "datatype", datatype)
    dtype = np.dtype(order + DTYPES[datatype])
    put(raw, version, order, "bitpix", 8 * dtype.itemsize)
    put(raw, version, order, "pixdim", 1, 0.5, 0.75, 3, 1, 1, 1, 1)
    put(raw, version, order, "vox_offset", start)
    put(raw, version, order, "scl_slope", 1)
    put(raw, version, order, "xyzt_units", 2)
    put(raw, version, order, "qform_code", int(forms != "sform"))
    put(raw, version, order, "sform_code", int(forms != "qform"))
    # A quarter turn about z: i runs along +y, j along -x.
    put(raw, version, order, "quatern", 0, 0, np.sqrt(0.5))
    put(raw, version, order, "qoffset", 12, -30, 50)
    put(raw, version, order, "srow", 0, -0.75, 0, 12, 0.5, 0, 0, -30, 0, 0, 3, 50)
    voxels = np.random.default_rng(datatype).integers(0, 100, SHAPE)
    return raw + voxels.astype(dtype).tobytes("F")


def right_answer(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What the standard says that these bytes hold; fails where it does not say it."""
    version = 1 + (raw[4:7] == b"n+2")
    order = "<" if struct.unpack_from("<i", raw)[0] == SIZES[version - 1] else ">"
    field = {name: get(raw, version, order, name) for name in FIELDS}
    assert field["sizeof_hdr"] == (SIZES[version - 1],)
    assert field["magic"][0] in (MAGIC[version - 1], b"n+2".ljust(8, b"\0"))
    count, *dim = field["dim"]
    assert 3 <= count <= 7
    assert min(dim[:3]) >= 1
    assert set(dim[3:count]) <= {1}
    (start,) = field["vox_offset"]
    assert start >= SIZES[version - 1] + 4
    assert start == int(start)
    dtype = np.dtype(order + DTYPES[field["datatype"][0]])
    voxels = np.frombuffer(raw, dtype, int(np.prod(dim[:3])), int(start)).reshape(
        dim[:3], order="F"
    )
    (slope,), (inter,) = field["scl_slope"], field["scl_inter"]
    assert not np.isinf(slope)
    scaled = slope != 0 and not np.isnan(slope)
    if scaled:
        voxels = voxels.astype(float) * slope + inter
    assert field["xyzt_units"][0] & 7 in (0, 2)
    return voxels, affine_of(field, dim[:3])


def affine_of(field: dict[str, tuple], dim: list[int]) -> np.ndarray:
    forms = []
    if field["sform_code"][0] != 0:
        forms.append(np.reshape(field["srow"], (3, 4)))
    if field["qform_code"][0] != 0:
        b, c, d = field["quatern"]
        a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        turn = [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - b * b - c * c],
        ]
        qfac, *spacing = field["pixdim"][:4]
        assert qfac in (-1, 0, 1)
        assert min(spacing) > 0
        scale = np.array(spacing) * [1, 1, -1 if qfac == -1 else 1]
        forms.append(np.c_[np.array(turn) * scale, field["qoffset"]])
    assert forms
    for code in ("sform_code", "qform_code"):
        assert 0 <= field[code][0] <= 5
    if len(forms) == 2:
        corners = np.array([[*np.multiply(np.subtract(dim, 1), c), 1] for c in np.ndindex(2, 2, 2)])
        apart = np.linalg.norm(corners @ (forms[0] - forms[1]).T, axis=1).max()
        assert apart <= FORM_TOLERANCE * np.linalg.norm(forms[0][:, :3], axis=0).min() * 1.001
    return np.vstack([forms[0], [0, 0, 0, 1]])


ODD = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-30, -1e30, 1e38, 3.4e38, 0.1])
REAL = st.one_of(ODD, st.floats(width=32), st.floats(-5, 5, width=32))
SHORT = st.one_of(st.integers(-3, 6), st.integers(-(2**15), 2**15 - 1), st.just(32767))
VALUES = {
    "sizeof_hdr": st.sampled_from([0, 348, 540, -1, 1543569408, 2**31 - 1]),
    "magic": st.sampled_from(
        [b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+1X", b"n+2\0\r\n\x1a\n"]
    ),
    "dim": SHORT,
    "datatype": st.one_of(st.sampled_from([*DTYPES, 0, 1, 32, 128, 1536, 1792, 2048, 2304]), SHORT),
    "bitpix": SHORT,
    "pixdim": REAL,
    "vox_offset": st.one_of(
        st.sampled_from([0, 1, 300, 348, 352, 353, 356, 368, 540, 544, 545, 400, -352]),
        st.integers(0, 700),
        st.sampled_from([2**31, 2**60]),
    ),
    "scl_slope": REAL,
    "scl_inter": REAL,
    "xyzt_units": st.integers(0, 255),
    "qform_code": st.one_of(st.integers(-2, 7), SHORT),
    "sform_code": st.one_of(st.integers(-2, 7), SHORT),
    "quatern": st.one_of(REAL, st.floats(-1.125, 1.125, width=32)),
    "qoffset": REAL,
    "srow": REAL,
}


def spoil(data: st.DataObject, raw: bytearray, version: int, order: str) -> None:
    name = data.draw(st.sampled_from(sorted(VALUES)), "field")
    values = list(get(raw, version, order, name))
    for _ in range(data.draw(st.integers(1, min(3, len(values))))):
        values[data.draw(st.integers(0, len(values) - 1))] = data.draw(VALUES[name], name)
    if name in ("dim", "datatype") and data.draw(st.booleans()):
        # Enough bytes behind it for a small change to be true.
        raw += bytes(400)
    put(raw, version, order, name, *values)


def check(path: Path, raw: bytes) -> str:
    path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else raw)
    found = outcome(lambda: read_case(path), path)
    if isinstance(found, DataError):
        return "refused"
    voxels, affine = found
    with np.errstate(all="ignore"):
        expected, place = right_answer(raw)
        np.testing.assert_array_equal(voxels, expected.astype(np.float32))
    assert voxels.dtype == np.float32
    assert np.isfinite(voxels).all()
    assert np.isfinite(affine).all()
    require_equal_places(affine, place)
    return "accepted"


def require_equal_places(affine: np.ndarray, expected: np.ndarray) -> None:
    """Fail unless both agree but for the rounding of float32, which goes with the largest entry."""
    largest = max(10.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(affine, expected, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.timeout(120)
def test_any_header_gives_its_volume_or_is_refused(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()

    @bounded(INPUTS + 500)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        version, order = data.draw(st.sampled_from([1, 1, 2])), data.draw(st.sampled_from("<>"))
        forms = data.draw(st.sampled_from(FORMS))
        raw = sound(version, order, forms, data.draw(st.sampled_from(sorted(DTYPES))))
        for _ in range(data.draw(st.integers(1, 2), "faults")):
            spoil(data, raw, version, order)
        name = data.draw(st.sampled_from(["x.nii", "x.nii", "x.nii.gz"]))
        outcomes[check(tmp_path / name, bytes(raw))] += 1

    read_all()
    require_both(outcomes)


@pytest.mark.timeout(120)
def test_damaged_bytes_give_their_volume_or_are_refused(tmp_path: Path) -> None:
    """Cut anywhere, or changed anywhere; in a .gz before or after it was compressed."""
    outcomes: Counter[str] = Counter()

    @bounded(300)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        raw = sound(data.draw(st.sampled_from([1, 2])), forms=data.draw(st.sampled_from(FORMS)))
        name = data.draw(st.sampled_from(["x.nii", "x.nii.gz"]))
        zipped = name == "x.nii.gz"
        stored = bytearray(gzip.compress(raw, 1)) if zipped else raw
        for _ in range(data.draw(st.integers(0, 2), "changes")):
            place = data.draw(st.integers(0, len(stored) - 1))
            stored[place] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans(), "cut"):
            del stored[data.draw(st.integers(0, len(stored))) :]
        (tmp_path / name).write_bytes(stored)
        found = outcome(lambda: read_case(tmp_path / name), tmp_path / name)
        if isinstance(found, DataError):
            outcomes["refused"] += 1
            return
        with np.errstate(all="ignore"):
            voxels, affine = right_answer(gzip.decompress(stored) if zipped else bytes(stored))
        np.testing.assert_array_equal(found[0], voxels.astype(np.float32))
        require_equal_places(found[1], affine)
        outcomes["accepted"] += 1

    read_all()
    require_both(outcomes, 300)


def refuse(path: Path, raw: bytes, *words: str) -> None:
    path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else raw)
    found = outcome(lambda: read_case(path), path)
    assert isinstance(found, DataError)
    assert found.do
    for word in words:
        assert word in str(found)


def changed(name: str, *values: object, version: int = 1, forms: str = "both") -> bytearray:
    raw = sound(version, forms=forms)
    put(raw, version, "<", name, *values)
    return raw


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("version", "sizes", "words"),
    [
        (1, (3, 32767, 32767, 32767, 1, 1, 1, 1), "at most 2147483648"),  # 70 TB of int16
        (2, (3, 2**40, 2**40, 2**40, 1, 1, 1, 1), "at most 2147483648"),
        (1, (3, 2000, 1000, 1000, 1, 1, 1, 1), "48 of 4000000000 bytes"),
    ],
)
def test_a_size_that_the_file_does_not_hold_takes_no_memory(
    tmp_path: Path, suffix: str, version: int, sizes: tuple[int, ...], words: str
) -> None:
    refuse(tmp_path / f"x{suffix}", changed("dim", *sizes, version=version), words)


def test_what_follows_the_voxels_takes_no_memory(tmp_path: Path) -> None:
    """Half a gigabyte of zeros, in half a megabyte."""
    path = tmp_path / "x.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(sound())
        for _ in range(512):
            stream.write(bytes(2**20))
    found = outcome(lambda: read_case(path), path)
    np.testing.assert_array_equal(found[0], right_answer(sound())[0])


@pytest.mark.parametrize("start", [0, 348, -352, 352.5])
def test_bytes_of_the_header_are_not_taken_for_voxels(tmp_path: Path, start: float) -> None:
    refuse(tmp_path / "x.nii", changed("vox_offset", start), "vox_offset")


def test_half_of_a_pair_is_not_taken_for_a_volume(tmp_path: Path) -> None:
    refuse(tmp_path / "x.nii", changed("magic", b"ni1\0"), ".hdr/.img")


def test_a_voxel_size_of_0_does_not_become_1_mm(tmp_path: Path) -> None:
    raw = changed("pixdim", 1, 0, 0.75, 3, 1, 1, 1, 1, forms="qform")
    refuse(tmp_path / "x.nii", raw, "unusable qform")


@pytest.mark.parametrize("code", ["sform_code", "qform_code"])
def test_an_unknown_code_of_a_form_does_not_drop_the_form(tmp_path: Path, code: str) -> None:
    refuse(tmp_path / "x.nii", changed(code, 77), f"unknown {code}")


def test_an_unknown_unit_is_refused_and_a_unit_of_time_does_not_matter(tmp_path: Path) -> None:
    refuse(tmp_path / "x.nii", changed("xyzt_units", 5), "spatial unit", "code 5")
    assert check(tmp_path / "x.nii", bytes(changed("xyzt_units", 2 + 144))) == "accepted"


@pytest.mark.parametrize("slope", [np.inf, -np.inf])
def test_an_infinite_slope_does_not_mean_unscaled(tmp_path: Path, slope: float) -> None:
    refuse(tmp_path / "x.nii", changed("scl_slope", slope), "unusable scaling")
    assert check(tmp_path / "x.nii", bytes(changed("scl_slope", np.nan))) == "accepted"


def test_an_extension_is_passed_over(tmp_path: Path) -> None:
    """It may hold a DICOM header, whose parser would warn and quote."""
    raw = sound()
    extension = struct.pack("<2i", 32, 2) + SECRET.encode().ljust(24, b"\xff")
    raw[348:352] = b"\1\0\0\0"
    raw[352:352] = extension
    put(raw, 1, "<", "vox_offset", 384)
    assert check(tmp_path / "x.nii", bytes(raw)) == "accepted"
