"""The files of a prepared data set: all of them appear, or none, and the list is the last."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dim_monai.data.datalist import DATALIST_NAME, was_prepared
from dim_monai.errors import DataError

_CHUNK_BYTES = 1 << 20


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``out`` whose content takes its place in ``out`` at the end.

    A folder or file of the same name is replaced, the data list last. If the block raises, nothing
    in ``out`` has changed. A process that is killed may leave the hidden folder behind.

    Args:
        out: made where it is missing.

    Raises:
        DataError: ``out`` cannot be written.
    """
    work = out / f".prepare-{secrets.token_hex(8)}"
    new, old = work / "new", work / "old"
    made = not out.exists()
    try:
        new.mkdir(parents=True)
        old.mkdir()
        yield new
        for path in sorted(new.iterdir(), key=lambda path: (path.name == DATALIST_NAME, path.name)):
            if (out / path.name).is_dir():
                os.replace(out / path.name, old / path.name)
            os.replace(path, out / path.name)
    except OSError as error:
        raise DataError(
            "output folder cannot be written", file=error.filename or out, got=error.strerror
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def require_free(out: Path, source: Path, folders: Sequence[str]) -> None:
    """Refuse an output folder whose files are somebody's, or the source's own.

    Args:
        out: the output folder.
        source: the source folder.
        folders: names of the folders that will be written besides the data list.

    Raises:
        DataError: folders would be written into the source, where the next run would find them as
            data; or ``out`` holds a data list or folders that `prepare` has not written.
    """
    inside = Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source))
    if folders and inside:
        raise DataError(
            "output folder inside the source folder",
            file=out,
            got=f"{' and '.join(folders)} to write",
            expected=f"a folder outside {source}",
            do="choose another output folder",
        )
    if was_prepared(out / DATALIST_NAME):
        return
    for name in (DATALIST_NAME, *folders):
        if (out / name).exists():
            raise DataError(
                "output folder holds files of another origin",
                file=out / name,
                expected="a new folder, or one that was prepared before",
                do="choose another output folder, or move the file away",
            )


def sha256_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the contents of the files, one after the other.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise DataError("file cannot be read", file=path, got=error.strerror) from error
    return digest.hexdigest()
