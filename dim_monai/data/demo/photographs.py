"""The demo set of photographs: 62 synthetic eyes in front of four cameras.

Most are squares around the disc, as data sets of the disc have them. The last test case of each
camera is a whole photograph, for the disc has to be found in those, too. One of the cameras stores
these on their side and says so by the EXIF orientation, as a camera does that is held upright.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from dim_monai.data.demo.layout import DemoSet, Split, case_name
from dim_monai.data.phantom.fundus import CAMERAS, Camera, Phantom, make_phantom
from dim_monai.data.photograph import write_mask

_VERSION = 1

_SPLIT: Split = {
    "labeled": {"camera_a": 8},
    "unlabeled": {"camera_a": 6, "camera_b": 8, "camera_c": 8, "camera_d": 8},
    "validation": {"camera_a": 4},
    "test": {"camera_a": 5, "camera_b": 5, "camera_c": 5, "camera_d": 5},
}

WHOLE = {camera: sum(counts.get(camera, 0) for counts in _SPLIT.values()) - 1 for camera in CAMERAS}
"""Number of each camera's last case, which is a whole photograph."""

_ON_ITS_SIDE = 6  # a viewer turns it by 90 degrees clockwise


def _write_case(
    domain: str, number: int, seed: int, *, images: Path, labels: Path | None
) -> tuple[Path, Path | None]:
    camera, case = CAMERAS[domain], case_name(domain, number)
    whole = number == WHOLE[domain]
    phantom = make_phantom(camera, number, seed, whole=whole)
    orientation = _ON_ITS_SIDE if whole and camera.turned else 1
    image = images / f"{case}{camera.suffix}"
    _write_photograph(image, phantom, camera, orientation)
    if labels is None:
        return image, None
    label = labels / f"{case}.png"
    label.parent.mkdir(parents=True, exist_ok=True)
    write_mask(label, phantom.label, orientation)
    return image, label


def _write_photograph(path: Path, phantom: Phantom, camera: Camera, orientation: int) -> None:
    image = Image.fromarray(np.ascontiguousarray(np.swapaxes(phantom.image, 0, 1)))
    options: dict[str, Any] = {}
    if orientation == _ON_ITS_SIDE:
        image = image.transpose(Image.Transpose.ROTATE_90)  # counter-clockwise
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    if camera.suffix == ".jpg":
        options["quality"] = camera.jpeg_quality
    elif camera.suffix == ".tif":
        options["compression"] = "tiff_adobe_deflate"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


PHOTOGRAPHS = DemoSet({"kind": "photograph", "version": _VERSION}, _SPLIT, _write_case)
