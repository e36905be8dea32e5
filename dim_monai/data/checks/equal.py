"""One image under several names: harmless on one side of a split, worthless scores on two.

That an image has no likeness is told by its shape and a checksum, which cost nothing. Only images
that agree in both are read again, one by one, and compared by the `pixel_hash` by which a data list
is prepared.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.entries import SIDES
from dim_monai.data.checks.faults import Fault
from dim_monai.data.datalist import Entry
from dim_monai.data.kinds import Kind
from dim_monai.data.prepare.duplicates import pixel_hash

Read = tuple[Entry, CaseFacts]
"""A case that could be read, and what is told of it."""


def equal_images(cases: Sequence[Read], kind: Kind, *, remarks: bool = True) -> Iterator[Fault]:
    """Yield one fault or remark for each image that several files show, pixel for pixel.

    A fault if they stand on two sides of training, validation and test. Links to one file are one
    file, which is a matter of the list; images of one value show nobody.

    Args:
        cases: of any lists.
        kind: of the cases.
        remarks: False yields faults alone, and reads no image again that is on one side alone.

    Raises:
        DataError: an image can no longer be read.
    """
    for equal in _groups(cases, kind, sides=1 if remarks else 2):
        by_side: dict[str, Read] = {}
        for entry, facts in equal:
            by_side.setdefault(SIDES[facts.split], (entry, facts))
        named = list(by_side.values()) if len(by_side) > 1 else equal[:2]
        got = " and ".join(f"{entry['image']} ({facts.split})" for entry, facts in named)
        if len(equal) > len(named):
            got += f", {len(equal)} in all"
        (file, _) = named[1]
        if len(by_side) > 1:
            yield Fault(
                "D011",
                "equal images on both sides of a split",
                file["image"],
                got=got,
                expected="each image once, or all its copies in training, validation or test",
                do="keep one of them; dim-monai prepare takes equal images for one patient",
            )
        else:
            yield Fault(
                "R006",
                "equal images under several names",
                file["image"],
                got=got,
                do="keep one of them, unless it is to count several times",
            )


def _groups(cases: Sequence[Read], kind: Kind, sides: int) -> Iterator[list[Read]]:
    """Yield the cases of each image that there is several times, in their order.

    One that is found on fewer sides than ``sides`` is left out.
    """
    alike: defaultdict[tuple[object, ...], dict[str, Read]] = defaultdict(dict)
    for entry, facts in cases:
        key = (tuple(sorted(facts.shape)), facts.checksum)  # the shape as stored is not known
        alike[key].setdefault(os.path.realpath(entry["image"]), (entry, facts))
    for candidates in alike.values():
        if len(candidates) < 2 or _sides(candidates.values()) < sides:
            continue
        equal: defaultdict[str, list[Read]] = defaultdict(list)
        for entry, facts in candidates.values():
            digest = pixel_hash(kind.read_image(Path(entry["image"]))[0])
            if digest is not None:
                equal[digest].append((entry, facts))
        yield from (g for g in equal.values() if len(g) > 1 and _sides(g) >= sides)


def _sides(cases: Iterable[Read]) -> int:
    return len({SIDES[facts.split] for _, facts in cases})
