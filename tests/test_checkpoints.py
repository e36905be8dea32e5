"""Whatever happens while a checkpoint is written, a valid one is found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from dim_monai.checkpoints import Checkpoints
from dim_monai.errors import CheckpointError


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new")
    assert checkpoints.newest() is None
    for step in (5, 20, 100):
        checkpoints.save(step, state(step))
        found = Checkpoints(tmp_path / "new").newest()
        assert found is not None
        assert found["step"] == step
        assert torch.equal(found["weights"], state(step)["weights"])
    kept = ["step_000000020.pt", "step_000000100.pt"]
    assert names(tmp_path / "new") == sorted(kept + [f"{name}.sha256" for name in kept])


def test_the_hash_beside_is_what_sha256sum_says(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(1, state(1))
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("there is no sha256sum")
    said = subprocess.run([program, path], capture_output=True, text=True, check=True).stdout
    assert path.with_name(f"{path.name}.sha256").read_text().strip() == said.split()[0]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lose_the_hash(path: Path) -> None:
    path.with_name(f"{path.name}.sha256").unlink()


def lose_all(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [flip_a_bit, cut, lose_the_hash, lose_all])
def test_a_damaged_one_is_passed_over_for_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    damage(newest)
    found = checkpoints.newest()
    assert found is not None
    assert found["step"] == 1
    assert (str(newest) in caplog.text) == newest.exists()


def test_an_object_that_is_no_data_is_not_loaded(tmp_path: Path) -> None:
    """Also with the right hash: a checkpoint never runs code."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"code": Path("x")})
    assert checkpoints.newest() is None


def test_clearing_leaves_nothing_and_touches_no_stranger(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "a")
    checkpoints.save(1, state(1))
    checkpoints.clear()
    assert not (tmp_path / "a").exists()
    checkpoints.save(1, state(1))
    (tmp_path / "a" / "notes.txt").write_text("mine")
    checkpoints.clear()
    assert names(tmp_path / "a") == ["notes.txt"]


def content(step: int) -> dict[str, object]:
    """Made by NumPy: threads of torch do not survive a fork."""
    return {"step": step, "weights": torch.from_numpy(np.full(100_000, float(step)))}


def write_without_end(checkpoints: Checkpoints, step: int, announce: int) -> NoReturn:
    try:
        while True:
            step += 1
            checkpoints.save(step, content(step))
            os.write(announce, b"%d\n" % step)
    finally:
        os._exit(1)


def test_a_process_killed_at_any_moment_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    """Each of 50 processes completes one and is then killed somewhere in the next ones.

    The moment is drawn over the length of several writes, so that it falls on every part of one.
    """
    draw = np.random.default_rng(0)
    checkpoints = Checkpoints(tmp_path)
    last = 0
    for _ in range(50):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            write_without_end(checkpoints, last, writer)
        os.close(writer)
        with os.fdopen(reader) as said:
            saved = int(said.readline())
            time.sleep(draw.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            saved = max([saved, *(int(line) for line in said if line.endswith("\n"))])
        found = checkpoints.newest()
        assert found is not None
        assert found["step"] >= saved  # nothing that was announced is lost
        assert (found["weights"].numpy() == found["step"]).all()
        last = found["step"]
    checkpoints.sweep()
    kept = re.compile(r"step_\d{9}\.pt(\.sha256)?")
    assert all(kept.fullmatch(name) for name in names(tmp_path))


def test_a_full_disk_is_an_error_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    """A limit of file size stands for the full disk: it fails in the same system call."""
    limited = (
        "import resource, signal, sys, torch\n"
        "from dim_monai.checkpoints import Checkpoints\n"
        "from dim_monai.errors import CheckpointError\n"
        "checkpoints = Checkpoints(sys.argv[1])\n"
        "checkpoints.save(1, {'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n"
        "    checkpoints.save(2, {'weights': torch.zeros(100_000)})\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    arguments = [sys.executable, "-c", limited, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "checkpoint cannot be written" in done.stdout
    assert "step_000000002.pt" in done.stdout
    assert "make room" in done.stdout
    found = Checkpoints(tmp_path).newest()
    assert found is not None
    assert found["step"] == 1
    assert names(tmp_path) == ["step_000000001.pt", "step_000000001.pt.sha256"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file/checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, state(1))
