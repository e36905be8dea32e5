"""Which kind of case a data set holds, where nobody says it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from dim_monai.data.datalist import DATALIST_NAME, LISTS
from dim_monai.data.photograph import is_photograph
from dim_monai.dicom.series import is_nifti
from dim_monai.errors import ConfigError, DataError


def detect_kind(path: str | os.PathLike[str]) -> str:
    """Return "photograph" where the images of a data set are photographs, else "volume".

    Names decide, and nothing is opened but a data list: a photograph has the suffix of one, and
    anything else can only be a volume.

    Args:
        path: as `check_dataset` takes it.

    Raises:
        ConfigError: there are photographs and NIfTI files or DICOM folders side by side.
        DataError: there is nothing at ``path``.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise DataError("nothing to check", file=path, do="check the path")
    kinds = {
        "photograph" if is_photograph(image) else "volume"
        for image in _images(path)
        if is_photograph(image) or is_nifti(image) or not image.suffix or image.suffix == ".dcm"
    }
    if len(kinds) > 1:
        raise ConfigError(
            "photographs and volumes side by side",
            file=path,
            do="pass --kind volume or --kind photograph, or check one folder at a time",
        )
    return kinds.pop() if kinds else "volume"


def _images(path: Path) -> Iterator[Path]:
    if path.is_dir() and (path / DATALIST_NAME).is_file():
        path = path / DATALIST_NAME
    if path.suffix.lower() == ".json":
        yield from _listed(path)
    elif path.is_file():
        yield path
    else:
        root = path / "images" if (path / "images").is_dir() else path
        for folder, below, names in os.walk(root):
            below[:] = [name for name in below if not name.startswith(".")]
            yield from (Path(folder, name) for name in names if not name.startswith("."))


def _listed(path: Path) -> Iterator[Path]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # said by the check itself
    for name in LISTS if isinstance(document, dict) else ():
        entries = document.get(name)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("image"), str):
                yield Path(entry["image"])
