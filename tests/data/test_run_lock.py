"""Two trainings never share a folder, and one that is gone keeps nobody out."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dim_monai.data.run_lock import lock_run, unlock_run
from dim_monai.errors import DataError
from dim_monai.handlers.run_checkpoint import end_run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")

HOLD = """
import sys
from pathlib import Path
from dim_monai.data.run_lock import lock_run
lock_run(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""
Other = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def other() -> Iterator[Other]:
    """Begins a training in another process; what is left of them is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def holds(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "locked\n"


def test_a_running_training_keeps_another_process_out_until_it_is_killed(
    tmp_path: Path, other: Other
) -> None:
    process = other(tmp_path)
    assert holds(process)
    with pytest.raises(DataError, match="a training is running in this folder") as caught:
        lock_run(tmp_path)
    assert caught.value.file == str(tmp_path)
    assert "--output_dir" in str(caught.value)
    (tmp_path / "beside").mkdir()
    lock_run(tmp_path / "beside")
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock_run(tmp_path)


@pytest.mark.parametrize(
    "end",
    [
        lambda folder: unlock_run(folder),
        lambda folder: end_run(str(folder / "checkpoints")),
        lambda folder: lock_run(folder / "next"),  # a process makes one training at a time
    ],
    ids=["unlocked", "ended", "next"],
)
def test_a_training_that_has_ended_in_a_living_process_keeps_nobody_out(
    tmp_path: Path, other: Other, end: Callable[[Path], None]
) -> None:
    (tmp_path / "next").mkdir()
    lock_run(tmp_path)
    process = other(tmp_path)
    assert not holds(process)
    assert "a training is running in this folder" in process.communicate()[1]
    end(tmp_path)
    assert holds(other(tmp_path))


def test_a_worker_that_lives_on_keeps_nobody_out(tmp_path: Path, other: Other) -> None:
    lock_run(tmp_path)
    until, end = os.pipe()
    worker = os.fork()
    if worker == 0:  # has inherited the file of the lock, and is not who holds it
        unlock_run(tmp_path)
        os.read(until, 1)
        os._exit(0)
    try:
        assert not holds(other(tmp_path))
        unlock_run(tmp_path)
        assert holds(other(tmp_path))
    finally:
        os.write(end, b"x")
        os.waitpid(worker, 0)
        os.close(until)
        os.close(end)


def test_a_training_that_failed_is_begun_again_in_the_same_process(tmp_path: Path) -> None:
    lock_run(tmp_path)
    lock_run(tmp_path)
    unlock_run(tmp_path / "another")
    unlock_run(tmp_path)
    unlock_run(tmp_path)


def test_a_drive_that_cannot_lock_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with caplog.at_level(logging.WARNING, "dim_monai"):
        lock_run(tmp_path)
    (line,) = caplog.messages
    assert str(tmp_path) in line
    assert "cannot be locked" in line
