"""Freed memory is kept for the next step where a process asks for that, and given back when it says so."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_STEPS = """
import resource, sys
import numpy as np
from allmrec.core.memory import give_back_memory, reuse_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def step():
    kept = [np.ones(size) for size in (3 << 17, 1 << 17, 1 << 18)]  # 3, 1 and 2 MiB

if "reuse" in sys.argv:
    reuse_memory()
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = resident()
give_back_memory()
print(faults, kept - resident())
"""


def _run(*arguments: str, **environment: str) -> tuple[int, int]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _STEPS, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=bare | environment,
    )
    faults, returned = done.stdout.split()
    return int(faults), int(returned)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these settings")
def test_freed_pages_are_used_again_and_given_back_when_asked() -> None:
    """Twenty steps take 6 MiB each, which is 1,500 pages, all freed behind each step."""
    faults, returned = _run("reuse")
    assert faults < 1_500
    assert returned > 3 << 20
    faults, returned = _run()
    assert faults > 15_000
    assert returned < 3 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these settings")
def test_what_the_environment_says_stays() -> None:
    faults, _ = _run("reuse", MALLOC_TRIM_THRESHOLD_="0", MALLOC_MMAP_THRESHOLD_="1048576")
    assert faults > 15_000
