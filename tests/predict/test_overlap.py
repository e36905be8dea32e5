"""Jobs that overlap keep their order, are few at a time, and end cleanly whatever happens."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dim_monai.predict.overlap import ALIVE, overlapping

TIMEOUT_S = 20
STAGES = ("read", "compute", "write")


class Probe:
    """Stages that note what they are given, and do at some job what a test wants."""

    def __init__(self, **at: tuple[int, Callable[[], None]]) -> None:
        self.at = at
        self.seen: dict[str, list[int]] = {name: [] for name in (*STAGES, "done")}
        self.threads: dict[str, set[str]] = {name: set() for name in (*STAGES, "done")}
        self.alive: set[int] = set()
        self.most_alive = 0
        self._lock = threading.Lock()

    def stage(self, name: str) -> Callable[[int], None]:
        def run(job: int) -> None:
            self.threads[name].add(threading.current_thread().name)
            with self._lock:
                if name == "read":
                    self.alive.add(job)
                self.most_alive = max(self.most_alive, len(self.alive))
            where, what = self.at.get(name, (None, lambda: None))
            if job == where:
                what()
            with self._lock:
                self.seen[name].append(job)
                if name == "write":
                    self.alive.discard(job)

        return run

    def run(self, jobs: int) -> None:
        overlapping(range(jobs), *(self.stage(name) for name in (*STAGES, "done")))


def fail(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Any:
    before, numbers = set(threading.enumerate()), torch.get_num_threads()
    yield
    assert set(threading.enumerate()) == before
    assert torch.get_num_threads() == numbers


@pytest.mark.parametrize("jobs", [0, 1, 2, 40])
def test_every_stage_sees_every_job_in_order(jobs: int) -> None:
    probe = Probe()
    probe.run(jobs)
    assert all(seen == list(range(jobs)) for seen in probe.seen.values())
    if jobs:
        main = threading.current_thread().name
        assert probe.threads["compute"] == probe.threads["done"] == {main}
        assert len(probe.threads["read"] | probe.threads["write"] | {main}) == 3


@pytest.mark.parametrize("slow", STAGES)
def test_however_many_jobs_there_are_few_are_alive(slow: str) -> None:
    """One stage stands still until the others have gone as far as they can."""
    gate = threading.Event()
    probe = Probe(**{slow: (4, lambda: gate.wait(TIMEOUT_S) or None)})
    timer = threading.Timer(0.3, gate.set)
    timer.start()
    probe.run(60)
    timer.join()
    assert probe.most_alive == ALIVE


def test_three_jobs_are_at_work_at_once() -> None:
    """Each stage waits for the two others: without overlap, no one would ever come."""
    meeting = threading.Barrier(3, timeout=TIMEOUT_S)
    probe = Probe(
        **{name: (2 - n, lambda: meeting.wait() and None) for n, name in enumerate(STAGES)}
    )
    probe.run(3)
    assert not meeting.broken
    assert probe.seen["done"] == [0, 1, 2]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", [*STAGES, "done"])
def test_an_error_ends_the_run_and_nothing_new_begins(name: str, kind: type[BaseException]) -> None:
    probe = Probe(**{name: (5, fail(kind("of 5")))})
    with pytest.raises(kind, match="of 5"):
        probe.run(1000)
    assert 5 not in probe.seen[name]
    assert max(probe.seen["read"]) <= 5 + ALIVE
    for seen in (probe.seen["compute"], probe.seen["write"]):
        assert seen == list(range(len(seen)))
    # What was written is told, but for the job that could not be.
    assert probe.seen["done"] == [job for job in probe.seen["write"] if (name, job) != ("done", 5)]


def test_what_is_being_written_at_ctrl_c_is_written_and_told() -> None:
    interrupted = threading.Event()

    def compute() -> None:
        started.wait(TIMEOUT_S)
        threading.Timer(0.1, interrupted.set).start()
        raise KeyboardInterrupt

    def write() -> None:
        started.set()
        interrupted.wait(TIMEOUT_S)

    started = threading.Event()
    probe = Probe(compute=(4, compute), write=(3, write))
    with pytest.raises(KeyboardInterrupt):
        probe.run(100)
    assert probe.seen["write"] == probe.seen["done"] == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="a priority is that of the whole process")
def test_reading_and_writing_step_back_before_the_network() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    found: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Callable[[int], None]:
        def run(_: int) -> None:
            nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            found[name] = torch.get_num_threads(), nice - mine

        return run

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        overlapping(range(3), *(note(name) for name in (*STAGES, "done")))
    finally:
        torch.set_num_threads(before)
    assert found["compute"] == found["done"] == (2, 0)
    for name in ("read", "write"):
        threads, steps = found[name]
        assert threads == 1
        assert steps > 0
