"""The layouts that are understood: one table, and which of them a folder has."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dim_monai.data.prepare import (
    busi,
    decathlon,
    dicom,
    folder,
    midss,
    monailabel,
    nnunet,
    pairs,
    saml,
)
from dim_monai.data.prepare.found import Found, FoundCase
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import ConfigError, DataError


def _own_parts(cases: Sequence[FoundCase]) -> tuple[FoundCase, ...]:
    return tuple(cases)


@dataclass(frozen=True)
class Layout:
    """One way in which people keep images and labels.

    Attributes:
        name: what a user calls it.
        marker: what a folder is known by, in words.
        holds: whether a folder has the marker.
        find: returns its cases.
        reference_split: gives each case the part that the reference protocol gives it; None where
            that protocol knows no such layout.
    """

    name: str
    marker: str
    holds: Callable[[Tree], bool]
    find: Callable[[Tree], Found]
    reference_split: Callable[[Sequence[FoundCase]], tuple[FoundCase, ...]] | None = None


def _own_folder(tree: Tree) -> bool:
    # Two NIfTI labels in a DICOM tree look like a pair: where there is DICOM, only folders count.
    return folder.holds_folders(tree) or (pairs.holds(tree) and not dicom.holds(tree))


_PUBLIC = (
    Layout(
        "saml",
        "<site>/*_segmentation.nii.gz, the site one of the six",
        saml.holds,
        saml.find,
    ),
    Layout(
        "midss-prostate",
        "<site>/train/image/*.png, the site one of the six",
        midss.PROSTATE.holds,
        midss.PROSTATE.find,
        _own_parts,
    ),
    Layout(
        "midss-fundus",
        "Domain1/train/ROIs/image/*.png",
        midss.FUNDUS.holds,
        midss.FUNDUS.find,
        _own_parts,
    ),
    Layout(
        "midss-mnms",
        "vendorA/train/image/*.png",
        midss.MNMS.holds,
        midss.MNMS.find,
        _own_parts,
    ),
    Layout(
        "busi",
        "benign/*_mask.png or malignant/*_mask.png",
        busi.holds,
        busi.find,
        busi.reference_split,
    ),
    Layout("decathlon", "dataset.json", decathlon.holds, decathlon.find),
    Layout(
        "nnunet",
        "dataset.json, imagesTr/x_0000 with labelsTr/x",
        nnunet.holds,
        nnunet.find,
    ),
    Layout(
        "monailabel",
        "datastore_v2.json or labels/final, without images",
        monailabel.holds,
        monailabel.find,
    ),
)
_GENERAL = (
    Layout(
        "folder",
        "images and labels (or image and mask), or names such as x_t2 with x_seg",
        _own_folder,
        folder.find,
    ),
    Layout("dicom", "DICOM files", dicom.holds, dicom.find),
)

LAYOUTS = {layout.name: layout for layout in (*_PUBLIC, *_GENERAL)}
"""Every layout, by name."""


def get_layout(name: str) -> Layout:
    """Return the layout of that name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    if name not in LAYOUTS:
        close = difflib.get_close_matches(name, LAYOUTS, n=1)
        raise ConfigError(
            "unknown layout",
            got=repr(name),
            expected=f"one of {', '.join(LAYOUTS)}",
            do=f"did you mean {close[0]!r}?" if close else None,
        )
    return LAYOUTS[name]


def detect(tree: Tree) -> Layout:
    """Return the layout of a source folder, known by its marker.

    A public collection counts before a folder of one's own, and that before a tree of DICOM files,
    because the first may hold what marks the others.

    Raises:
        DataError: no layout has its marker in the folder, or several public ones have.
    """
    public = [layout for layout in _PUBLIC if layout.holds(tree)]
    if len(public) > 1:
        raise DataError(
            "ambiguous layout",
            file=tree.root,
            got=", ".join(f"{layout.name} ({layout.marker})" for layout in public),
            expected="one",
            do="say which with --layout, or give the folder of one data set",
        )
    found = public or [layout for layout in _GENERAL if layout.holds(tree)]
    if not found:
        markers = "; ".join(f"{layout.name}: {layout.marker}" for layout in LAYOUTS.values())
        raise DataError(
            "unknown layout",
            file=tree.root,
            got=f"{len(tree.paths)} files",
            expected=markers,
            do="rename the folders to images and labels, or say the layout with --layout",
        )
    return found[0]
