"""The demo set: 22 synthetic patients of three sites, laid out as a user would lay out real ones.

    folder/
      datalist.json          labeled, unlabeled, validation, test; paths relative to folder
      images/<site>/<case>   NIfTI files (site_a, site_b) and DICOM series folders (site_c)
      labels/site_a/         labels of the labelled and the validation cases, NIfTI
      test_images/<site>/    images only, so that it can be given to inference as it is
      test_labels/<site>/
      demo.json              version and seed; its presence says that the set is complete

Only site_a has labels to learn from. The test asks how well that carries over to the other sites.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dim_monai.data.datalist import DATALIST_NAME
from dim_monai.data.phantom import SITES, Phantom, Site, make_phantom
from dim_monai.dicom.write import write_series
from dim_monai.errors import ConfigError, DataError

VERSION = 1
"""Raised whenever the same seed would give other voxels or another layout."""

MARKER = "demo.json"

SPLIT: dict[str, dict[str, int]] = {
    "labeled": {"site_a": 2},
    "unlabeled": {"site_a": 4, "site_b": 4, "site_c": 4},
    "validation": {"site_a": 2},
    "test": {"site_a": 2, "site_b": 2, "site_c": 2},
}
"""Patients per list and site. Validation comes from the labelled site, as it would in practice."""

_LABELLED = ("labeled", "validation", "test")


def make_demo(folder: Path, seed: int = 0) -> Path:
    """Make sure that `folder` holds the complete demo set of this version and seed.

    The set is built beside `folder` and moved there in one step, so an interrupted call leaves
    nothing that looks like data. A complete set is left untouched. About 20 MB, a few seconds.

    Args:
        folder: a folder that does not exist yet, is empty, or holds this very set.
        seed: seed of all patients and scans, >= 0.

    Returns:
        `folder`.

    Raises:
        ConfigError: `seed` is negative.
        DataError: `folder` holds something else, such as the set of another seed.
    """
    folder = Path(folder)
    if seed < 0:
        raise ConfigError("negative seed of the demo set", got=seed, expected="0 or more")
    if _is_complete(folder, seed):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        partial = Path(scratch) / "demo"
        partial.mkdir()
        _write_set(partial, seed)
        if folder.is_dir():
            folder.rmdir()  # empty, as proved above; Windows does not rename onto a folder
        partial.rename(folder)
    return folder


def _is_complete(folder: Path, seed: int) -> bool:
    """True for this very set, False for a free place; anything else is the user's and refused."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = folder / MARKER
    found = marker.read_text(encoding="utf-8") if marker.is_file() else "no such set"
    if found != _marker_text(seed):
        raise DataError(
            "place of the demo set is taken",
            file=folder,
            got=found.strip(),
            expected=f"a new or empty folder, or {_marker_text(seed).strip()}",
            do="choose another folder, or remove this one",
        )
    return True


def _marker_text(seed: int) -> str:
    return json.dumps({"version": VERSION, "seed": seed}) + "\n"


def _write_set(folder: Path, seed: int) -> None:
    datalist: dict[str, list[dict[str, str]]] = {split: [] for split in SPLIT}
    next_case = dict.fromkeys(SITES, 0)
    for split, counts in SPLIT.items():
        for name, count in counts.items():
            for _ in range(count):
                entry = _write_case(folder, split, SITES[name], next_case[name], seed)
                datalist[split].append(entry)
                next_case[name] += 1
    (folder / DATALIST_NAME).write_text(json.dumps(datalist, indent=2) + "\n", encoding="utf-8")
    (folder / MARKER).write_text(_marker_text(seed), encoding="utf-8")


def _write_case(folder: Path, split: str, site: Site, number: int, seed: int) -> dict[str, str]:
    """Write one case and return its entry in the data list."""
    phantom = make_phantom(site, number, seed)
    case = f"{site.name}_{number:02d}"
    prefix = "test_" if split == "test" else ""
    image = _write_image(folder / f"{prefix}images" / site.name, case, phantom, site, seed)
    entry = {"image": image.relative_to(folder).as_posix()}
    if split in _LABELLED:
        label = folder / f"{prefix}labels" / site.name / f"{case}.nii.gz"
        _write_nifti(label, phantom.label, phantom.affine_ras)
        entry["label"] = label.relative_to(folder).as_posix()
    return entry | {"domain": site.name, "patient": case}


def _write_image(parent: Path, case: str, phantom: Phantom, site: Site, seed: int) -> Path:
    if site.file_format == "nifti":
        path = parent / f"{case}.nii.gz"
        _write_nifti(path, phantom.image, phantom.affine_ras)
        return path
    path = parent / case
    write_series(
        path,
        phantom.image,
        phantom.affine_ras,
        modality="MR",
        seed_uid=f"demo {VERSION} {seed} {case}",
    )
    return path


def _write_nifti(path: Path, array: NDArray[Any], affine_ras: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine_ras)
    image.header.set_xyzt_units("mm")
    # Both forms, as a scanner's export has them: code 1 is "scanner anatomical".
    image.set_qform(affine_ras, code=1)
    image.set_sform(affine_ras, code=1)
    nib.save(image, path)
