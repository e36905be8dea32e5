"""A file written atomically is the old one or the new one, and leaves nothing else behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from dim_monai.errors import DataError
from dim_monai.files import atomic_write, require_writable


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    return path


def names_beside(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_content_appears_only_when_the_block_ends(target):
    with atomic_write(target, "wb") as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names_beside(target) == [target.name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_no_other(target, error):
    def write_half():
        with atomic_write(target, "wb") as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_bytes() == b"old"
    assert names_beside(target) == [target.name]


def test_a_block_that_raises_creates_no_file(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.csv", "w"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_no_other(target, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic_write(target, "wb") as file:
        file.write(b"new")
    assert target.read_bytes() == b"old"
    assert names_beside(target) == [target.name]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_process_leaves_the_old_file(target):
    script = (
        "import os, signal, sys\n"
        "from dim_monai.files import atomic_write\n"
        "with atomic_write(sys.argv[1], 'wb') as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path, umask):
    path = tmp_path / "a.csv"
    before = os.umask(umask)
    try:
        with atomic_write(path, "w") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_text_is_utf8_with_the_line_ends_it_was_given(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("é\r\nb\n")
    assert path.read_bytes() == b"\xc3\xa9\r\nb\n"


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "no" / "x", "w"):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "x")


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"folder cannot be written.*file/out"):
        require_writable(tmp_path / "file" / "out")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "a.txt", "w"):
        pass
