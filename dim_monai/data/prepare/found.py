"""What a layout finds: cases, with their labels and what the layout knows of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from dim_monai.data.kinds import PHOTOGRAPH, VOLUME, Kind
from dim_monai.data.photograph import is_photograph
from dim_monai.dicom.series import is_nifti
from dim_monai.errors import DataError

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Recoded:
    """A label in a code of its layout, to be written anew with one class index a pixel or voxel.

    Attributes:
        source: the file that holds it, for messages.
        suffix: of the file to write: ".png" or ".nii.gz".
        write: writes that file; the same source gives the same bytes.
    """

    source: Path
    suffix: str
    write: Callable[[Path], None]


@dataclass(frozen=True)
class FoundCase:
    """One image of a source folder.

    Attributes:
        image: what a data list names: a file, or the folder of one DICOM series.
        domain: its site, scanner or camera.
        case: its name, unique in its domain.
        pixels: reads the image, in the order of its file.
        label: a label file that can be used as it is, one to be recoded, or None.
        patient: who it shows, None where the layout does not tell.
        part: "train" or "test" where the layout has such folders.
        files: the files of the image, sorted by name; empty means ``image`` alone.
        shared: whether ``image`` is a folder with files of other cases, too.
    """

    image: Path
    domain: str
    case: str
    pixels: Callable[[], NDArray[Any]]
    label: Path | Recoded | None = None
    patient: str | None = None
    part: Literal["train", "test"] | None = None
    files: tuple[Path, ...] = ()
    shared: bool = False

    @property
    def name(self) -> str:
        """The name of the case in the data set."""
        return f"{self.domain}/{self.case}"


@dataclass(frozen=True)
class Found:
    """What one layout finds in a source folder.

    Attributes:
        cases: the images, at least one.
        kind: what they are.
        notes: what a reader of the results must know about the layout.
    """

    cases: tuple[FoundCase, ...]
    kind: Kind
    notes: tuple[str, ...] = ()


def kind_of_file(path: Path) -> Kind | None:
    """Return the kind that a file can be an image of by its name, or None."""
    if is_nifti(path):
        return VOLUME
    return PHOTOGRAPH if is_photograph(path) else None


def only_kind(kinds: Iterable[Kind], root: Path) -> Kind:
    """Return the one kind of all images of a source folder.

    Raises:
        DataError: there is no image, or there are volumes and photographs.
    """
    found = {kind.name: kind for kind in kinds}
    if len(found) == 1:
        return next(iter(found.values()))
    raise DataError(
        "volumes and photographs in one data set" if found else "no case found",
        file=root,
        got=" and ".join(sorted(found)) or "no image",
        expected=f"{VOLUME.files}; or {PHOTOGRAPH.files}",
        do="give a folder of its own to each" if found else "check the path",
    )


def note_once(files: dict[Name, Path], name: Name, file: Path, root: Path = Path()) -> None:
    """Note the file of a case by its name.

    Args:
        files: noted so far.
        name: of the case, as the layout tells its cases apart.
        file: below ``root``, as the others.
        root: the source folder where the files are relative to it.

    Raises:
        DataError: another file has that name.
    """
    if (first := files.setdefault(name, file)) != file:
        raise DataError("two files for one case", file=root / file, got=f"also {first}")


def read_pixels(kind: Kind, path: Path) -> Callable[[], NDArray[Any]]:
    """Return what reads the image at ``path`` when it is called."""
    return lambda: kind.read_image(path)[0]
