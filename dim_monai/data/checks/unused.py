"""Labels and images that lie beside the cases and belong to none of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from dim_monai.data.checks.faults import Fault
from dim_monai.data.datalist import Entry
from dim_monai.data.kinds import Kind
from dim_monai.data.unread import unread_images
from dim_monai.errors import counted

LABEL_ENDINGS = ("_seg", "_segmentation", "_label", "_lab", "_mask")
"""How the name of a label ends, before the suffix, where it lies in one folder with its image."""


def unused_images(root: Path, entries: Sequence[Entry], kind: Kind) -> Iterator[Fault]:
    """Yield one remark for each folder with images in a format that is not read.

    Args:
        root: the folder in which the cases were sought.
        entries: all that were found.
        kind: of the cases.
    """
    images = [Path(entry["image"]) for entry in entries]
    for folder, paths in unread_images(root, images, kind).items():
        yield Fault(
            "R005",
            "images that are not used, because their format is not read",
            str(folder),
            got=f"{counted(len(paths), 'file')}, the first {paths[0].name}",
            expected=kind.files,
            do=f"convert them to {kind.convert_to}, or take them out",
        )


def unused_labels(
    entries: Sequence[Entry], kind: Kind, told: Collection[str] = ()
) -> Iterator[Fault]:
    """Yield one remark for each folder with label files that no case uses.

    Looked at are the folders of the labels in use, and of the images. Where a folder holds images
    too, a file is taken for a label by the end of its name. A label of an unlabelled case is the
    usual reason, and may be on purpose: it was kept back to be tested with, or not drawn.

    Args:
        entries: all cases of all lists.
        kind: of the cases.
        told: labels of which a fault tells already that they have no case.
    """
    images = {os.path.realpath(entry["image"]) for entry in entries}
    used = {os.path.realpath(entry["label"]) for entry in entries if "label" in entry}
    with_images = {Path(path).parent for path in images}
    unused: dict[Path, list[str]] = defaultdict(list)
    for folder in sorted(with_images | {Path(path).parent for path in used}):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            real = os.path.realpath(path)
            if not path.is_file() or not kind.is_label(path) or real in images | used:
                continue
            if str(path) in told:
                continue
            name = kind.case_name(path).lower()
            if folder not in with_images or name.endswith(LABEL_ENDINGS):
                unused[folder].append(path.name)
    for folder, names in unused.items():
        yield Fault(
            "R002",
            "labels that no case uses",
            str(folder),
            got=f"{len(names)}, the first {names[0]}",
            do="fine for cases that are unlabelled on purpose; else list them with their label",
        )
