"""Cases that overlap: the next one is read and the last one written while the network computes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event, Semaphore
from typing import TypeVar

import torch

Job = TypeVar("Job")
Stage = Callable[[Job], None]

ALIVE = 3
"""How many jobs are begun and not done, at most: one in each stage."""

NICENESS = 10
"""How far the priority of reading and writing is below that of the network, of at most 19."""


def one_by_one(
    jobs: Iterable[Job],
    read: Stage[Job],
    compute: Stage[Job],
    write: Stage[Job],
    done: Stage[Job],
) -> None:
    """Take each job through its stages before the next one begins."""
    for job in jobs:
        for stage in (read, compute, write, done):
            stage(job)


def overlapping(
    jobs: Iterable[Job],
    read: Stage[Job],
    compute: Stage[Job],
    write: Stage[Job],
    done: Stage[Job],
) -> None:
    """Take each job through its stages, several jobs at a time but one in each stage.

    Every stage sees the jobs in their order. ``compute`` and ``done`` run in the calling thread,
    with all threads that PyTorch has there; ``read`` and ``write`` in a thread of their own each,
    which leave the cores to it.

    An error of a stage, or Ctrl-C, ends the run, so what a single job can bring about has to be
    kept with the job. What is being written then is written to its end and ``done``; of all others
    no stage begins.

    Args:
        jobs: in order. They are all kept to the end, so what is large in one has to be dropped by
            ``write``. At most `ALIVE` of them are between the beginning of ``read`` and the end of
            ``write``.
        read: the first stage.
        compute: the second.
        write: the third.
        done: is told each job that was written.
    """
    free, ended = Semaphore(ALIVE), Event()

    def begin(job: Job) -> None:
        free.acquire()
        if not ended.is_set():
            read(job)

    def end(job: Job) -> None:
        if ended.is_set():
            raise CancelledError
        try:
            write(job)
        except BaseException:
            ended.set()  # at once: the next job may be waiting
            raise
        finally:
            free.release()

    written: deque[tuple[Job, Future[None]]] = deque()

    def tell(*, wait: bool) -> None:
        while written and (wait or written[0][1].done()):
            job, writing = written[0]
            writing.result()
            written.popleft()
            done(job)

    with _thread() as reader, _thread() as writer:
        try:
            for job, reading in [(job, reader.submit(begin, job)) for job in jobs]:
                reading.result()
                compute(job)
                written.append((job, writer.submit(end, job)))
                tell(wait=False)
            tell(wait=True)
        except BaseException:
            ended.set()
            reader.shutdown(wait=False, cancel_futures=True)
            free.release()  # for a reader that waits for its turn
            writer.shutdown(cancel_futures=True)
            for job, writing in written:
                if not writing.cancelled() and writing.exception() is None:
                    done(job)
            raise


def _thread() -> ThreadPoolExecutor:
    """Return a thread that leaves the cores to the network."""
    threads = torch.get_num_threads()
    thread = ThreadPoolExecutor(1, initializer=_step_back)
    thread.submit(torch.get_num_threads).result()  # it has begun
    torch.set_num_threads(threads)  # what is set in one thread is the default of others
    return thread


def _step_back() -> None:
    """Let PyTorch compute in this thread alone, and that where the network leaves time.

    Every operation of a network waits for the last of its threads. If one of them has to share its
    core with a thread of the same priority, a network on two cores takes ten times as long.
    """
    torch.set_num_threads(1)
    torch.get_num_threads()  # from the first question on, a thread keeps its number
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        os.nice(NICENESS)
