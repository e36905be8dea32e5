"""Photographs and masks, damaged or strange: the pixels as a viewer shows them, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from dim_monai.data.photograph import MAX_PIXELS, read_header, read_mask, read_photograph
from dim_monai.errors import DataError
from tests.fuzz.law import INPUTS, SECRET, bounded, outcome, require_both
from tests.photograph_builder import STORED, chunk, png_of, scene

READERS = (read_photograph, read_mask, read_header)
WIDTH, HEIGHT = 5, 4
MODES = ["RGB", "RGB", "RGBA", "P", "PA", "L", "LA", "1", "CMYK", "I;16", "F", "YCbCr"]
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}
HOLDS = {
    "PNG": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK", "YCbCr"),
    "TIFF": ("RGB", "RGBA", "P", "PA", "L", "LA", "1", "CMYK", "I;16", "F", "YCbCr"),
}


def upright(mode: str) -> tuple[Image.Image, np.ndarray]:
    """An image and, (W, H[, C]), what a viewer shows of it."""
    colours = scene((WIDTH, HEIGHT))
    if mode in ("RGBA", "P", "PA", "LA"):
        colours //= 128  # few colours, so that a palette holds them all
    image = Image.fromarray(np.ascontiguousarray(colours.swapaxes(0, 1)))
    if mode in ("P", "PA"):
        values = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH)
        image = Image.fromarray(values)
        image.putpalette([*range(60, 120)])
        colours = np.stack([60 + 3 * values + n for n in range(3)], axis=-1).swapaxes(0, 1)
        return image if mode == "P" else image.convert("PA"), colours
    if mode == "I;16":
        return image.convert("I").convert(mode), colours
    return image.convert(mode), colours


def exif_of(data: st.DataObject) -> Image.Exif:
    exif = Image.Exif()
    value = st.one_of(st.integers(0, 10), st.sampled_from([65535, 70000, "6", b"\6", 6.0]))
    if data.draw(st.integers(0, 3), "EXIF"):
        exif[ExifTags.Base.Orientation] = data.draw(value, "orientation")
    exif[ExifTags.Base.Artist] = SECRET
    return exif


def file_of(data: st.DataObject) -> tuple[str, bytes, Any]:
    """A file, and the upright colours that it holds, or None where that cannot be said."""
    suffix = data.draw(st.sampled_from(sorted(FORMATS)), "suffix")
    mode = data.draw(st.sampled_from([m for m in MODES if m in HOLDS[FORMATS[suffix]]]), "mode")
    image, colours = upright(mode)
    exif = exif_of(data)
    turn = exif.get(ExifTags.Base.Orientation, 1)
    known = type(turn) is int and 1 <= turn <= 8 and mode in ("RGB", "RGBA", "P")
    if known and turn != 1:
        palette = image.getpalette()
        image = Image.fromarray(np.ascontiguousarray(STORED[turn](np.asarray(image))))
        if palette:
            image.putpalette(palette)
    options: dict[str, Any] = {}
    if suffix == "tif":
        options["compression"] = data.draw(
            st.sampled_from([None, "tiff_lzw", "tiff_deflate", "packbits"])
        )
    stream = io.BytesIO()
    try:
        image.save(stream, FORMATS[suffix], exif=exif, **options)
    except (
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ):  # what Pillow itself would not write
        stream = io.BytesIO()
        image.save(stream, FORMATS[suffix], **options)
        known = False
    return suffix, stream.getvalue(), colours if known and suffix != "jpg" else None


def check(folder: Path, name: str, raw: bytes, colours: Any = None) -> str:
    path = folder / name
    path.write_bytes(raw)
    pixels, mask, header = (outcome(partial(read, path), path) for read in READERS)
    if isinstance(header, DataError):
        assert isinstance(pixels, DataError)
        assert isinstance(mask, DataError)
        return "refused"
    size = header[:2]
    if not isinstance(mask, DataError):
        assert mask.dtype == np.uint8
        assert mask.shape == size
    if isinstance(pixels, DataError):
        assert colours is None
        return "refused"
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*size, 3)
    if colours is not None:
        np.testing.assert_array_equal(pixels, colours)
    return "accepted"


@pytest.mark.timeout(120)
def test_any_mode_and_any_exif_gives_its_pixels_or_is_refused(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()

    @bounded(INPUTS)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        suffix, raw, colours = file_of(data)
        outcomes[check(tmp_path, f"eye.{suffix}", raw, colours)] += 1

    read_all()
    require_both(outcomes)


@pytest.mark.timeout(120)
def test_damaged_bytes_give_pixels_or_are_refused(tmp_path: Path) -> None:
    """Cut, changed, or named as another format; an undamaged PNG has a checksum over its pixels."""
    outcomes: Counter[str] = Counter()

    @bounded(INPUTS)
    @given(data=st.data())
    def read_all(data: st.DataObject) -> None:
        suffix, sound, colours = file_of(data)
        raw = bytearray(sound)
        for _ in range(data.draw(st.integers(0, 3), "changes")):
            place = data.draw(st.integers(0, len(raw) - 1))
            raw[place] = data.draw(st.one_of(st.sampled_from([0, 255]), st.integers(0, 255)))
        if data.draw(st.integers(0, 3), "whole") == 0:
            del raw[data.draw(st.integers(0, len(raw))) :]
        name = data.draw(st.sampled_from([f"eye.{suffix}", "eye.jpeg", "eye.png"]))
        outcomes[check(tmp_path, name, bytes(raw), colours if raw == sound else None)] += 1

    read_all()
    require_both(outcomes)


def jpeg_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    raw = bytearray(stream.getvalue())
    place = raw.index(b"\xff\xc0") + 5
    raw[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(raw)


def tiff_of(width: int, height: int, compression: int = 1, **tags: int) -> bytes:
    """An 8-bit RGB TIFF whose header says these sizes and whose one strip is almost empty."""
    entries = {256: width, 257: height, 258: 8, 259: compression, 262: 2, 273: 200, 277: 3}
    entries |= {278: height, 279: 8, **{int(tag[1:]): value for tag, value in tags.items()}}
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in sorted(entries.items()))
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + bytes(8)


SIZES = [(2**31 - 1, 2**31 - 1), (0, 5), (65535, 65535), (20_000, 20_000), (2**31, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_declared_size_takes_no_memory(
    tmp_path: Path, suffix: str, size: tuple[int, int]
) -> None:
    width, height = size
    made = {
        "png": lambda: png_of(width, height, 8, 2, zlib.compress(b"")),
        "jpg": lambda: jpeg_of(min(width, 65535), min(height, 65535)),
        "tif": lambda: tiff_of(width, height),
    }
    assert check(tmp_path, f"eye.{suffix}", made[suffix]()) == "refused"


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_a_huge_tile_takes_no_memory(tmp_path: Path, compression: int) -> None:
    raw = tiff_of(64, 64, compression, t322=2**30, t323=2**20, t324=200, t325=8)
    assert check(tmp_path, "eye.tif", raw) == "refused"


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_to_much_takes_no_memory(tmp_path: Path, name: bytes) -> None:
    bomb = zlib.compress(bytes(2**26), 9)
    content = {
        b"zTXt": b"Comment\0\0",
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0",
        b"iCCP": b"profile\0\0",
    }[name]
    sound = png_of(1, 1, 8, 2, zlib.compress(bytes(4)))
    head = sound.index(b"IDAT") - 4
    raw = sound[:head] + chunk(name, content + bomb) + sound[head:]
    assert check(tmp_path, "eye.png", raw) in ("refused", "accepted")


def test_the_largest_photograph_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "eye.png"
    path.write_bytes(png_of(10_000, MAX_PIXELS // 10_000, 8, 2, zlib.compress(b"")))
    assert read_header(path)[:2] == (10_000, MAX_PIXELS // 10_000)


def test_what_is_no_image_is_refused_in_the_same_words_every_time(tmp_path: Path) -> None:
    """Pillow names the object in memory that it was given."""
    path = tmp_path / "eye.png"
    path.write_bytes(b"eye")
    found = outcome(lambda: read_photograph(path), path)
    assert isinstance(found, DataError)
    assert "0x" not in str(found)
    assert "BytesIO" not in str(found)
