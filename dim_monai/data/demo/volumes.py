"""The demo set of volumes: 31 synthetic prostates, NIfTI of two sites and DICOM of a third."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dim_monai.data.demo.layout import DemoSet, Split, case_name
from dim_monai.data.phantom.prostate import SITES, make_phantom
from dim_monai.dicom.write import write_series

_VERSION = 2

_SPLIT: Split = {
    "labeled": {"site_a": 2},
    "unlabeled": {"site_a": 4, "site_b": 4, "site_c": 4},
    "validation": {"site_a": 2},
    "test": {"site_a": 5, "site_b": 5, "site_c": 5},
}


def _write_case(
    domain: str, number: int, seed: int, *, images: Path, labels: Path | None
) -> tuple[Path, Path | None]:
    site, case = SITES[domain], case_name(domain, number)
    phantom = make_phantom(site, number, seed)
    if site.file_format == "nifti":
        image = images / f"{case}.nii.gz"
        _write_nifti(image, phantom.image, phantom.affine_ras)
    else:
        image, uid = images / case, f"demo {_VERSION} {seed} {case}"
        write_series(image, phantom.image, phantom.affine_ras, modality="MR", seed_uid=uid)
    if labels is None:
        return image, None
    label = labels / f"{case}.nii.gz"
    _write_nifti(label, phantom.label, phantom.affine_ras)
    return image, label


def _write_nifti(path: Path, array: NDArray[Any], affine_ras: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine_ras)
    image.header.set_xyzt_units("mm")
    # Both forms, as a scanner's export has them: code 1 is "scanner anatomical".
    image.set_qform(affine_ras, code=1)
    image.set_sform(affine_ras, code=1)
    nib.save(image, path)


VOLUMES = DemoSet({"kind": "volume", "version": _VERSION}, _SPLIT, _write_case)
