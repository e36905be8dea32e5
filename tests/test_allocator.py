"""Memory that a training keeps: counted by the kernel, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from dim_monai import allocator
from dim_monai.allocator import freed_memory_kept

_COUNTS = """
import json, resource, sys, torch
from pathlib import Path
from dim_monai.allocator import freed_memory_kept

torch.set_num_threads(1)
PAGE = resource.getpagesize()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20

def faults_of_a_turn():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults_of_a_turn()
start = resident()
try:
    with freed_memory_kept(torch.device(sys.argv[1])):
        faults_of_a_turn()
        within, held = faults_of_a_turn(), resident()
        raise KeyError
except KeyError:
    left = resident()
print(json.dumps({"first": first, "within": within, "held": held - start, "left": left - start}))
"""
ON_GLIBC = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")


def counts(device: str) -> dict[str, float]:
    command = [sys.executable, "-c", _COUNTS, device]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


@ON_GLIBC
def test_a_large_tensor_costs_no_new_pages_while_freed_memory_is_kept() -> None:
    """What was kept is given back afterwards, even if what was done there raised."""
    told = counts("cpu")
    assert 10 * told["within"] < told["first"]
    assert told["held"] > 60
    assert told["left"] < 16


@ON_GLIBC
def test_a_training_on_another_device_leaves_the_memory_of_the_cpu_alone() -> None:
    told = counts("cuda")
    assert told["within"] > told["first"] / 2
    assert told["held"] < 16


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # would raise
    with freed_memory_kept(torch.device("cpu")):
        pass
