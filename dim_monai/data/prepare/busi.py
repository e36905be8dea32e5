"""BUSI: breast ultrasound, each image with one mask or several (Al-Dhabyani et al., 2020)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dim_monai.data.kinds import PHOTOGRAPH
from dim_monai.data.photograph import is_photograph
from dim_monai.data.prepare import recode
from dim_monai.data.prepare.found import Found, FoundCase, note_once, read_pixels
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import DataError

TUMOUR_CODES = {0: 0, 1: 1, 255: 1}  # 1: the tumour in the masks of one bit
TEST_FRACTION = 0.2

_PLACE = re.compile(
    r"(?:Dataset_BUSI_with_GT/)?(?P<domain>benign|malignant)/"
    r"(?P<case>[^/]+?)(?P<mask>_mask(?:_\d+)?)?\.[^./]+"
)
_NORMAL = re.compile(r"(?:Dataset_BUSI_with_GT/)?normal/[^/]+")


def holds(tree: Tree) -> bool:
    """Whether the tree has a mask ``benign/x_mask.png`` or ``malignant/x_mask.png``."""
    return tree.some(lambda path: bool((found := _match(path)) and found["mask"]))


def find(tree: Tree) -> Found:
    """Return the images of the two tumour classes; several masks of one image are united.

    Raises:
        DataError: a mask without an image, or two images of one name.
    """
    images: dict[tuple[str, str], Path] = {}
    masks: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in tree.paths:
        if (match := _match(path)) is None:
            continue
        key, file = (match["domain"], match["case"]), tree.root / path
        if match["mask"]:
            masks[key].append(file)
        else:
            note_once(images, key, file)
    for key in sorted(masks.keys() - images.keys()):
        raise DataError(
            "label without image", file=masks[key][0], expected=f"an image {key[1]}.png beside it"
        )
    cases = [_case(image, *key, masks.get(key, [])) for key, image in sorted(images.items())]
    normal = sum(_NORMAL.fullmatch(path.as_posix()) is not None for path in tree.paths)
    notes = (f"left out: {normal} files of normal, which show no tumour",) if normal else ()
    return Found(tuple(cases), PHOTOGRAPH, notes)


def reference_split(cases: Sequence[FoundCase]) -> tuple[FoundCase, ...]:
    """Return the cases with the last fifth of each domain's sorted files as test.

    SynFoC (CVPR 2025, arXiv 2503.16997) publishes the sizes: 437 benign images give 87 for test,
    210 malignant ones 42.
    """
    parted: list[FoundCase] = []
    for domain in sorted({case.domain for case in cases}):
        own = sorted((c for c in cases if c.domain == domain), key=lambda c: c.image.name)
        first = len(own) - int(TEST_FRACTION * len(own))
        parted += [replace(case, part="train") for case in own[:first]]
        parted += [replace(case, part="test") for case in own[first:]]
    return tuple(parted)


def _match(path: Path) -> re.Match[str] | None:
    return _PLACE.fullmatch(path.as_posix()) if is_photograph(path) else None


def _case(image: Path, domain: str, name: str, masks: list[Path]) -> FoundCase:
    label = None
    if masks:
        label = recode.recoded(masks[0], partial(recode.union, masks, TUMOUR_CODES))
    return FoundCase(image, domain, name, read_pixels(PHOTOGRAPH, image), label)
