"""Where a bundle is, given its path or its name; some come with the package."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from dim_monai.errors import ConfigError

METADATA = Path("configs", "metadata.json")
"""The file that makes a folder a bundle."""
INFERENCE = Path("configs", "inference.yaml")

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = (_PACKAGE / "bundles", _PACKAGE.parent / "bundles")
"""Where bundles lie that come with the package: in an installed one, and in its repository."""


def find_bundle(given: str) -> Path:
    """Return the absolute folder of a bundle.

    Args:
        given: path of the folder; or the name of a bundle that comes with the package, which counts
            where there is no such folder.

    Raises:
        ConfigError: there is no such bundle, or it has no inference.
    """
    path = path_of(given)
    if not path.is_dir():
        names = shipped_bundles()
        close = get_close_matches(Path(given).name, names, n=1)
        raise ConfigError(
            "no such bundle",
            got=given,
            expected=f"the folder of a bundle, or one of {', '.join(names) or 'none'}",
            do=f"did you mean {close[0]}?" if close else None,
        )
    if not (path / METADATA).is_file():
        raise ConfigError("the folder is no bundle", file=path, expected=f"{METADATA} in it")
    if not (path / INFERENCE).is_file():
        raise ConfigError("the bundle has no inference", file=path, expected=f"{INFERENCE} in it")
    return path


def path_of(given: str) -> Path:
    """Return the absolute path that is meant: of the bundle of that name where there is no other.

    Args:
        given: a path; or the name of a bundle that comes with the package.
    """
    path = Path(given).expanduser().absolute()
    if path.exists() or given not in shipped_bundles():
        return path
    return next(folder / given for folder in SHIPPED if (folder / given / METADATA).is_file())


def shipped_bundles() -> list[str]:
    """Return the names of the bundles that come with the package, sorted."""
    found = {file.parents[1].name for folder in SHIPPED for file in folder.glob(f"*/{METADATA}")}
    return sorted(found)
