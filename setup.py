"""The bundles go into the wheel, below the package, so that an installed command finds them.

What else there is to say of the project stands in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHIPPED = ("configs/**/*", "docs/**/*", "models/pretrained.*", "LICENSE", "large_files.yml")
"""Of each bundle. Results and models/model.pt may be the user's own, and come from patients."""

WRITTEN = {"monailabel_train.json"}
"""What MONAI Label writes beside the configs."""


class BuildWithBundles(build_py):
    """Copies the bundles to ``dim_monai/bundles``; an editable install uses them where they lie."""

    def run(self) -> None:
        """Build the package, then add the bundles."""
        super().run()
        if self.editable_mode:
            return
        for source in bundle_files():
            target = Path(self.build_lib, "dim_monai", source.relative_to(HERE))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def bundle_files() -> list[Path]:
    """Return the files of the bundles that are shipped, sorted."""
    bundles = [path.parents[1] for path in HERE.glob("bundles/*/configs/metadata.json")]
    found = {f for bundle in bundles for pattern in SHIPPED for f in bundle.glob(pattern)}
    return sorted(file for file in found if file.is_file() and file.name not in WRITTEN)


setup(cmdclass={"build_py": BuildWithBundles})
