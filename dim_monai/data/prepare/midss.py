"""The PNG layouts of MiDSS: slices or photographs in train and test folders, masks in codes.

Folders and codes are those of the public code of MiDSS (Ma et al., CVPR 2024, arXiv 2404.08951).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from numpy.typing import NDArray

from dim_monai.data.kinds import PHOTOGRAPH
from dim_monai.data.photograph import is_photograph, read_mask, read_photograph
from dim_monai.data.prepare import recode
from dim_monai.data.prepare.domains import belongs, canonical
from dim_monai.data.prepare.found import Found, FoundCase, note_once
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import DataError

RIM, CUP = 1, 2

Place = tuple[str, str, str]
"""Domain, part, and name without suffix."""


@dataclass(frozen=True)
class Collection:
    """One of the three PNG layouts.

    Attributes:
        group: of its domains.
        folder: its usual name; the source may be this folder or the one that holds it.
        inner: folders between train or test and image or mask, with "/" at the end.
        decode: reads a mask as class indices.
        read: reads an image.
        numbered: whether names are ``volume_slice``, so that the patient is known.
        notes: what a reader of the results must know.
    """

    group: str
    folder: str
    inner: str
    decode: Callable[[Path], recode.Classes]
    read: Callable[[Path], NDArray[Any]]
    numbered: bool = False
    notes: tuple[str, ...] = ()

    def parts(self, path: Path) -> re.Match[str] | None:
        """Return domain, part, role and file of a relative path, None for any other path."""
        pattern = (
            rf"(?:{self.folder}/)?(?P<domain>[^/]+)/(?P<part>train|test)/{self.inner}"
            r"(?P<role>image|mask)/(?P<file>[^/]+)"
        )
        return re.fullmatch(pattern, path.as_posix())

    def holds(self, tree: Tree) -> bool:
        """Whether the tree has an image of the collection in its place."""

        def at_its_place(path: Path) -> bool:
            found = self.parts(path)
            return found is not None and belongs(found["domain"], self.group)

        return tree.some(at_its_place)

    def find(self, tree: Tree) -> Found:
        """Return the cases of the collection; every image has its mask in the mask folder.

        Raises:
            DataError: an unknown domain, an image in another format, an image without a mask or
                the reverse, a name without a volume number where names have one.
        """
        images, masks = self._by_place(tree)
        for place in sorted(images.keys() ^ masks.keys()):
            missing = "mask" if place in images else "image"
            raise DataError(
                f"{'image' if place in images else 'label'} without {missing}",
                file=images.get(place) or masks.get(place),
                expected=f"a file of the same name in the folder {missing}",
            )
        cases = [self._case(image, masks[place], *place) for place, image in sorted(images.items())]
        return Found(tuple(cases), PHOTOGRAPH, self.notes)

    def _by_place(self, tree: Tree) -> tuple[dict[Place, Path], dict[Place, Path]]:
        found: dict[str, dict[Place, Path]] = {"image": {}, "mask": {}}
        for path in tree.paths:
            match = self.parts(path)
            if match is None or not is_photograph(path):
                continue
            file = tree.root / path
            domain = canonical(match["domain"], self.group, file=file.parents[1])
            place = (domain, match["part"], path.stem)
            note_once(found[match["role"]], place, file)
        return found["image"], found["mask"]

    def _case(self, image: Path, mask: Path, domain: str, part: str, stem: str) -> FoundCase:
        patient = None
        if self.numbered:
            volume = re.fullmatch(r"(\w+)_\d+", stem)
            if volume is None:
                raise DataError(
                    "slice without the number of its volume",
                    file=image,
                    expected="a name such as 03_12.png: volume 03, slice 12",
                )
            patient = f"{domain}/{volume[1]}"
        return FoundCase(
            image=image,
            domain=domain,
            case=f"{part}_{stem}",  # train and test count their files from 0 each
            pixels=partial(self.read, image),
            label=recode.recoded(mask, partial(self.decode, mask)),
            patient=patient,
            part=cast(Literal["train", "test"], part),
        )


FUNDUS = Collection(
    group="fundus",
    folder="Fundus",
    inner="ROIs/",
    decode=partial(recode.grey, codes={0: CUP, 128: RIM, 255: 0}),
    read=read_photograph,
)
PROSTATE = Collection(
    group="prostate",
    folder="ProstateSlice",
    inner="",
    decode=partial(recode.grey, codes={0: 1, 255: 0}),
    read=read_mask,  # of grey slices, which are no colour photographs
    numbered=True,
)
MNMS = Collection(
    group="mnms",
    folder="mnms",
    inner="",
    decode=recode.channels,
    read=read_mask,
    notes=(
        "patients are not known in this layout: slices of one patient may stand on both sides of "
        "training and validation",
    ),
)
