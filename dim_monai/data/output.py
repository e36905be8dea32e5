"""Masks out: where each goes, and whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import NdarrayOrTensor
from monai.data import FolderLayoutBase, ImageWriter, NibabelWriter
from monai.utils import ImageMetaKey, convert_to_numpy
from numpy.typing import NDArray

from dim_monai.data.kinds import Kind, get_kind
from dim_monai.data.photograph import read_header, write_mask
from dim_monai.data.reader import rotation_of
from dim_monai.errors import ConfigError, DataError
from dim_monai.files import absolute

UNCERTAINTY = "uncertainty"
"""What the name of an uncertainty map ends with, as that of a mask with ``seg``."""


class MirroredLayout(FolderLayoutBase):
    """Mirror the input tree: ``IN/a/b/case.nii.gz`` becomes ``OUT/a/b/case_seg.nii.gz``.

    A DICOM series is a folder and is named after it: ``IN/a/series`` becomes
    ``OUT/a/series_seg.nii.gz``, dots in its name included (series folders are often named by their
    UID, of which MONAI's layout would take the last number for a suffix). Of a photograph
    ``IN/a/eye.jpg`` it is ``OUT/a/eye_seg.png``. If ``input_dir`` is itself the one case, the mask
    lies directly under ``OUT``.

    Args:
        output_dir: OUT; folders below it are made as needed.
        input_dir: IN.
        postfix: stands between name and suffix.
        kind: of the cases, ``"volume"`` or ``"photograph"``; gives name and suffix.

    Raises:
        ConfigError: there is no such kind, a case does not lie below ``input_dir``, or its mask
            would lie beside it, or beside another one as IN holds a folder of the name that IN has
            below OUT: what is called like a mask there may be a person's work.
    """

    def __init__(
        self, output_dir: str, input_dir: str, postfix: str = "seg", *, kind: str = "volume"
    ) -> None:
        self.output_dir = Path(output_dir)
        # Cases come with absolute paths, the user's IN may be "images" or "~/images".
        self.input_dir = absolute(input_dir)
        self.postfix = postfix
        self.kind = get_kind(kind)
        require_apart(self.output_dir, self.input_dir)
        # Masks of OUT/a/a lie in OUT/a, which is IN.
        masks, images = self.output_dir.expanduser().resolve(), self.input_dir.resolve()
        if masks in images.parents and (images / images.relative_to(masks)).is_dir():
            raise _among_images(self.output_dir)

    def filename(self, subject: Any = "subject", idx: Any = None, **kwargs: Any) -> str:
        """Return the path of the mask of the case at path ``subject``, whose folder is made."""
        path = self.place(subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def place(self, subject: Any) -> Path:
        """Return the path of the mask of the case at path ``subject``; nothing is made."""
        case = Path(str(subject))
        path = self.output_dir / mirrored(case, self.input_dir, self.kind)
        require_apart(path.parent, case.parent)
        return path.with_name(f"{path.name}_{self.postfix}{self.kind.mask_suffix}")


def mirrored(case: Path, input_dir: Path, kind: Kind) -> Path:
    """Return what the mask of a case is called below the output folder, without its ending.

    Raises:
        ConfigError: the case does not lie below ``input_dir``.
    """
    if case == input_dir:
        return Path(kind.case_name(case))
    if input_dir not in case.parents:
        raise ConfigError("case lies outside the input folder", got=case, expected=input_dir)
    return case.parent.relative_to(input_dir) / kind.case_name(case)


def require_apart(masks: Path, images: Path) -> None:
    """Refuse to write among images: what is called like a mask there may be a person's work.

    Args:
        masks: a folder.
        images: a folder, or an image in it.

    Raises:
        ConfigError: both are one folder.
    """
    folder = images.parent if images.is_file() else images
    if masks.expanduser().resolve() == folder.resolve():
        raise _among_images(masks)


def _among_images(masks: Path) -> ConfigError:
    return ConfigError(
        "the masks would lie among the images",
        file=masks,
        do="name another output folder; one below the input is fine",
    )


class WholeNiftiWriter(NibabelWriter):
    """MONAI's NIfTI writer, which writes a file whole or not at all.

    The file is written under a hidden name in the same folder and renamed: a process that is
    killed leaves no half mask under the name of a case. A volume of one slice stays a volume, of
    which MONAI's writer would make a picture that is not on the grid of its image. A sheared affine
    is written as sform alone: MONAI's writer sets a qform, too, which is a rotation and so places
    the mask elsewhere.
    """

    def set_data_array(
        self,
        data_array: NdarrayOrTensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        **kwargs: Any,
    ) -> None:
        """Take the mask, (1, X, Y, Z); whatever is asked, its channel alone is squeezed."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        self.data_obj = self.data_obj[..., 0]  # the channel, which is last now

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the current image to ``filename`` (.nii or .nii.gz)."""
        target = Path(filename)
        temporary = target.with_name(f".{secrets.token_hex(8)}.{target.name}")
        try:
            super().write(temporary, verbose=verbose, **kwargs)
            image: Any = self.data_obj  # the NIfTI image that MONAI has made of it
            if rotation_of(image.affine) is None:
                image.set_qform(None, code=0)
                nib.save(image, temporary)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


class WholePngWriter(ImageWriter):
    """Writes the class index of every pixel of a photograph as PNG, whole or not at all.

    MONAI's ``PILWriter`` scales values to 0..255 and knows nothing of EXIF. Here a pixel holds its
    class index, and the mask lies on the stored grid of its photograph and carries the same EXIF
    orientation: both as arrays and as displayed, the two agree.

    Use: ``SaveImaged(keys, writer="dim_monai.data.output.WholePngWriter", resample=False, ...)``.
    """

    def __init__(self, **kwargs: Any) -> None:
        # SaveImage passes an output_dtype and a scale: a class index has one dtype and no scale.
        super().__init__()  # type: ignore[no-untyped-call]
        self.mask: NDArray[np.uint8] | None = None
        self.photograph: Path | None = None

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, **kwargs: Any
    ) -> None:
        """Take the mask, (1, W, H), class indices of any dtype.

        Raises:
            DataError: it has several channels, or is no mask of class indices 0..255.
        """
        array = convert_to_numpy(data_array)
        if array.ndim != 3 or array.shape[0] != 1 or channel_dim != 0:
            raise DataError("not a mask to write", got=array.shape, expected="(1, W, H)")
        with np.errstate(invalid="ignore"):  # of NaN, which the comparison refuses
            mask = array[0].astype(np.uint8)
        if not np.array_equal(mask, array[0]):
            raise DataError("not a mask to write", expected="class indices 0 to 255")
        self.mask = mask

    def set_metadata(self, meta_dict: Mapping[Any, Any] | None, **options: Any) -> None:
        """Take the path of the photograph, on whose grid the mask is to be written.

        Raises:
            DataError: the metadata does not say from which file the mask comes.
            ValueError: SaveImage was told to resample, and here is nothing to resample to.
        """
        if options.get("resample"):
            raise ValueError("a mask is written as it is: pass resample=False to SaveImage")
        file = (meta_dict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        if file is None:
            raise DataError("mask without its photograph", do="keep the metadata of the image")
        self.photograph = Path(str(file))

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the mask to ``filename`` (.png).

        Raises:
            DataError: the mask is not as large as the photograph, or the photograph is gone.
        """
        super().write(filename, verbose=verbose)
        if self.mask is None or self.photograph is None:
            raise ValueError("set_data_array and set_metadata come before write")
        width, height, orientation = read_header(self.photograph)
        if self.mask.shape != (width, height):
            raise DataError(
                "mask does not fit its photograph",
                file=self.photograph,
                got=self.mask.shape,
                expected=(width, height),
                do="bring the prediction back to the photograph with Invertd",
            )
        write_mask(filename, self.mask, orientation)
