"""Photographs and masks that must be refused, each with its file and what to do."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dim_monai.data.photograph import read_header, read_mask, read_photograph
from dim_monai.errors import DataError
from tests.photograph_builder import png_of, save, scene

RGB = Image.fromarray(scene((40, 30)).swapaxes(0, 1))
GREY = RGB.convert("L")


def refuse(read, path, *words):
    with pytest.raises(DataError) as raised:
        read(path)
    error = raised.value
    assert error.file == str(path)
    assert error.got
    assert error.expected
    assert error.do
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "jpg"), ("L", "png"), ("LA", "png"), ("1", "png"), ("I;16", "png"), ("F", "tif")],
)
def test_a_greyscale_photograph_is_refused(tmp_path, mode, suffix):
    path = tmp_path / f"eye.{suffix}"
    (GREY.convert("I") if mode == "I;16" else GREY).convert(mode).save(path)
    refuse(read_photograph, path, "8")


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tif"), ("LAB", "tif")])
def test_another_space_of_colours_is_refused(tmp_path, mode, suffix):
    path = tmp_path / f"eye.{suffix}"
    image = Image.new("LAB", (40, 30)) if mode == "LAB" else RGB.convert(mode)
    image.save(path)
    refuse(read_photograph, path, f"mode {mode}", "8-bit RGB")
    refuse(read_mask, path)


def test_16_bits_a_channel_are_refused_and_not_cut_to_8(tmp_path):
    """Pillow itself opens both as 8-bit RGB and says nothing."""
    png, tiff = tmp_path / "eye.png", tmp_path / "eye.tif"
    rows = np.arange(4 * 3 * 3, dtype=">u2").reshape(4, 3, 3) * 1000
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    png.write_bytes(png_of(3, 4, 16, 2, zlib.compress(lines)))
    tiff.write_bytes(tiff_16_bits(rows.astype("<u2")))
    for path in (png, tiff):
        with Image.open(path) as image:
            assert image.mode == "RGB"
        for read in (read_photograph, read_mask, read_header):
            refuse(read, path, "16 bits")


def tiff_16_bits(rows):
    """A little-endian TIFF of three 16-bit channels, put together by hand."""
    height, width, _ = rows.shape
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 134), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2), (273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, height)]
    tags += [(279, 4, 1, rows.nbytes), (284, 3, 1, 1)]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    head = b"II*\0" + struct.pack("<I", 8) + directory
    return head.ljust(134, b"\0") + struct.pack("<HHH", 16, 16, 16) + rows.tobytes()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_several_frames_are_refused(tmp_path, suffix):
    path = tmp_path / f"eye.{suffix}"
    RGB.save(path, save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_180)])
    for read in (read_photograph, read_mask, read_header):
        refuse(read, path, "2 frames")


def test_a_stereo_pair_in_one_jpeg_is_refused(tmp_path):
    path = tmp_path / "eye.jpg"
    RGB.save(path, format="MPO", save_all=True, append_images=[RGB])
    refuse(read_photograph, path, "2 frames")


def test_transparency_is_refused(tmp_path):
    glass = RGB.convert("RGBA")
    glass.putpixel((3, 3), (1, 2, 3, 254))
    glass.save(tmp_path / "eye.png")
    refuse(read_photograph, tmp_path / "eye.png", "transparent")
    refuse(read_mask, tmp_path / "eye.png", "transparent")
    GREY.convert("P").save(tmp_path / "palette.png", transparency=int(np.asarray(GREY)[0, 0]))
    refuse(read_photograph, tmp_path / "palette.png", "transparent")


def test_a_mask_in_colours_is_refused(tmp_path):
    RGB.save(tmp_path / "mask.png")
    refuse(read_mask, tmp_path / "mask.png", "colours", "one value a class")


def test_a_mask_whose_values_were_compressed_is_refused(tmp_path):
    """Whatever it is named."""
    for name in ("mask.jpg", "mask.png"):
        GREY.save(tmp_path / name, format="JPEG")
        refuse(read_mask, tmp_path / name, "JPEG", "PNG")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_mask_of_more_than_8_bits_is_refused(tmp_path, mode):
    image = GREY.convert("I").convert(mode) if mode == "I;16" else GREY.convert(mode)
    image.save(tmp_path / "mask.tif")
    refuse(read_mask, tmp_path / "mask.tif", "8")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path = save(tmp_path / f"eye.{suffix}", scene((64, 64)), 6)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    refuse(read_photograph, path, "image cannot be read", "again")


@settings(max_examples=60)
@given(data=st.data())
def test_a_png_with_a_flipped_bit_is_refused(tmp_path_factory, data):
    path = save(tmp_path_factory.mktemp("bits") / "eye.png", scene())
    raw = bytearray(path.read_bytes())
    start = raw.index(b"IDAT") + 4
    place = data.draw(st.integers(start, raw.index(b"IEND") - 9))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(raw))
    refuse(read_photograph, path)


@settings(max_examples=150)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "tif"]))
def test_damage_anywhere_gives_pixels_or_our_own_error(tmp_path_factory, data, suffix):
    path = save(tmp_path_factory.mktemp("damage") / f"eye.{suffix}", scene(), 8)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    for read in (read_photograph, read_mask, read_header):
        try:
            read(path)
        except DataError as error:
            assert error.file == str(path)  # noqa: PT017


@pytest.mark.parametrize("content", [b"", b"eye", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "eye.png"
    path.write_bytes(content)
    refuse(read_photograph, path, "PNG, JPEG or TIFF")


def test_a_gif_by_another_name_is_refused(tmp_path):
    RGB.save(tmp_path / "eye.png", format="GIF")
    refuse(read_photograph, tmp_path / "eye.png", "PNG, JPEG or TIFF")


@pytest.mark.parametrize("size", [(20_000, 5_001), (200_000, 200_000)])
def test_an_absurd_size_is_refused_before_it_is_decoded(tmp_path, size):
    path = tmp_path / "eye.png"
    path.write_bytes(png_of(*size, 8, 2, zlib.compress(b"")))
    for read in (read_photograph, read_mask, read_header):
        refuse(read, path, "100 million pixels")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refuse(read_photograph, tmp_path / "eye.jpg", "nothing at this path")
    refuse(read_mask, tmp_path, "another kind of file")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = save(tmp_path / "eye.png", scene())
    path.chmod(0)
    refuse(read_photograph, path, "PermissionError")
