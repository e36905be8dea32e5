"""The folders images and labels that do not fit together: all that is wrong, and what does fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dim_monai.data.checks.faults import Fault, no_labelled_case
from dim_monai.data.datalist_json import Entry, make_entry
from dim_monai.data.kinds import Kind
from dim_monai.data.prepare.plain import without_image
from dim_monai.errors import DataError


def pair_folders(root: Path, kind: Kind) -> tuple[Mapping[str, list[Entry]], list[Fault]]:
    """Return the cases of ``images``, each with its label of ``labels``, and what has no partner.

    Args:
        root: a folder that `open_datalist` refuses.
        kind: of its cases.
    """
    found: list[Fault] = []
    try:
        cases = kind.find(root / "images")
    except DataError as error:
        return {}, [Fault.of("D001", error, str(root))]
    images = _by_name(cases, root / "images", kind, found)
    files = _files(root / "labels")
    labels = _by_name(filter(kind.is_label, files), root / "labels", kind, found)
    names = {name.rpartition("/")[2] for name in images}
    for path in files:
        parts = path.relative_to(root / "labels").parts
        if not kind.is_label(path) and names & {*parts[:-1], path.stem}:
            what = "label in another format"
            found.append(Fault("D002", what, str(path), expected=kind.labels))
    for name, path in labels.items():
        if name not in images:
            missing = without_image(path, name, root / "images", images, kind)
            found.append(Fault.of("D008", missing, str(path)))
    lists: dict[str, list[Entry]] = {"labeled": [], "unlabeled": []}
    for name, path in sorted(images.items()):
        given = {"label": str(labels[name])} if name in labels else {}
        if domain := name.rpartition("/")[0]:
            given["domain"] = domain
        entry = make_entry(image=str(path), **given)
        lists["labeled" if name in labels else "unlabeled"].append(entry)
    if not lists["labeled"]:
        found.append(no_labelled_case())
    return lists, found


def _files(folder: Path) -> list[Path]:
    return sorted(
        Path(below, name)
        for below, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".")
    )


def _by_name(paths: Iterable[Path], tree: Path, kind: Kind, found: list[Fault]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = (path.parent.relative_to(tree) / kind.case_name(path)).as_posix()
        if (first := named.setdefault(name, path)) != path:
            found.append(Fault("D005", "two files for one case", str(path), got=f"also {first}"))
        if tree.name == "images" and name.count("/") > 1:
            what, expected = "image at the wrong depth", "images/case or images/domain/case"
            found.append(Fault("D002", what, str(path), expected=expected))
    return named
