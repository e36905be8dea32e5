"""Which label of a DICOM tree belongs to which series, and DICOM SEG turned into NIfTI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib

from dim_monai.data.checks.grids import compare_grids
from dim_monai.data.kinds import VOLUME
from dim_monai.data.prepare.found import Recoded
from dim_monai.data.prepare.tree import Tree
from dim_monai.dicom.geometry import SeriesGeometry, SliceHeader, prove_geometry
from dim_monai.dicom.segmentation import (
    Segments,
    is_segmentation,
    read_segments,
    referenced_series,
)
from dim_monai.dicom.series import case_name, is_nifti
from dim_monai.errors import DataError

LABEL_WORDS = frozenset({"seg", "segmentation", "label", "labels", "lab", "mask", "gt"})
"""A NIfTI file in a DICOM tree is a label if one of these is a word of its name; else it is let be,
for it may as well be a converted image or a scribble."""


@dataclass(frozen=True)
class TreeSeries:
    """One series in one folder of a tree.

    Attributes:
        folder: where its files lie, absolute.
        headers: of its files, sorted by name.
        alone: whether no other series, of images or not, has files in the folder.
    """

    folder: Path
    headers: tuple[SliceHeader, ...]
    alone: bool

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.headers[0].series_uid

    @property
    def key(self) -> tuple[Path, str]:
        """What tells it from every other series of the tree: folder and UID."""
        return self.folder, self.uid


@dataclass(frozen=True)
class Labels:
    """The labels of a tree.

    Attributes:
        of: label of each series that has one, by its key.
        notes: what was let be, and what the values of a converted label mean.
    """

    of: dict[tuple[Path, str], Path | Recoded]
    notes: tuple[str, ...]


def find_labels(tree: Tree, series: Sequence[TreeSeries]) -> Labels:
    """Return the label of every series that has one.

    A DICOM SEG belongs to the series it names, a NIfTI file (`LABEL_WORDS`) to the one series in
    or below its own folder that has its grid.

    Raises:
        DataError: a label that cannot be read, belongs to no series or to several, or is the
            second one of its series.
    """
    found: dict[tuple[Path, str], Path | Recoded] = {}
    notes: list[str] = []
    for path in tree.paths:
        file = tree.root / path
        label: Path | Recoded = file
        if is_nifti(path):
            if not LABEL_WORDS & set(re.split(r"[\W_]+", case_name(path).lower())):
                notes.append(f"let be: {path.as_posix()}, whose name does not say label")
                continue
            owner = _owner_by_grid(file, series)
        elif is_segmentation(file):
            owner = _owner_by_uid(file, series)
            geometry = prove_geometry(owner.headers)
            notes.append(f"{path.as_posix()}: {_meanings(read_segments(file, geometry))}")
            label = Recoded(file, ".nii.gz", partial(_convert, file, geometry))
        else:
            continue
        if owner.key in found:
            raise DataError(
                "two labels of one series",
                file=file,
                got=f"another one of {owner.folder}",
                do="take one of them out of the folder",
            )
        found[owner.key] = label
    return Labels(found, tuple(notes))


def _owner_by_uid(file: Path, series: Sequence[TreeSeries]) -> TreeSeries:
    uid = referenced_series(file)
    return _only([one for one in series if one.uid == uid], file, "the series that it names")


def _owner_by_grid(file: Path, series: Sequence[TreeSeries]) -> TreeSeries:
    voxels, affine = VOLUME.read_label(file)
    owners = []
    for one in series:
        if file.parent in (one.folder, *one.folder.parents):
            grid = prove_geometry(one.headers)
            where = (str(one.folder), str(file))
            if not any(compare_grids(grid.shape, grid.affine_ras, voxels.shape, affine, *where)):
                owners.append(one)
    return _only(owners, file, "one series of its grid, in its folder or below")


def _only(owners: Sequence[TreeSeries], file: Path, expected: str) -> TreeSeries:
    if len(owners) == 1:
        return owners[0]
    raise DataError(
        "label of several series" if owners else "label without image",
        file=file,
        got=", ".join(str(one.folder) for one in owners) or None,
        expected=expected,
        do="put the label and its series into a folder of their own",
    )


def _meanings(segments: Segments) -> str:
    values = ", ".join(f"{number} {text}" for number, text in sorted(segments.meanings.items()))
    if not segments.overlap:
        return f"values {values}"
    return f"values {values}; {segments.overlap} voxels in several segments took the smallest"


def _convert(file: Path, geometry: SeriesGeometry, path: Path) -> None:
    label = read_segments(file, geometry).label
    image = nib.Nifti1Image(label, geometry.affine_ras)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
