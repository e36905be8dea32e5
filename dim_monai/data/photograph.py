"""Photographs and their masks: read upright or refused, and masks written on the stored grid.

A camera held sideways stores its pixels sideways and says so in one EXIF tag. Every viewer obeys
the tag, so what a person calls left or above is on the upright grid, and everything here is on it.
Only `write_mask` goes back to the stored grid, so that a mask and its photograph agree both as
arrays and as they are displayed.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dim_monai.errors import DataError
from dim_monai.files import atomic_write

PathLike: TypeAlias = str | os.PathLike[str]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""What the name of a photograph ends with, in any case of letters."""

MASK_SUFFIXES = (".png", ".tif", ".tiff")
"""What the name of a mask ends with. JPEG changes values at edges, and a mask is all edges."""

MAX_PIXELS = 100_000_000
"""Largest photograph that is read: twice the widest fundus montage, and 0.3 GB once decoded."""

_FORMATS = ("PNG", "JPEG", "TIFF")
_BITS_PER_SAMPLE, _STORED_WIDTH, _STORED_HEIGHT = 258, 256, 257  # tags of TIFF
_TO_STORED = {  # the inverse of what each value of the EXIF tag asks of a viewer
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_SIDEWAYS = (5, 6, 7, 8)

# Pillow warns of damage that this module refuses or that does not matter. Silencing a warning is
# not safe between threads, and data sets are read by several.
_silence = threading.Lock()


class Header(NamedTuple):
    """What a file says of its pixels before they are decoded.

    Attributes:
        width: columns as displayed, px.
        height: rows as displayed, px.
        orientation: the EXIF tag, 1 (stored as displayed) to 8.
    """

    width: int
    height: int
    orientation: int


def is_photograph(path: PathLike) -> bool:
    """Whether ``path`` is named as a photograph is, and is not hidden; it need not exist."""
    return _is_named(path, SUFFIXES)


def is_mask(path: PathLike) -> bool:
    """Whether ``path`` is named as a file that can hold a mask, and is not hidden."""
    return _is_named(path, MASK_SUFFIXES)


def read_photograph(path: PathLike) -> NDArray[np.uint8]:
    """Return a colour photograph, upright.

    Palette images and images with an opaque alpha channel are colour photographs like others.

    Args:
        path: a PNG, JPEG or TIFF file; its content decides, not its name.

    Returns:
        Red, green and blue, uint8 (W, H, 3): the first axis rightward, the second downward, as a
        viewer shows it (EXIF orientation applied).

    Raises:
        DataError: no such file, another format, damage, several frames, more than `MAX_PIXELS`,
            more than 8 bits a channel, greyscale, CMYK, or transparency.
    """
    path = Path(path)
    image, header, _ = _open(path)
    colour = image.mode in ("RGB", "RGBA", "P", "PA")
    if not colour:
        raise _refused(path, f"mode {image.mode}", "8-bit RGB", "save it as an RGB photograph")
    _decode(path, image, header)
    if image.mode != "RGB":
        image = _without_alpha(path, image.convert("RGBA")).convert("RGB")
    return _by_width(image)


def read_mask(path: PathLike) -> NDArray[np.uint8]:
    """Return the values of a mask as they are stored, upright.

    Args:
        path: a PNG or TIFF file: greyscale of 1, 2, 4 or 8 bits, palette, or RGB with three equal
            channels and, if any, an opaque alpha channel.

    Returns:
        The grey value or the index into the palette, uint8 (W, H), axes as `read_photograph`. A
        file of n bits gives values below 2**n: 0 and 1 if it is black and white.

    Raises:
        DataError: as `read_photograph`; also for a JPEG file and for colours.
    """
    path = Path(path)
    image, header, bits = _open(path)
    if image.format in ("JPEG", "MPO"):
        raise _refused(path, "JPEG, which changes values", "PNG or TIFF", "export the mask as PNG")
    if image.mode not in ("1", "L", "P", "LA", "RGB", "RGBA"):
        raise _refused(path, f"mode {image.mode}", "8-bit greyscale or palette", _AS_PNG)
    _decode(path, image, header)
    if image.mode in ("LA", "RGBA"):
        image = _without_alpha(path, image)
    if image.mode == "RGB":
        red, *others = image.split()
        if any(channel.tobytes() != red.tobytes() for channel in others):
            raise _refused(path, "a mask in colours", "one value a pixel", _AS_PNG)
        image = red
    values = _by_width(image)
    if image.mode == "L" and bits in (2, 4):
        values //= 255 // (2**bits - 1)  # Pillow stretches them to 0..255
    return values


def read_header(path: PathLike) -> Header:
    """Return size and orientation without decoding the pixels.

    Raises:
        DataError: as `read_photograph`, for what the header alone tells.
    """
    return _open(Path(path))[1]


def write_mask(path: PathLike, mask: NDArray[Any], orientation: int = 1) -> None:
    """Write an upright mask as an 8-bit greyscale PNG on the stored grid of its photograph.

    `read_mask` returns it as it was given. The file is whole or absent.

    Args:
        path: the file to write or replace.
        mask: integers 0..255, (W, H), axes as `read_photograph`.
        orientation: the EXIF tag of the photograph (`read_header`); the mask gets the same.

    Raises:
        ValueError: the mask is not one of integers 0..255 on two axes, or there is no such tag.
        OSError: the file cannot be written; an older one is then left as it was.
    """
    values = np.asarray(mask)
    if values.ndim != 2 or values.dtype.kind not in "iub" or values.size == 0:
        raise ValueError(f"a mask is integers (W, H), got {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"values of a mask are 0..255, got {values.min()}..{values.max()}")
    if not 1 <= orientation <= 8:
        raise ValueError(f"an EXIF orientation is 1..8, got {orientation}")
    image = Image.fromarray(np.ascontiguousarray(values.T, dtype=np.uint8))
    options: dict[str, Any] = {}
    if orientation != 1:
        image = image.transpose(_TO_STORED[orientation])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    with atomic_write(Path(path), "wb") as file:
        image.save(file, "PNG", **options)


_AS_PNG = "save the mask as greyscale PNG with one value a class"


def _is_named(path: PathLike, suffixes: tuple[str, ...]) -> bool:
    name = Path(path).name
    return not name.startswith(".") and name.lower().endswith(suffixes)


def _open(path: Path) -> tuple[Image.Image, Header, int]:
    """Return the image with its pixels not yet decoded, its header, and its bits a channel."""
    if not path.is_file():
        got = "another kind of file" if path.exists() else "nothing at this path"
        raise _refused(path, got, "a PNG, JPEG or TIFF file", "check the path")
    try:
        raw = path.read_bytes()
        with _silence, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _require_checksums(raw)
            image = Image.open(io.BytesIO(raw), formats=_FORMATS)
            frames = 1 if _has_previews(image, raw) else getattr(image, "n_frames", 1)
            header, bits = _header(image, raw)
    except Image.DecompressionBombError as error:
        raise _too_large(path, "a header of absurd size") from error
    except Exception as error:  # damaged bytes make the parser raise almost anything
        raise _damaged(path, error) from error
    if frames > 1:
        raise _refused(path, f"{frames} frames", "one", "save the right one as a file of its own")
    if header.width * header.height > MAX_PIXELS:
        raise _too_large(path, f"{header.width} x {header.height}")
    if bits > 8:
        raise _refused(path, f"{bits} bits a channel", "8", "export it with 8 bits a channel")
    return image, header, bits


def _has_previews(image: Image.Image, raw: bytes) -> bool:
    """Whether a JPEG file holds, after its photograph, only smaller copies for a camera's screen.

    Pictures of one size are a stereo pair or a panorama, and nobody can say which is meant.
    """
    if image.format != "MPO":
        return False
    others = Image.open(io.BytesIO(raw), formats=_FORMATS)  # of its own: seeking is not undone
    sizes = []
    for frame in range(1, getattr(others, "n_frames", 1)):
        others.seek(frame)
        sizes.append(others.size)
    return all(w < image.width and h < image.height for w, h in sizes)


def _require_checksums(raw: bytes) -> None:
    """Refuse a PNG with a flipped bit, which decoding alone passes over."""
    if raw.startswith(b"\x89PNG"):
        Image.open(io.BytesIO(raw), formats=("PNG",)).verify()


def _header(image: Image.Image, raw: bytes) -> tuple[Header, int]:
    width, height, bits = *image.size, 8
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        # Pillow's own size of a TIFF is already the upright one.
        width, height = tags[_STORED_WIDTH], tags[_STORED_HEIGHT]
        bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    elif image.format == "PNG":
        bits = raw[24]  # of IHDR, which stands first
    orientation = _orientation(image, raw)
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Header(width, height, orientation), bits


def _orientation(image: Image.Image, raw: bytes) -> int:
    # The tag of a PNG may stand after the pixels, and Pillow decodes them all to look for it.
    marks = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
    if image.format == "PNG" and not any(mark in raw for mark in marks):
        return 1
    tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    return int(tag) if tag in _TO_STORED else 1


def _decode(path: Path, image: Image.Image, header: Header) -> None:
    """Decode the pixels in place and turn them upright."""
    try:
        image.load()
        if header.orientation != 1:
            ImageOps.exif_transpose(image, in_place=True)  # does nothing where `load` has done it
    except Exception as error:  # as in _open
        raise _damaged(path, error) from error


def _without_alpha(path: Path, image: Image.Image) -> Image.Image:
    if image.getchannel("A").getextrema() != (255, 255):
        raise _refused(path, "transparent pixels", "none", "save it without transparency")
    return image.convert("L" if image.mode == "LA" else "RGB")


def _by_width(image: Image.Image) -> NDArray[np.uint8]:
    """Return pixels with the first axis rightward, in an array of their own."""
    rows = np.asarray(image)
    return np.array(np.swapaxes(rows, 0, 1), dtype=np.uint8, order="C")


def _damaged(path: Path, error: Exception) -> DataError:
    got, said = type(error).__name__, str(error)
    if isinstance(error, UnidentifiedImageError):
        got = "no image"  # Pillow says where in memory it looked for one
    elif said and said.isprintable():
        got = f"{got}: {said}"
    return DataError(
        "image cannot be read",
        file=path,
        got=got,
        expected="a complete PNG, JPEG or TIFF file",
        do="copy or export the file again",
    )


def _too_large(path: Path, got: str) -> DataError:
    expected = f"at most {MAX_PIXELS // 1_000_000} million pixels"
    return _refused(path, got, expected, "reduce it, or take it out")


def _refused(path: Path, got: object, expected: str, do: str) -> DataError:
    return DataError("image cannot be used", file=path, got=got, expected=expected, do=do)
