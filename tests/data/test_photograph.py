"""Photographs and masks: upright as a viewer shows them, and masks back on the stored grid."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageOps

from dim_monai.data import photograph
from dim_monai.data.photograph import (
    is_mask,
    is_photograph,
    read_header,
    read_mask,
    read_photograph,
    write_mask,
)
from dim_monai.errors import DataError
from tests.photograph_builder import STORED, few_bits_png, save, scene

DATA = os.environ.get("DIM_TEST_DATA")
ORIENTATIONS = sorted(STORED)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_photograph_is_read_as_it_is_displayed(tmp_path, suffix, orientation):
    path = save(tmp_path / f"eye.{suffix}", scene(), orientation)
    read = read_photograph(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable  # torch wants to own what it wraps
    np.testing.assert_array_equal(read, scene())
    assert read_header(path) == (13, 7, orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_is_read_as_pillow_decodes_and_turns_it(tmp_path, orientation):
    path = save(tmp_path / "eye.jpg", scene((40, 24)), orientation, quality=90)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).swapaxes(0, 1)
    np.testing.assert_array_equal(read_photograph(path), expected)
    assert read_header(path)[:2] == (40, 24)


def test_an_independent_reader_sees_the_same_pixels(tmp_path):
    path = save(tmp_path / "eye.png", scene())
    rows = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
    np.testing.assert_array_equal(read_photograph(path), rows.swapaxes(0, 1))


@pytest.mark.parametrize("tag", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, tag):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = tag
    Image.fromarray(scene().swapaxes(0, 1)).save(tmp_path / "eye.png", exif=exif)
    np.testing.assert_array_equal(read_photograph(tmp_path / "eye.png"), scene())
    assert read_header(tmp_path / "eye.png").orientation == 1


def test_the_orientation_of_a_png_may_stand_after_its_pixels(tmp_path):
    raw = save(tmp_path / "before.png", scene(), 6).read_bytes()
    start = raw.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(raw[start : start + 4], "big")
    last = raw.index(b"IEND") - 4
    assert end < raw.index(b"IDAT")
    path = tmp_path / "after.png"
    path.write_bytes(raw[:start] + raw[end:last] + raw[start:end] + raw[last:])
    assert read_header(path) == (13, 7, 6)
    np.testing.assert_array_equal(read_photograph(path), scene())


def test_palette_and_opaque_alpha_are_photographs_like_others(tmp_path):
    rows = Image.fromarray(scene().swapaxes(0, 1))
    rows.convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "alpha.png"), scene())
    palette = rows.quantize(256)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB")).swapaxes(0, 1)
    np.testing.assert_array_equal(read_photograph(tmp_path / "palette.png"), expected)
    palette.save(tmp_path / "opaque.png", transparency=bytes([255] * 256))
    np.testing.assert_array_equal(read_photograph(tmp_path / "opaque.png"), expected)


@settings(max_examples=40)
@given(
    mask=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_a_mask_comes_back_upright_and_lies_on_the_stored_grid(tmp_path_factory, mask, orientation):
    path = tmp_path_factory.mktemp("masks") / "eye_seg.png"
    write_mask(path, mask, orientation)
    np.testing.assert_array_equal(read_mask(path), mask)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == orientation
        np.testing.assert_array_equal(np.asarray(image), STORED[orientation](mask.T))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mask_and_photograph_agree_both_as_arrays_and_as_displayed(tmp_path, orientation):
    bright = (scene()[..., 0] > 127).astype(np.uint8)
    eye = save(tmp_path / "eye.png", scene(), orientation)
    write_mask(tmp_path / "eye_seg.png", bright, read_header(eye).orientation)
    with Image.open(eye) as image, Image.open(tmp_path / "eye_seg.png") as mask:
        stored = [np.asarray(image)[..., 0] > 127, np.asarray(mask) > 0]
        shown = [np.asarray(ImageOps.exif_transpose(each)) for each in (image, mask)]
    np.testing.assert_array_equal(*stored)
    np.testing.assert_array_equal(shown[0][..., 0] > 127, shown[1] > 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_of_few_bits_holds_the_values_that_are_stored(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 8), dtype=np.uint8)
    (tmp_path / "mask.png").write_bytes(few_bits_png(values.T.copy(), bits))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values)


def test_the_index_of_a_palette_counts_and_not_its_colour(tmp_path):
    values = np.array([[0, 1, 2], [2, 2, 0]], dtype=np.uint8)
    image = Image.fromarray(values.T.copy(), mode=None).convert("P")
    image.putpalette([90, 0, 0, 0, 200, 0, 7, 7, 255])
    image.save(tmp_path / "mask.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_grey_mask_may_have_several_channels(tmp_path, mode, suffix):
    values = np.array([[0, 128, 255], [3, 2, 0]], dtype=np.uint8)
    Image.fromarray(values.T.copy()).convert(mode).save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"mask.{suffix}"), values)


def test_a_black_and_white_mask_is_0_and_1(tmp_path):
    values = np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8)
    Image.fromarray(values.T.astype(bool)).save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), values)


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"eye.{suffix}", scene(), 6) for suffix in ("png", "jpg", "tif")]
    paths.append(tmp_path / "plain.png")
    Image.fromarray(scene().swapaxes(0, 1)).save(paths[-1])

    def refuse(image: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", refuse)
    assert {read_header(path)[:2] for path in paths} == {(13, 7)}


def test_many_threads_may_read_and_no_filter_of_warnings_is_changed(tmp_path):
    path = save(tmp_path / "eye.tif", scene(), 3)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        for read in threads.map(read_photograph, [path] * 64):
            np.testing.assert_array_equal(read, scene())
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("name", "photo", "mask"),
    [
        ("a/eye.JPG", True, False),
        ("eye.jpeg", True, False),
        ("eye.Tiff", True, True),
        ("eye.tif", True, True),
        ("eye.png", True, True),
        (".eye.png", False, False),
        ("._eye.jpg", False, False),
        ("png", False, False),
        ("eye.nii.gz", False, False),
        ("eye.png.txt", False, False),
    ],
)
def test_a_photograph_is_known_by_its_name(name, photo, mask):
    assert (is_photograph(name), is_mask(Path(name))) == (photo, mask)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_mask_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, error, old):
    target = tmp_path / "mask.png"
    if old is not None:
        target.write_bytes(old)

    def half(image: Image.Image, file: object, *args: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(type(error)):
        write_mask(target, np.zeros((3, 4), dtype=np.uint8))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize(
    ("mask", "orientation", "message"),
    [
        (np.zeros((3, 4)), 1, "integers"),
        (np.zeros((3, 4, 1), dtype=int), 1, "integers"),
        (np.zeros((0, 4), dtype=int), 1, "integers"),
        (np.full((3, 4), 256), 1, "0..255"),
        (np.full((3, 4), -1), 1, "0..255"),
        (np.zeros((3, 4), dtype=int), 0, "orientation"),
        (np.zeros((3, 4), dtype=int), 9, "orientation"),
    ],
)
def test_what_is_no_mask_is_not_written(tmp_path, mask, orientation, message):
    with pytest.raises(ValueError, match=message):
        write_mask(tmp_path / "mask.png", mask, orientation)
    assert not list(tmp_path.iterdir())


def test_a_photograph_of_the_largest_size_is_read_and_the_next_is_not(tmp_path, monkeypatch):
    path = save(tmp_path / "eye.png", scene())
    monkeypatch.setattr(photograph, "MAX_PIXELS", 13 * 7)
    assert read_header(path)[:2] == (13, 7)
    monkeypatch.setattr(photograph, "MAX_PIXELS", 13 * 7 - 1)
    with pytest.raises(photograph.DataError, match="13 x 7"):
        read_header(path)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="DIM_TEST_DATA does not name the folder of test images")
def test_a_real_disc_is_brighter_than_its_surroundings():
    folder = Path(DATA, "fundus_disc")
    for name in ("IDRiD_01", "IDRiD_12"):
        eye = read_photograph(folder / "image" / f"{name}.jpg")
        disc = read_mask(folder / "mask" / f"{name}.png") > 0
        assert eye.shape == (1072, 712, 3)
        field = eye.sum(axis=2) > 60  # without the black around the field of view
        assert eye[disc, 1].mean() > 1.3 * eye[field & ~disc, 1].mean()


def several_in_one(path: Path, *sizes: tuple[int, int]) -> Path:
    """A JPEG file of several pictures, as cameras write it (CIPA DC-007)."""
    first, *others = (Image.fromarray(scene(size[::-1])) for size in sizes)
    first.save(path, format="MPO", save_all=True, append_images=others)
    return path


def test_the_preview_that_a_camera_embeds_is_passed_over(tmp_path: Path) -> None:
    both = several_in_one(tmp_path / "a.jpg", (64, 48), (16, 12), (8, 6))
    alone = tmp_path / "b.jpg"
    Image.fromarray(scene((48, 64))).save(alone, format="JPEG")
    assert read_header(both) == (64, 48, 1)
    assert np.array_equal(read_photograph(both), read_photograph(alone))


@pytest.mark.parametrize("other", [(64, 48), (64, 12), (80, 60)])
def test_pictures_of_which_none_is_a_preview_are_refused(
    tmp_path: Path, other: tuple[int, int]
) -> None:
    path = several_in_one(tmp_path / "stereo.jpg", (64, 48), other)
    with pytest.raises(DataError, match="got 2 frames"):
        read_photograph(path)


def test_a_mask_is_no_jpeg_with_a_preview_either(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEG, which changes values"):
        read_mask(several_in_one(tmp_path / "a.png", (64, 48), (16, 12)))
