"""What a folder holds for a bundle: the cases that it segments, and what it leaves and why.

Nothing is passed over in silence: every file below the folder belongs to a case, to something that
was skipped by a stated rule, or to something that should have been a case and cannot be one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dim_monai.data.kinds import MASK_NAMES, VOLUME, Kind
from dim_monai.data.output import UNCERTAINTY, mirrored
from dim_monai.data.photograph import is_photograph
from dim_monai.dicom.geometry import SliceHeader
from dim_monai.dicom.instance import damaged, read_header, sop_class
from dim_monai.dicom.series import MASK_SUFFIXES, is_nifti, read_headers
from dim_monai.errors import DataError
from dim_monai.files import absolute
from dim_monai.predict.mask_like import reason_to_skip_file
from dim_monai.predict.rules import SINGLE_IMAGE, SeriesRules, is_images, reason_to_skip
from dim_monai.predict.series import VolumeSeries, prove_series, pseudonym

_NAMED = 3
"""Of many folders a message names so many."""


@dataclass(frozen=True)
class Case:
    """One image to segment.

    Attributes:
        image: its file or the folder of its series, absolute; of a series that shares its folder
            with others, the folder and ``series-<digits>`` (`pseudonym`). Names the mask.
        name: the same from the input folder, for logs and reports.
        series: where it is a DICOM series.
    """

    image: Path
    name: str
    series: VolumeSeries | None = None


@dataclass(frozen=True)
class Skipped:
    """What is no case, by a stated rule."""

    name: str
    reason: str


@dataclass(frozen=True)
class Refused:
    """What should be a case and cannot be read as one.

    Attributes:
        name: from the input folder.
        error: why.
        image: as `Case.image`, where a mask of an earlier run can only be one of this case.
    """

    name: str
    error: DataError | OSError
    image: Path | None = None


@dataclass
class Found:
    """What there is below a folder.

    Attributes:
        root: the folder, or the one file; absolute.
        cases: sorted by path.
        skipped: and why.
        refused: and why.
    """

    root: Path
    cases: list[Case] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def root_of(given: Path) -> Path:
    """Return what masks are named from: the folder, the one image, or the folder of a series.

    Raises:
        DataError: there is nothing at ``given``.
    """
    root = absolute(given)
    if not root.exists():
        raise DataError("no such file or folder", file=root, do="check the path")
    return root if root.is_dir() or is_nifti(root) or is_photograph(root) else root.parent


def find_cases(
    given: Path,
    kind: Kind,
    rules: SeriesRules,
    *,
    leave_out: Path | None = None,
    allow_missing_slices: bool = False,
) -> Found:
    """Return every case at or below a path, what is skipped, and what is refused.

    Args:
        given: one NIfTI file or photograph; one file of a DICOM series, which stands for the series
            in its folder; or a folder.
        kind: of the cases.
        rules: which series of a tree are segmented. A series that is itself ``given``, by one of
            its files or as a folder that holds nothing else, only has to be a volume.
        leave_out: a folder below ``given`` that is not looked into: that of the results.
        allow_missing_slices: see `dim_monai.predict.series.prove_series`.

    Raises:
        DataError: there is nothing at ``given``.
    """
    root = root_of(given)
    file = absolute(given)
    search = _Search(Found(root), kind, rules, allow_missing_slices)
    if file.is_dir():
        search.walk(None if leave_out is None else absolute(leave_out))
    elif (is_nifti if kind is VOLUME else is_photograph)(file):
        search.found.cases.append(Case(file, file.name))
    elif kind is VOLUME and root != file and sop_class(file) is not None:
        search.take_series(root, only=read_header(file).series_uid, named=True)
    else:
        raise DataError("not a case", file=file, expected=kind.files)
    search.refuse_repeated()
    search.found.cases.sort(key=lambda case: case.image)
    return search.found


@dataclass
class _Search:
    found: Found
    kind: Kind
    rules: SeriesRules
    allow_missing_slices: bool
    taken: defaultdict[str, list[Case]] = field(default_factory=lambda: defaultdict(list))
    """The series that are cases, by UID."""
    apart: defaultdict[str, list[tuple[Path, Sequence[SliceHeader]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """What is no volume or no sound one, by the UID of its series: it may be part of a case."""

    def walk(self, leave_out: Path | None) -> None:
        """Look through the folder."""
        for folder, files in self._folders(leave_out):
            if self.kind is VOLUME:
                others = self._take_files(files, is_nifti, MASK_SUFFIXES)
                self._take_dicom(folder, others)
            else:
                others = self._take_files(files, is_photograph, MASK_NAMES)
                self._skip_others(folder, others, "no photograph")

    def take_series(self, folder: Path, only: str | None = None, *, named: bool = False) -> None:
        """Take the DICOM series of one folder, or the one of a UID.

        A series that the user named, alone, is taken whatever was scanned.
        """
        by_uid: defaultdict[str, list[SliceHeader]] = defaultdict(list)
        for header in read_headers(folder):
            by_uid[header.series_uid].append(header)
        images = sum(is_images(headers) for headers in by_uid.values())
        for uid, headers in sorted(by_uid.items()):
            alone = len(by_uid) == 1 or (images == 1 and is_images(headers))
            image = folder if alone else folder / f"series-{pseudonym(uid)}"
            if only in (None, uid):
                chosen = named and (only == uid or images == 1)
                self._take_one(headers, image, folder, SeriesRules() if chosen else self.rules)

    def refuse_repeated(self) -> None:
        """Take out what would be segmented twice, or in parts, or written to one mask."""
        for uid, parts in self.taken.items():
            self._refuse_parts(parts)
            self._refuse_without(parts, self.apart[uid])
        for uid, apart in self.apart.items():
            if uid not in self.taken:
                self._refuse_scattered(apart)
        masks: dict[Path, Case] = {}
        for case in sorted(self.found.cases, key=lambda case: case.image):
            first = masks.setdefault(mirrored(case.image, self.found.root, self.kind), case)
            if first is not case:
                error = DataError(
                    "two cases of one name", file=case.image, got=f"also {first.image}",
                    do="rename one of them",
                )  # fmt: skip
                self._refuse(case, error)

    def _take_one(
        self, headers: Sequence[SliceHeader], image: Path, folder: Path, rules: SeriesRules
    ) -> None:
        name = _counted(self._name(image), headers)
        try:
            if reason := reason_to_skip(headers, rules):
                self.found.skipped.append(Skipped(name, reason))
                if reason == SINGLE_IMAGE:
                    self.apart[headers[0].series_uid].append((image, headers))
                return
            series = prove_series(folder, headers, allow_missing_slices=self.allow_missing_slices)
        except (DataError, OSError) as error:
            self.found.refused.append(Refused(self._name(image), error, image))
            self.apart[headers[0].series_uid].append((image, headers))
            return
        case = Case(image, self._name(image), series)
        self.found.cases.append(case)
        self.taken[headers[0].series_uid].append(case)

    def _take_files(
        self, files: Sequence[Path], is_case: Callable[[Path], bool], masks: tuple[str, ...]
    ) -> list[Path]:
        """Take the files that are cases by themselves; return the others."""
        others = []
        for path in files:
            if not is_case(path):
                others.append(path)
            elif self.kind.case_name(path).lower().endswith(masks):
                self.found.skipped.append(Skipped(self._name(path), "named as a mask"))
            elif self.kind.case_name(path).endswith(f"_{UNCERTAINTY}"):
                self.found.skipped.append(Skipped(self._name(path), "named as an uncertainty map"))
            elif self.kind is VOLUME and (reason := reason_to_skip_file(path)):
                self.found.skipped.append(Skipped(self._name(path), reason))
            else:
                self.found.cases.append(Case(path, self._name(path)))
        return others

    def _take_dicom(self, folder: Path, files: Sequence[Path]) -> None:
        try:
            instances = [path for path in files if sop_class(path) is not None]
            if instances:
                self.take_series(folder, named=self._is_only(folder, files))
        except (DataError, OSError) as error:
            self.found.refused.append(Refused(self._name(folder), error, folder))
            return
        others = [path for path in files if path not in set(instances)]
        self._skip_others(folder, others, "neither NIfTI nor DICOM images")

    def _is_only(self, folder: Path, files: Sequence[Path]) -> bool:
        """Whether a folder is the input, and nothing but its files is."""
        inside = [path for path in folder.iterdir() if path.name[0] != "."]
        return folder == self.found.root and set(inside) == set(files)

    def _skip_others(self, folder: Path, files: Sequence[Path], reason: str) -> None:
        if len(files) == 1:
            self.found.skipped.append(Skipped(self._name(files[0]), reason))
        elif files:
            self.found.skipped.append(Skipped(f"{self._name(folder)} ({len(files)} files)", reason))

    def _refuse_parts(self, parts: Sequence[Case]) -> None:
        """Skip a copy of a series; refuse a series whose files lie in several folders."""
        if len(parts) == 1:
            return
        first, *others = [(case, _instances(_files_of(case))) for case in parts]
        for case, instances in others:
            if instances != first[1]:
                break
            self.found.cases.remove(case)
            self.found.skipped.append(Skipped(case.name, f"a copy of {first[0].name}"))
        else:
            return
        for case in parts:
            folders = [other.image for other in parts if other is not case]
            self._refuse(case, _in_several_folders(case.image, folders), case.image)

    def _refuse_without(
        self, cases: Sequence[Case], apart: Sequence[tuple[Path, Sequence[SliceHeader]]]
    ) -> None:
        """Refuse a case of whose series other files, no copies, lie in a folder of their own."""
        for case in [case for case in cases if case in self.found.cases]:
            own = _instances(_files_of(case))
            others = [
                image
                for image, headers in apart
                if not _instances([header.file for header in headers]) <= own
            ]
            if others:
                self._refuse(case, _in_several_folders(case.image, others), case.image)

    def _refuse_scattered(self, apart: Sequence[tuple[Path, Sequence[SliceHeader]]]) -> None:
        """Refuse a series of which single images, no copies, lie in folders of their own."""
        told = {
            Skipped(_counted(self._name(image), headers), SINGLE_IMAGE): (image, headers)
            for image, headers in apart
        }
        skipped = [skip for skip in self.found.skipped if skip in told]
        single = [told[skip] for skip in skipped]
        try:
            instances = _instances(header.file for _, headers in single for header in headers)
        except DataError:  # who knows what it is: it stays skipped, as a single image
            return
        if len(instances) < 2:
            return
        for skip in skipped:
            self.found.skipped.remove(skip)
        first, *others = sorted(image for image, _ in single)
        error = _in_several_folders(first, others)
        self.found.refused.append(Refused(self._name(first), error, first))

    def _refuse(self, case: Case, error: DataError, image: Path | None = None) -> None:
        if case in self.found.cases:
            self.found.cases.remove(case)
            self.found.refused.append(Refused(case.name, error, image))

    def _folders(self, leave_out: Path | None) -> Iterator[tuple[Path, list[Path]]]:
        """Yield each folder and its files; hidden ones and `leave_out` are not looked at."""

        def unreadable(error: OSError) -> None:
            self.found.refused.append(Refused(self._name(Path(str(error.filename))), error))

        for name, below, files in os.walk(self.found.root, onerror=unreadable):
            folder = Path(name)
            below[:] = sorted(n for n in below if n[0] != "." and folder / n != leave_out)
            paths = [folder / n for n in (*below, *sorted(files)) if n[0] != "."]
            for path in paths:
                if path.is_symlink() and not path.is_file():
                    what = "a link to a folder" if path.is_dir() else "a link to nothing"
                    error = DataError("link that is not followed", file=path, got=what)
                    self.found.refused.append(Refused(self._name(path), error))
            yield folder, [path for path in paths if path.is_file()]

    def _name(self, path: Path) -> str:
        root = self.found.root
        return path.relative_to(root).as_posix() if path != root else root.name


def _counted(name: str, headers: Sequence[SliceHeader]) -> str:
    return f"{name} ({len(headers)} files)"


def _in_several_folders(image: Path, others: Sequence[Path]) -> DataError:
    named = ", ".join(map(str, others[:_NAMED]))
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return DataError(
        "the files of one series lie in several folders", file=image,
        got=f"others in {named}{more}",
        do="put them into one folder, or take away what does not belong to the volume",
    )  # fmt: skip


def _files_of(case: Case) -> Sequence[Path]:
    return case.series.files if case.series else ()


def _instances(files: Iterable[Path]) -> set[str]:
    """Return the SOPInstanceUIDs of files."""
    found = set()
    for file in files:
        try:
            found.add(str(read_file_meta_info(file).MediaStorageSOPInstanceUID))
        except Exception as error:  # as in dim_monai.dicom.instance
            raise damaged(file, type(error).__name__) from error
    return found
