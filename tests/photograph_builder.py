"""Photographs and masks as cameras and annotation tools store them, made by the tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

# What the file holds, given what a viewer shows: rows and columns turned by hand, after the table
# of the Exif standard (which corner of the scene the first row and the first column stand for).
STORED = {
    1: lambda rows: rows,
    2: lambda rows: rows[:, ::-1],  # row 0 at the top, column 0 at the right
    3: lambda rows: rows[::-1, ::-1],  # bottom, right
    4: lambda rows: rows[::-1],  # bottom, left
    5: lambda rows: rows.swapaxes(0, 1),  # left, top
    6: lambda rows: rows.swapaxes(0, 1)[::-1],  # right, top
    7: lambda rows: rows.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda rows: rows.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


def scene(shape: tuple[int, int] = (13, 7), seed: int = 0) -> NDArray[np.uint8]:
    """An upright photograph (W, H, 3) in which no two pixels are alike by accident."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def save(path: Path, upright: NDArray[np.uint8], orientation: int = 1, **options: Any) -> Path:
    """Write an upright image (W, H[, 3]) as a camera held in that orientation would."""
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright.swapaxes(0, 1))))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, **options)
    return path


def few_bits_png(rows: NDArray[np.uint8], bits: int) -> bytes:
    """A greyscale PNG of 1, 2, 4 or 8 bits a pixel, put together by hand."""
    height, width = rows.shape
    lines = b""
    for row in rows:
        flags = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
        lines += b"\0" + np.packbits(flags.ravel()).tobytes()
    return png_of(width, height, bits, 0, zlib.compress(lines))


def png_of(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    """A PNG file of these header fields and this compressed content."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, *zip(*parts, strict=True)))


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file with its length and checksum."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
