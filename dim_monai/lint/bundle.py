"""The static check of a whole bundle: every fault in one run, and nothing of it is executed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dim_monai.errors import ConfigError, DataError
from dim_monai.lint.archives import check_archive, is_archive
from dim_monai.lint.config import check_config, modules_of
from dim_monai.lint.content import check_content
from dim_monai.lint.faults import Fault
from dim_monai.lint.ids import check_ids
from dim_monai.lint.metadata import METADATA, check_large_files, check_metadata
from dim_monai.lint.tree import SUFFIXES, Node, read_tree

SCHEMA = 1
"""Version of the JSON document; it grows when a key changes its meaning or goes away."""

MAX_CONFIGS = 200

BASES = ("train", "inference")
"""Names of configs that stand alone, as MONAI Label and the model zoo want them."""
MIDDLE = "evaluate"
"""Name of the overlay that other overlays may build on."""


@dataclass(frozen=True)
class Linted:
    """What the check of a bundle found.

    Attributes:
        path: the bundle.
        configs: the config files that were read.
        faults: why it should not be run; empty if nothing speaks against it.
    """

    path: Path
    configs: tuple[Path, ...]
    faults: tuple[Fault, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Return what `json.dump` takes: the document of ``dim-monai lint --json``."""
        return {
            "schema": SCHEMA,
            "path": str(self.path),
            "sound": self.is_sound,
            "configs": [str(file) for file in self.configs],
            "faults": [fault.as_dict() for fault in self.faults],
        }


def lint_bundle(path: Path, configs: Sequence[Path] = ()) -> Linted:
    """Check a bundle without evaluating, importing or loading anything of it.

    Ids are resolved in each config by itself or, for an overlay, on top of ``train`` or
    ``inference``, whichever it fits.

    Args:
        path: the folder of a bundle. Of a packed one only the names in the archive are checked.
        configs: if given, ids are resolved in this list of config files alone, as
            ``--config_file`` merges it. They may stand outside of the bundle.

    Raises:
        DataError: there is nothing at ``path``.
        ConfigError: one of ``configs`` is no config file.
    """
    if path.is_file() and is_archive(path):
        return Linted(path, (), tuple(check_archive(path)))
    if not path.is_dir():
        raise DataError("no bundle", file=path, expected="the folder of a bundle")
    chosen = [_chosen(path, config) for config in configs]
    faults: list[Fault] = []
    metadata = check_metadata(path, faults)
    files = list(dict.fromkeys([*_config_files(path), *chosen]))
    if len(files) > MAX_CONFIGS:
        expected = f"at most {MAX_CONFIGS}"
        faults.append(
            Fault("L075", "too many configs", path, got=f"{len(files)}", expected=expected)
        )
        files = files[:MAX_CONFIGS]
    trees = {file: tree for file in files if (tree := read_tree(file, faults)) is not None}
    modules = modules_of(trees.values(), faults)
    for tree in trees.values():
        faults += check_config(tree, modules)
    if chosen:
        faults += check_ids([trees[file] for file in chosen if file in trees], metadata)
    else:
        unread = {file.stem for file in files if file not in trees}
        for file in trees:
            if file.stem in BASES or not unread & {*BASES}:  # else nothing of it would resolve
                faults += _ids_of(file, path / METADATA.parent, trees, metadata)
    check_large_files(path, faults)
    faults += check_content(path)
    return Linted(path, tuple(files), tuple(dict.fromkeys(faults)))


def _chosen(bundle: Path, config: Path) -> Path:
    """Return a config file that is given by its path or by its name in the bundle."""
    inside = bundle / METADATA.parent / config
    file = inside if inside.is_file() else config
    if not file.is_file() or file.suffix.lower() not in SUFFIXES:
        raise ConfigError("no config file", file=config, expected=f"one of {', '.join(SUFFIXES)}")
    return file


def _config_files(bundle: Path) -> list[Path]:
    """Return the configs of a bundle, also those that are links within it."""
    root = Path(os.path.realpath(bundle))
    return sorted(
        file
        for file in (bundle / METADATA.parent).rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and Path(os.path.realpath(file)).is_relative_to(root)
        and file != bundle / METADATA
    )


def _ids_of(
    file: Path, folder: Path, trees: dict[Path, Node], metadata: Node | None
) -> list[Fault]:
    """Return what does not resolve because of a config, in the combination that leaves least."""
    fewest: list[Fault] | None = None
    for names in _combinations(file, [other for other in trees if other.parent == folder]):
        below = [trees[other] for other in names]
        known = set(check_ids(below, metadata))
        found = [f for f in check_ids([*below, trees[file]], metadata) if f not in known]
        if fewest is None or len(found) < len(fewest):
            fewest = found
        if not fewest:
            break
    return fewest or []


def _combinations(file: Path, others: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Yield the configs that may lie below ``file``."""
    yield ()
    if file.stem in BASES:
        return
    for below in (other for other in others if other.stem in BASES):
        yield (below,)
        for middle in (other for other in others if other.stem == MIDDLE and other != file):
            yield below, middle
