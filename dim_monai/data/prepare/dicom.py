"""Any tree of DICOM files: one case a series, with NIfTI or DICOM SEG labels beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dim_monai.data.datalist import UNKNOWN_DOMAIN
from dim_monai.data.kinds import VOLUME
from dim_monai.data.prepare.dicom_labels import Labels, TreeSeries, find_labels
from dim_monai.data.prepare.found import Found, FoundCase
from dim_monai.data.prepare.tree import Tree
from dim_monai.dicom.geometry import SliceHeader, prove_geometry
from dim_monai.dicom.instance import read_pixels, sop_class
from dim_monai.dicom.origin import read_origin
from dim_monai.dicom.series import is_nifti, read_headers
from dim_monai.errors import DataError

_UID_TAIL = 8


def holds(tree: Tree) -> bool:
    """Whether the tree has a DICOM file, by its content."""
    return tree.some(lambda path: not is_nifti(path) and sop_class(tree.root / path) is not None)


def series_in(folder: Path) -> list[TreeSeries]:
    """Return the series of images directly in a folder; a DICOM SEG or a report is none.

    Raises:
        DataError: an instance cannot be read.
    """
    by_uid: defaultdict[str, list[SliceHeader]] = defaultdict(list)
    for header in read_headers(folder):
        by_uid[header.series_uid].append(header)
    alone = len(by_uid) == 1
    return [
        TreeSeries(folder, tuple(headers), alone)
        for _, headers in sorted(by_uid.items())
        if headers[0].rows is not None and headers[0].modality != "SEG"
    ]


def series_pixels(headers: Sequence[SliceHeader]) -> NDArray[np.float32]:
    """Return the voxels of one series, float32 (X, Y, Z), in modality units.

    Raises:
        DataError: as `dim_monai.dicom.series.read_series`.
    """
    geometry = prove_geometry(headers)
    slices = [read_pixels(headers[n].file, geometry.shape[:2]) for n in geometry.order]
    return np.stack(slices, axis=2)


def find(tree: Tree) -> Found:
    """Return every series of the tree, with the label that `find_labels` finds for it.

    The domain is the scanner, manufacturer and model; the patient is a pseudonym of PatientID.

    Raises:
        DataError: an instance that cannot be read, no image series, a label that belongs to no
            series or to several, two labels of one series.
    """
    series = _find_series(tree)
    if not series:
        raise DataError("no case found", file=tree.root, expected="DICOM images")
    labels = find_labels(tree, series)
    return Found(tuple(_case(one, tree, labels) for one in series), VOLUME, labels.notes)


def _find_series(tree: Tree) -> list[TreeSeries]:
    return [
        series
        for folder, files in sorted(tree.folders().items())
        if not all(is_nifti(path) for path in files)
        for series in series_in(tree.root / folder)
    ]


def _case(series: TreeSeries, tree: Tree, labels: Labels) -> FoundCase:
    files = tuple(header.file for header in series.headers)
    origin = read_origin(files[0])
    parts = series.folder.relative_to(tree.root).parts or (tree.root.name,)
    if not series.alone:
        parts = (*parts, series.uid[-_UID_TAIL:])
    return FoundCase(
        image=series.folder,
        domain=origin.scanner or UNKNOWN_DOMAIN,
        case="_".join(parts),
        pixels=partial(series_pixels, series.headers),
        label=labels.of.get(series.key),
        patient=origin.patient,
        files=files,
        shared=not series.alone,
    )
