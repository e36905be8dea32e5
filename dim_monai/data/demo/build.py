"""Builds a demo set in one step, or not at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from dim_monai.data.datalist import DATALIST_NAME
from dim_monai.data.demo.layout import DemoSet, case_name
from dim_monai.data.demo.photographs import PHOTOGRAPHS
from dim_monai.data.demo.volumes import VOLUMES
from dim_monai.data.kinds import get_kind
from dim_monai.errors import ConfigError, DataError

MARKER = "demo.json"

DEMO_SETS: dict[str, DemoSet] = {"volume": VOLUMES, "photograph": PHOTOGRAPHS}
"""Kind of case -> its demo set."""

_LABELLED = ("labeled", "validation", "test")


def make_demo(folder: Path, seed: int = 0, kind: str = "volume") -> Path:
    """Make sure that `folder` holds the complete demo set of this kind, version and seed.

    The set is built beside `folder` and moved there in one step, so an interrupted call leaves
    nothing that looks like data. A complete set is left untouched. Either set takes about 20 MB;
    volumes take a few seconds, photographs about twenty.

    Args:
        folder: a folder that does not exist yet, is empty, or holds this very set.
        seed: seed of all patients and images, >= 0.
        kind: of its cases, "volume" (prostates) or "photograph" (fundi).

    Returns:
        `folder`.

    Raises:
        ConfigError: `seed` is negative, or there is no such `kind`.
        DataError: `folder` holds something else, such as the set of another seed.
    """
    folder = Path(folder)
    demo = DEMO_SETS[get_kind(kind).name]
    if seed < 0:
        raise ConfigError("negative seed of the demo set", got=seed, expected="0 or more")
    if _is_complete(folder, _marker_text(demo, seed)):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        partial = Path(scratch) / "demo"
        partial.mkdir()
        _write_set(partial, demo, seed)
        if folder.is_dir():
            folder.rmdir()  # empty, as proved above; Windows does not rename onto a folder
        partial.rename(folder)
    return folder


def _is_complete(folder: Path, expected: str) -> bool:
    """True for this very set, False for a free place; anything else is the user's and refused."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = folder / MARKER
    found = marker.read_text(encoding="utf-8") if marker.is_file() else "no such set"
    if found != expected:
        raise DataError(
            "place of the demo set is taken",
            file=folder,
            got=found.strip(),
            expected=f"a new or empty folder, or {expected.strip()}",
            do="choose another folder, or remove this one",
        )
    return True


def _marker_text(demo: DemoSet, seed: int) -> str:
    return json.dumps({**demo.identity, "seed": seed}) + "\n"


def _write_set(folder: Path, demo: DemoSet, seed: int) -> None:
    datalist: dict[str, list[dict[str, str]]] = {split: [] for split in demo.split}
    next_case = {domain: 0 for counts in demo.split.values() for domain in counts}
    for split, counts in demo.split.items():
        for domain, count in counts.items():
            for _ in range(count):
                entry = _write_entry(folder, demo, split, domain, next_case[domain], seed)
                datalist[split].append(entry)
                next_case[domain] += 1
    (folder / DATALIST_NAME).write_text(json.dumps(datalist, indent=2) + "\n", encoding="utf-8")
    (folder / MARKER).write_text(_marker_text(demo, seed), encoding="utf-8")


def _write_entry(
    folder: Path, demo: DemoSet, split: str, domain: str, number: int, seed: int
) -> dict[str, str]:
    """Write one case and return its entry in the data list."""
    prefix = "test_" if split == "test" else ""
    images, labels = (folder / f"{prefix}{name}" / domain for name in ("images", "labels"))
    image, label = demo.write_case(
        domain, number, seed, images=images, labels=labels if split in _LABELLED else None
    )
    entry = {"image": image.relative_to(folder).as_posix()}
    if label is not None:
        entry["label"] = label.relative_to(folder).as_posix()
    return entry | {"domain": domain, "patient": case_name(domain, number)}
