"""What cells of measurements share."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from cells import ROOT, call


def test_a_cell_computes_on_one_thread_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    told = tmp_path / "threads"
    script = "import sys, torch; open(sys.argv[1], 'w').write(str(torch.get_num_threads()))"
    call([sys.executable, "-c", script, str(told)])
    assert told.read_text() == "1"


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        call([sys.executable, "-c", "raise SystemExit('no such luck')"])


_WAITS_FOR_A_SIGNAL = """
import pathlib, signal, sys, time
told = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(told.write_text("ended")))
told.write_text("begun")
time.sleep(120)
"""


def test_a_command_ends_with_the_process_that_called_it_even_if_that_is_killed(
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 60
        while not told.is_file() or told.read_text() != text:
            assert time.monotonic() < deadline, f"not {text} within a minute"
            time.sleep(0.05)

    command = [sys.executable, "-c", _WAITS_FOR_A_SIGNAL, str(told)]
    caller = f"from cells import call; call({command!r})"
    with subprocess.Popen([sys.executable, "-c", caller], cwd=ROOT / "benchmarks") as process:
        wait_for("begun")
        process.kill()
    wait_for("ended")
