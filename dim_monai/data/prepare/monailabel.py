"""The studies folder of a MONAI Label server: finished labels are in ``labels/final``."""

from __future__ import annotations

from pathlib import Path

from dim_monai.data.datalist import UNKNOWN_DOMAIN
from dim_monai.data.prepare.found import (
    Found,
    FoundCase,
    kind_of_file,
    note_once,
    only_kind,
    read_pixels,
)
from dim_monai.data.prepare.tree import Tree
from dim_monai.errors import DataError

FINAL = Path("labels", "final")
_DATASTORES = (Path("datastore_v2.json"), Path("datastore.json"))


def holds(tree: Tree) -> bool:
    """Whether there are finished labels, or the server's own list of the folder."""
    final = tree.some(lambda path: FINAL in path.parents)
    plain = tree.some(lambda path: path.parts[0] == "images")
    return any(path in tree.paths for path in _DATASTORES) or (final and not plain)


def find(tree: Tree) -> Found:
    """Return the images of the studies; those without a finished label are unlabelled.

    What stands in ``labels`` but not in ``labels/final`` was proposed by a network and is let be.

    Raises:
        DataError: no case, volumes and photographs together, a label without an image, two files
            for one case.
    """
    paths = [path for path in tree.paths if kind_of_file(path) is not None]
    images = [path for path in paths if path.parts[0] != FINAL.parts[0]]
    finals = [path for path in paths if FINAL in path.parents]
    kind = only_kind((k for path in images if (k := kind_of_file(path))), tree.root)

    def by_name(files: list[Path], top: Path) -> dict[str, Path]:
        named: dict[str, Path] = {}
        for path in files:
            parts = (*path.parent.relative_to(top).parts, kind.case_name(path))
            note_once(named, "_".join(parts), tree.root / path)
        return named

    image_of, label_of = by_name(images, Path()), by_name(finals, FINAL)
    for name in sorted(label_of.keys() - image_of.keys()):
        raise DataError("label without image", file=label_of[name], expected=f"an image {name}")
    cases = [
        FoundCase(image, UNKNOWN_DOMAIN, name, read_pixels(kind, image), label_of.get(name))
        for name, image in sorted(image_of.items())
    ]
    return Found(tuple(cases), kind)
