"""The six-site prostate collection SAML: ``<site>/CaseNN.nii.gz`` with ``_segmentation`` beside.

Liu et al., "Shape-aware meta-learning", MICCAI 2020.
"""

from __future__ import annotations

from pathlib import Path

from dim_monai.data.kinds import VOLUME
from dim_monai.data.prepare.domains import belongs, canonical
from dim_monai.data.prepare.found import Found, FoundCase, note_once, read_pixels
from dim_monai.data.prepare.tree import Tree
from dim_monai.dicom.series import case_name, is_nifti
from dim_monai.errors import DataError

_MARK = "_segmentation"


def holds(tree: Tree) -> bool:
    """Whether a folder named as one of the six sites holds a ``_segmentation`` volume."""
    return tree.some(
        lambda path: is_nifti(path) and _is_label(path) and belongs(path.parent.name, "prostate")
    )


def find(tree: Tree) -> Found:
    """Return the volumes of the sites; one without a segmentation is unlabelled.

    Raises:
        DataError: a folder that is no site, a label without an image, two files of one name.
    """
    images: dict[tuple[str, str], Path] = {}
    labels: dict[tuple[str, str], Path] = {}
    for path in filter(is_nifti, tree.paths):
        file = tree.root / path
        domain = canonical(path.parent.name, "prostate", file=file.parent)
        name = case_name(path)
        label = _is_label(path)
        key = (domain, name[: -len(_MARK)] if label else name)
        note_once(labels if label else images, key, file)
    for key in sorted(labels.keys() - images.keys()):
        expected = f"{key[1]}.nii.gz beside it"
        raise DataError("label without image", file=labels[key], expected=expected)
    cases = [
        FoundCase(image, *key, read_pixels(VOLUME, image), labels.get(key))
        for key, image in sorted(images.items())
    ]
    return Found(tuple(cases), VOLUME)


def _is_label(path: Path) -> bool:
    return case_name(path).lower().endswith(_MARK)
