"""Where masks go, and that they are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage
from PIL import Image

from dim_monai.data.output import MirroredLayout, WholeNiftiWriter, WholePngWriter
from dim_monai.data.photograph import read_mask
from dim_monai.data.reader import read_case
from dim_monai.dicom.series import case_name
from dim_monai.errors import ConfigError, DataError
from tests.photograph_builder import save as save_photograph
from tests.photograph_builder import scene

UID = "1.2.826.0.1.3680043.8.498.100"
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 3.0, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("case", "mask"),
    [
        ("case.nii.gz", "case_seg.nii.gz"),
        ("case.nii", "case_seg.nii.gz"),
        ("CASE.NII.GZ", "CASE_seg.nii.gz"),
        ("a/b/case.nii.gz", "a/b/case_seg.nii.gz"),
        ("a/scan.v2.nii.gz", "a/scan.v2_seg.nii.gz"),
        ("a/series", "a/series_seg.nii.gz"),
        (UID, f"{UID}_seg.nii.gz"),
        (f"patient.7/{UID}", f"patient.7/{UID}_seg.nii.gz"),
    ],
)
def test_the_tree_of_masks_mirrors_that_of_the_images(tmp_path, case, mask) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), str(tmp_path / "in"))
    path = Path(layout.filename(str(tmp_path / "in" / case), idx=3))
    assert path == tmp_path / "out" / mask
    assert path.parent.is_dir()


@pytest.mark.parametrize(
    ("case", "mask"),
    [
        ("eye.jpg", "eye_seg.png"),
        ("a/b/eye.v2.TIF", "a/b/eye.v2_seg.png"),
        ("patient.7/eye.png", "patient.7/eye_seg.png"),
    ],
)
def test_masks_of_photographs_are_png_in_the_same_tree(tmp_path, case, mask) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), str(tmp_path / "in"), kind="photograph")
    assert layout.filename(str(tmp_path / "in" / case)) == str(tmp_path / "out" / mask)


def test_a_layout_knows_its_kinds() -> None:
    with pytest.raises(ConfigError, match="kind"):
        MirroredLayout("out", "in", kind="picture")


@pytest.mark.parametrize("case", [UID, "series", "case.nii.gz"])
def test_a_case_that_is_itself_the_input_lies_directly_under_the_output(tmp_path, case) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), f"{tmp_path / 'in' / case}/")
    stem = case.removesuffix(".nii.gz")
    assert layout.filename(tmp_path / "in" / case) == str(tmp_path / "out" / f"{stem}_seg.nii.gz")


def test_cases_of_one_folder_have_masks_of_different_names(tmp_path) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), str(tmp_path))
    names = [f"{UID}.{last}" for last in range(1, 4)]
    assert len({layout.filename(tmp_path / name) for name in names}) == 3


@pytest.mark.parametrize("given", ["", ".", "sub/..", "case.nii.gz"])
def test_a_mask_is_not_written_beside_its_image(tmp_path, given) -> None:
    (tmp_path / "case.nii.gz").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path, tmp_path / "link"):
        with pytest.raises(ConfigError, match="among the images"):
            MirroredLayout(str(out), str(tmp_path / given))


def test_masks_of_a_folder_of_the_same_name_do_not_lie_among_the_images(tmp_path) -> None:
    """OUT is above IN, and IN/name has the name of IN: its masks would lie in IN."""
    images = tmp_path / "site" / "name"
    images.mkdir(parents=True)
    layout = MirroredLayout(str(tmp_path), str(images))
    assert layout.place(images / "a.nii.gz") == tmp_path / "a_seg.nii.gz"
    (images / "site" / "name").mkdir(parents=True)
    with pytest.raises(ConfigError, match="among the images"):
        MirroredLayout(str(tmp_path), str(images))
    MirroredLayout(str(images / "out"), str(images))


def test_the_mask_of_a_folder_that_is_the_case_is_not_written_beside_it(tmp_path) -> None:
    layout = MirroredLayout(str(tmp_path), str(tmp_path / "series"))
    with pytest.raises(ConfigError, match="among the images"):
        layout.filename(tmp_path / "series")


def test_the_postfix_can_be_chosen(tmp_path) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), str(tmp_path), postfix="mask")
    assert Path(layout.filename(tmp_path / "x.nii")).name == "x_mask.nii.gz"


@pytest.mark.parametrize("case", ["elsewhere/x.nii.gz", "in2/x.nii.gz", "x.nii.gz"])
def test_a_case_outside_the_input_is_refused_and_makes_no_folder(tmp_path, case) -> None:
    layout = MirroredLayout(str(tmp_path / "out"), str(tmp_path / "in"))
    with pytest.raises(ConfigError, match="outside the input folder"):
        layout.filename(tmp_path / case)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/x.nii.gz", "x"),
        ("x.nii", "x"),
        ("x.y.NII.GZ", "x.y"),
        (f"a/{UID}", UID),
        ("a/x.gz", "x.gz"),
        ("a.nii.gz/series", "series"),
    ],
)
def test_a_case_is_named_after_its_file_or_folder(path, name) -> None:
    assert case_name(Path(path)) == name


def mask(source: Path) -> MetaTensor:
    array = torch.arange(24, dtype=torch.uint8).view(1, 2, 3, 4)
    return MetaTensor(array, affine=torch.from_numpy(AFFINE), meta={"filename_or_obj": str(source)})


def test_monai_saves_a_mask_in_its_place_in_the_tree(tmp_path) -> None:
    source = tmp_path / "in" / "a" / UID
    save = SaveImage(
        writer=WholeNiftiWriter,
        folder_layout=MirroredLayout(str(tmp_path / "out"), str(tmp_path / "in")),
        output_ext=".nii.gz",
        output_dtype=np.uint8,
        resample=False,
        print_log=False,
    )
    save(mask(source))
    (written,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == tmp_path / "out" / "a" / f"{UID}_seg.nii.gz"
    image = nib.load(written)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.arange(24).reshape(2, 3, 4))
    np.testing.assert_allclose(image.affine, AFFINE)


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 1, 1), (1, 1, 1), (1, 3, 4)])
def test_a_volume_of_one_slice_stays_a_volume(tmp_path, shape) -> None:
    made = WholeNiftiWriter(output_dtype=np.uint8)
    array = torch.arange(np.prod(shape), dtype=torch.uint8).view(1, *shape)
    made.set_data_array(array, channel_dim=0)
    made.set_metadata({"affine": torch.from_numpy(AFFINE)}, resample=False)
    made.write(tmp_path / "x.nii.gz")
    written = nib.load(tmp_path / "x.nii.gz")
    assert written.shape == shape
    np.testing.assert_array_equal(np.asarray(written.dataobj), array[0].numpy())
    np.testing.assert_allclose(written.affine, AFFINE)


SHEARED = AFFINE @ np.array([[1, 0.2, 0.3, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(("affine", "qform_code"), [(AFFINE, 1), (SHEARED, 0)])
def test_a_mask_is_read_where_its_image_lies_though_sheared(tmp_path, affine, qform_code) -> None:
    """A qform is a rotation: one that stood beside a sheared sform would contradict it."""
    made = WholeNiftiWriter(output_dtype=np.uint8)
    array = torch.arange(24 * 20 * 16).view(1, 24, 20, 16) % 2
    made.set_data_array(array, channel_dim=0)
    made.set_metadata({"affine": torch.from_numpy(affine)}, resample=False)
    made.write(tmp_path / "x.nii.gz")
    voxels, read = read_case(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(voxels, array[0].numpy())
    np.testing.assert_allclose(read, affine, atol=1e-5)
    assert nib.load(tmp_path / "x.nii.gz").header["qform_code"] == qform_code


def writer(source: Path) -> WholeNiftiWriter:
    made = WholeNiftiWriter(output_dtype=np.uint8)
    image = mask(source)
    made.set_data_array(image, channel_dim=0)
    made.set_metadata(image.meta, resample=False)
    return made


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nothing_but_the_mask_is_left_and_an_old_one_is_replaced(tmp_path, suffix) -> None:
    target = tmp_path / f"x{suffix}"
    target.write_bytes(b"old")
    writer(tmp_path / "x").write(target)
    assert list(tmp_path.iterdir()) == [target]
    assert nib.load(target).shape == (2, 3, 4)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_writer_that_fails_half_way_leaves_what_was_there(
    tmp_path, monkeypatch, error, old
) -> None:
    target = tmp_path / "x.nii.gz"
    if old is not None:
        target.write_bytes(old)
    begun = []

    def half(image: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        begun.append(Path(path))
        raise error

    monkeypatch.setattr(nib, "save", half)
    with pytest.raises(type(error)):
        writer(tmp_path / "x").write(target)
    assert [path.parent for path in begun] == [tmp_path]
    assert begun[0] != target
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


def photograph_mask(source: Path, dtype: torch.dtype = torch.float32) -> MetaTensor:
    labels = torch.from_numpy(scene()[None, ..., 0] % 3).to(dtype)
    return MetaTensor(labels, meta={"filename_or_obj": str(source)})


def save_image(tmp_path: Path) -> SaveImage:
    return SaveImage(
        writer=WholePngWriter,
        folder_layout=MirroredLayout(
            str(tmp_path / "out"), str(tmp_path / "in"), kind="photograph"
        ),
        output_ext=".png",
        output_dtype=np.uint8,
        resample=False,
        print_log=False,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_monai_saves_the_mask_of_a_photograph_on_its_stored_grid(
    tmp_path, suffix, orientation
) -> None:
    eye = save_photograph(tmp_path / "in" / "a" / f"eye.{suffix}", scene(), orientation)
    save_image(tmp_path)(photograph_mask(eye))
    (written,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == tmp_path / "out" / "a" / "eye_seg.png"
    np.testing.assert_array_equal(read_mask(written), scene()[..., 0] % 3)
    with Image.open(written) as mask:
        assert mask.mode == "L"
        assert mask.size == ((7, 13) if orientation > 4 else (13, 7))
        assert mask.getexif().get(274, 1) == orientation


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_class_indices_of_any_dtype_are_written_as_they_are(tmp_path, dtype) -> None:
    eye = save_photograph(tmp_path / "in" / "eye.png", scene())
    save_image(tmp_path)(photograph_mask(eye, dtype))
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "eye_seg.png"), scene()[..., 0] % 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (torch.full((1, 13, 7), 0.5), "class indices"),
        (torch.full((1, 13, 7), 256.0), "class indices"),
        (torch.full((1, 13, 7), -1), "class indices"),
        (torch.full((1, 13, 7), torch.nan), "class indices"),
        (torch.zeros(3, 13, 7), r"\(1, W, H\)"),
        (torch.zeros(1, 13, 7, 2), r"\(1, W, H\)"),
        (torch.zeros(1, 7, 13), r"got \(7, 13\); expected \(13, 7\)"),
    ],
)
def test_what_is_no_mask_of_the_photograph_is_not_written(tmp_path, array, message) -> None:
    eye = save_photograph(tmp_path / "eye.png", scene())
    made = WholePngWriter()
    with pytest.raises(DataError, match=message):
        _write(made, array, {"filename_or_obj": str(eye)}, tmp_path / "eye_seg.png")
    assert list(tmp_path.iterdir()) == [eye]


def test_a_mask_needs_its_photograph(tmp_path) -> None:
    with pytest.raises(DataError, match="without its photograph"):
        _write(WholePngWriter(), torch.zeros(1, 13, 7), {}, tmp_path / "eye_seg.png")
    with pytest.raises(ValueError, match="set_metadata"):
        WholePngWriter().write(tmp_path / "eye_seg.png")
    with pytest.raises(ValueError, match="resample=False"):
        WholePngWriter().set_metadata({"filename_or_obj": "eye.png"}, resample=True)


def _write(made: WholePngWriter, array: torch.Tensor, meta: dict[str, str], path: Path) -> None:
    made.set_data_array(array, channel_dim=0)
    made.set_metadata(meta, resample=False)
    made.write(path)
