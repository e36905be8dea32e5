"""The one reader of a case: a NIfTI file, a folder with one DICOM series, or a photograph.

Whatever is in doubt is refused. Photographs themselves are read by `dim_monai.data.photograph`.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from dim_monai.data.photograph import is_photograph, read_mask, read_photograph
from dim_monai.dicom.series import is_nifti, read_series
from dim_monai.errors import DataError

PathLike: TypeAlias = str | os.PathLike[Any]

FORM_TOLERANCE = 0.5
"""How far apart qform and sform may place the same voxel, in voxels (the smallest edge). The qform
keeps its rotation as three float32 numbers, which near half a turn is exact to 7e-4 rad only: a
third of a voxel at the far edge of 512 voxels. An edited or registered form is off by far more."""

MIN_VOLUME_RATIO = 1e-3
"""Volume of a voxel over the product of its edges: 1 if they are perpendicular, 0 if it is flat."""

MAX_VOXELS = 2**31
"""Largest volume that is read: 2048 x 2048 x 512, and 8 GiB in float32."""

_AXES_ROUNDING = 1e-4
"""Greatest error of a direction cosine that is taken for rounding: 0.01 mm over 120 mm."""

_LAST_FORM_CODE = 5
_PART_BYTES = 2**20


def read_case(path: PathLike) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Returns the volume of one case and its affine, or refuses it.

    Args:
        path: a .nii or .nii.gz file, or a folder that directly holds one DICOM series. It may be an
            image or a label: integers come back exact up to 2**24.

    Returns:
        Voxels, float32 (X, Y, Z), with the axes in stored order; the affine, float64 (4, 4), voxel
        index to RAS mm.

    Raises:
        DataError: no such file, another kind of file, damage, more than one volume, voxels that are
            not finite real numbers, geometry that is missing, degenerate or contradictory.
    """
    path = Path(path)
    if path.is_dir():
        volume, affine, _ = read_series(path)
        return volume, affine
    if not path.is_file() or not is_nifti(path):
        raise DataError(
            "not a case",
            file=path,
            got="another kind of file" if path.exists() else "nothing at this path",
            expected="a .nii or .nii.gz file, or the folder of one DICOM series",
            do="check the path; for DICOM give the folder, not a file in it",
        )
    header, stored = _read_nifti(path)
    volume = _volume(path, header, stored)
    return volume, _affine(path, header, volume.shape)


