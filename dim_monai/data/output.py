"""Masks out: where each goes, and whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from monai.data import FolderLayoutBase, NibabelWriter

from dim_monai.dicom.series import case_name
from dim_monai.errors import ConfigError


class MirroredLayout(FolderLayoutBase):
    """Mirror the input tree: ``IN/a/b/case.nii.gz`` becomes ``OUT/a/b/case_seg.nii.gz``.

    A DICOM series is a folder and is named after it: ``IN/a/series`` becomes
    ``OUT/a/series_seg.nii.gz``, dots in its name included (series folders are often named by their
    UID, of which MONAI's layout would take the last number for a suffix). If ``input_dir`` is
    itself the one case, the mask lies directly under ``OUT``.

    Args:
        output_dir: OUT; folders below it are made as needed.
        input_dir: IN.
        postfix: stands between name and suffix.

    Raises:
        ConfigError: a case does not lie below ``input_dir``.
    """

    def __init__(self, output_dir: str, input_dir: str, postfix: str = "seg") -> None:
        self.output_dir = Path(output_dir)
        # Cases come with absolute paths, the user's IN may be "images" or "~/images".
        self.input_dir = Path(os.path.abspath(Path(input_dir).expanduser()))
        self.postfix = postfix

    def filename(self, subject: Any = "subject", idx: Any = None, **kwargs: Any) -> str:
        """Return the path of the mask of the case at path ``subject``."""
        case = Path(str(subject))
        if case == self.input_dir:
            folder = self.output_dir
        elif self.input_dir in case.parents:
            folder = self.output_dir / case.parent.relative_to(self.input_dir)
        else:
            raise ConfigError(
                "case lies outside the input folder", got=case, expected=self.input_dir
            )
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{case_name(case)}_{self.postfix}.nii.gz")


class WholeNiftiWriter(NibabelWriter):
    """MONAI's NIfTI writer, which writes a file whole or not at all.

    The file is written under a hidden name in the same folder and renamed: a process that is
    killed leaves no half mask under the name of a case.
    """

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the current image to ``filename`` (.nii or .nii.gz)."""
        target = Path(filename)
        temporary = target.with_name(f".{secrets.token_hex(8)}.{target.name}")
        try:
            super().write(temporary, verbose=verbose, **kwargs)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
