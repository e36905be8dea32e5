"""Archives: their names alone are read, nothing is unpacked."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from dim_monai.lint.faults import Fault, shown
from dim_monai.lint.paths import is_leaving

MAX_ENTRIES = 10_000


def is_archive(file: Path) -> bool:
    """Tell whether a file is a zip or tar archive."""
    return zipfile.is_zipfile(file) or tarfile.is_tarfile(file)


def check_archive(file: Path) -> Iterator[Fault]:
    """Yield the fault of being an archive, and one for each name that leaves its folder."""
    do = "unpack it, and check what was in it"
    yield Fault("L073", "archive: what is in it is not checked", file, do=do)
    try:
        names = list(_names(file))
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        yield Fault("L073", "archive cannot be read", file, got=f"{error}")
        return
    for name, link in names[:MAX_ENTRIES]:
        if leaves(name) or (link is not None and leaves(link)):
            got = shown(name if link is None else f"{name} -> {link}")
            do = "do not unpack it"
            yield Fault("L074", "name that leaves the folder of the archive", file, got=got, do=do)
    if len(names) > MAX_ENTRIES:
        yield Fault("L075", "archive of too many files", file, expected=f"at most {MAX_ENTRIES}")


def leaves(name: str) -> bool:
    """Tell whether an archive's entry would be written outside of its folder."""
    absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    return absolute or is_leaving(name) or "\0" in name


def _names(file: Path) -> Iterator[tuple[str, str | None]]:
    """Yield each name, with the target if it is a link."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                link = stat.S_ISLNK(entry.external_attr >> 16) and entry.file_size < 4096
                target = archive.read(entry).decode("utf-8", "replace") if link else None
                yield entry.orig_filename, target
    elif tarfile.is_tarfile(file):
        with tarfile.open(file) as tar:
            for count, member in enumerate(tar):
                if count > MAX_ENTRIES:
                    return
                linked = member.issym() or member.islnk()
                yield member.name, member.linkname if linked else None