class CaseReader(ImageReader):
    """Lets MONAI's `LoadImaged` read cases of both kinds by our rules, and by no others.

    `LoadImage` turns to its built-in readers when `read` of a given reader fails, and those accept
    what was refused for a reason (a missing slice, two stacked series, a photograph stored
    sideways). So `read` only keeps the path; whatever can be refused is refused by `get_data`,
    whose error ends the loading.

    Use: `LoadImaged(keys, reader="dim_monai.data.reader.CaseReader", ensure_channel_first=True)`.
    Photographs and their masks look alike by name, so they need two entries, the one for labels
    with `reader=CaseReader(mask=True)`.

    Args:
        mask: whether a photograph file is a mask. Volumes are read alike either way.
    """

    def __init__(self, mask: bool = False) -> None:
        super().__init__()
        self.mask = mask

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every path is a folder, or named .nii or .nii.gz or as a photograph."""
        return all(
            is_nifti(path) or is_photograph(path) or path.is_dir() for path in _paths(filename)
        )

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """Returns the paths for `get_data`; opens nothing.

        Raises:
            TypeError: options were given; there are none.
        """
        if kwargs:
            raise TypeError(f"CaseReader.read takes no options, got {sorted(kwargs)}")
        return _paths(data)

    def get_data(self, img: tuple[Path, ...]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Returns one case and the metadata that MONAI's transforms need.

        A volume is float32 (X, Y, Z) in RAS mm. A photograph is uint8 (W, H, 3), its mask uint8
        (W, H), both upright and with the identity as affine, in pixels. `LoadImage` converts to
        its `dtype`, which is float32 unless it is told otherwise.

        Raises:
            DataError: see `read_case`, `read_photograph` and `read_mask`; also if several paths
                were given as one case.
        """
        if len(img) != 1:
            raise DataError(
                "one case is one path",
                got=[str(path) for path in img],
                do="list each image as a case of its own",
            )
        (path,) = img
        if is_photograph(path) and not path.is_dir():
            pixels = read_mask(path) if self.mask else read_photograph(path)
            return pixels, _metadata(np.eye(4), pixels.shape[:2], -1 if pixels.ndim > 2 else None)
        volume, affine = self.read_volume(path)
        return volume, _metadata(_without_rounding(affine), volume.shape, None)

    def read_volume(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Returns what `read_case` does; a reader that knows more about its paths replaces it."""
        return read_case(path)


def _metadata(
    affine: NDArray[np.float64], spatial_shape: tuple[int, ...], channel_axis: int | None
) -> dict[str, Any]:
    no_channel = "no_channel"  # MONAI's word for it
    return {
        MetaKeys.AFFINE.value: affine,
        MetaKeys.ORIGINAL_AFFINE.value: affine.copy(),
        MetaKeys.SPATIAL_SHAPE.value: np.asarray(spatial_shape),
        MetaKeys.SPACE.value: SpaceKeys.RAS.value,
        MetaKeys.ORIGINAL_CHANNEL_DIM.value: no_channel if channel_axis is None else channel_axis,
    }


def _without_rounding(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the affine with exactly orthogonal axes, where they are so but for rounding.

    A NIfTI header holds float32, and MONAI's `Spacing` takes axes that are not orthogonal to 1e-8
    for sheared and begins its grid elsewhere: a series and its conversion to NIfTI, or an image
    and its label, would be resampled a quarter of a millimetre apart.
    """
    rotation = rotation_of(affine)
    if rotation is None:
        return affine
    exact = affine.copy()
    exact[:3, :3] = rotation * np.linalg.norm(affine[:3, :3], axis=0)
    return exact


def rotation_of(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Returns the directions of the axes, (3, 3), exactly orthogonal; None if they are sheared."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(axes)
    rotation: NDArray[np.float64] = left @ right
    return None if np.abs(rotation - axes).max() > _AXES_ROUNDING else rotation


def _paths(given: Sequence[PathLike] | PathLike) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | os.PathLike) else tuple(map(Path, given))


def _read_nifti(path: Path) -> tuple[Any, NDArray[Any]]:
    """Returns the header of a NIfTI-1 or NIfTI-2 file and its voxels as stored, (X, Y, Z)."""
    opened: Any = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as stream:
            header = _header(path, stream.read(nib.Nifti2Header.sizeof_hdr))
            shape, dtype, start = _layout(path, header)
            size = math.prod(shape) * dtype.itemsize
            stream.seek(start)
            raw = bytearray()  # grows with what is there, not with what the header promises
            while len(raw) < size and (part := stream.read(min(_PART_BYTES, size - len(raw)))):
                raw += part
            while stream.read(_PART_BYTES):  # the checksum of a .gz stands at its end
                pass
    except DataError:
        raise
    except Exception as error:  # damaged bytes make the parser raise almost anything
        raise _damaged(path, type(error).__name__) from error
    if len(raw) < size:
        raise _damaged(path, f"{len(raw)} of {size} bytes of voxels")
    return header, np.frombuffer(raw, dtype).reshape(shape, order="F")


def _header(path: Path, first: bytes) -> Any:
    """Returns the header as it stands.

    The checks that nibabel makes by default also mend: a voxel size of 0 becomes 1 mm, an unknown
    code of a form becomes "no form".
    """
    kinds: list[Any] = [nib.Nifti1Header, nib.Nifti2Header]
    for kind in kinds:
        if kind.may_contain_header(first):
            header = kind(first[: kind.sizeof_hdr], check=False)
            if header["magic"] == kind.pair_magic:
                raise _refused(path, "no voxels", "half of a .hdr/.img pair", "a single file")
            # Of NIfTI-2, what a transfer as text would change; some writers leave it 0.
            if "eol_check" in header and bytes(header["eol_check"]) not in (
                bytes(4),
                b"\r\n\x1a\n",
            ):
                raise _damaged(path, "line ends changed by a transfer as text")
            if (header["magic"], header["sizeof_hdr"]) == (kind.single_magic, kind.sizeof_hdr):
                return header
    raise _damaged(path, "no NIfTI header")


def _layout(path: Path, header: Any) -> tuple[tuple[int, int, int], np.dtype[Any], int]:
    """Returns shape and type of the voxels, and where the first one stands, from the header."""
    count, *sizes = (int(size) for size in header["dim"])
    shape = tuple(sizes[: max(count, 0)])
    if not 3 <= count <= 7 or min(shape) < 1 or max(shape[3:], default=1) > 1:
        raise _refused(path, "the wrong shape", shape, "one volume (X, Y, Z)")
    if math.prod(shape) > MAX_VOXELS:
        raise _refused(path, "too many voxels", shape, f"at most {MAX_VOXELS}")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise _refused(path, "no plain voxels", dtype, "integers or real numbers")
    start = float(header["vox_offset"])
    if not (header.single_vox_offset <= start < math.inf and start.is_integer()):
        got, least = f"vox_offset {start:g}", header.single_vox_offset
        raise _refused(path, "voxels at no place", got, f"a whole number from {least}")
    return (shape[0], shape[1], shape[2]), dtype, int(start)


def _volume(path: Path, header: Any, stored: NDArray[Any]) -> NDArray[np.float32]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    # 0 is "not scaled" by the standard, NaN by the habit of some writers.
    scaled = slope != 0 and not math.isnan(slope) and (slope, inter) != (1, 0)
    if scaled and not (math.isfinite(slope) and math.isfinite(inter)):
        raise _refused(path, "an unusable scaling", f"{slope} and {inter}", "two finite numbers")
    # What float32 cannot hold becomes infinite: refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float64) * slope + inter if scaled else stored
        volume = values.astype(np.float32)
    if not (finite := np.isfinite(volume)).all():
        bad = np.argwhere(~finite)
        got = f"{len(bad)} of {volume.size}, the first at index {tuple(bad[0].tolist())}"
        raise _refused(path, "voxels that are not finite", got, "finite voxels")
    return volume


def _affine(path: Path, header: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns the sform if it is set, else the qform; the two must agree, and one must be set."""
    unit = int(header["xyzt_units"]) % 8
    if unit not in (0, 2):  # not said, mm
        got = {1: "meter", 3: "micron"}.get(unit, f"code {unit}")
        raise _refused(path, "the wrong spatial unit", got, "mm")
    for code in ("sform_code", "qform_code"):
        if not 0 <= header[code] <= _LAST_FORM_CODE:
            raise _refused(path, f"an unknown {code}", header[code], f"0 to {_LAST_FORM_CODE}")
    sform, _ = header.get_sform(coded=True)
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # what the standard takes a missing handedness for
    try:
        with np.errstate(all="ignore"):  # an infinite voxel size is refused below
            qform, _ = header.get_qform(coded=True)
    except Exception as error:  # an impossible quaternion or a negative voxel size
        got, expected = "numbers that cannot be read as one", "a rotation and voxel sizes above 0"
        raise _refused(path, "an unusable qform", got, expected) from error
    forms = {"sform": sform, "qform": qform}
    forms = {name: form for name, form in forms.items() if form is not None}
    if not forms:
        raise _refused(path, "no geometry", "sform_code 0, qform_code 0", "a code above 0")
    for name, form in forms.items():
        _require_invertible(path, name, form)
    if len(forms) == 2:
        _require_agreement(path, sform, qform, shape)
    return np.asarray(next(iter(forms.values())), dtype=np.float64)


def _require_invertible(path: Path, name: str, affine: NDArray[np.float64]) -> None:
    with np.errstate(all="ignore"):  # numbers too large to be squared fail the comparison
        edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0.0
        is_usable = bool(volume > MIN_VOLUME_RATIO * edges_mm.prod() > 0)
    if not is_usable:
        raise _refused(path, f"an unusable {name}", affine.tolist(), "a finite, invertible affine")


def _require_agreement(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, ...]
) -> None:
    # Two affine maps differ most at a corner of the grid.
    last = np.subtract(shape, 1)
    corners = np.array([[*(last * corner), 1] for corner in np.ndindex(2, 2, 2)])
    with np.errstate(all="ignore"):  # as above
        apart_mm = float(np.linalg.norm(corners @ (sform - qform)[:3].T, axis=1).max())
        tolerance_mm = FORM_TOLERANCE * float(np.linalg.norm(sform[:3, :3], axis=0).min())
    if not apart_mm <= tolerance_mm:
        raise DataError(
            "NIfTI qform and sform contradict each other",
            file=path,
            got=f"the same voxel placed {apart_mm:.3f} mm apart",
            expected=f"at most {tolerance_mm:.3f} mm",
            do="keep the right one and set the code of the other to 0",
        )


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        "NIfTI file cannot be read",
        file=path,
        got=got,
        expected="a complete NIfTI file",
        do="copy or export the file again",
    )


def _refused(path: Path, what: str, got: object, expected: str) -> DataError:
    return DataError(
        f"NIfTI file has {what}",
        file=path,
        got=got,
        expected=expected,
        do="export or convert it again from its source",
    )
