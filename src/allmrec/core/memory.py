"""How much memory the process has needed, and may still take."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["available_memory", "give_back_memory", "peak_memory", "reuse_memory"]

# glibc's numbers for `mallopt`, and what the two are set to.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST = 64 << 20, 32 << 20


def available_memory() -> int:
    """Bytes that a process may take without another having to give them up."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _limit_of_group())
    except (OSError, ValueError, IndexError):
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        # Other systems have no common way to say what is free; half of all is a fair guess.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def peak_memory() -> int | None:
    """The most that this process has held since it began, in bytes: the GPU's memory where it used one, else resident.

    Returns:
        None where the system does not say (Windows).
    """
    import torch  # slow to import

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return None
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reuse_memory() -> None:
    """Let the C library keep up to 64 MiB of what is freed, for a process that computes all day.

    By itself glibc gives freed pages back as soon as it can and asks for them again at the next step of a model; the system
    clears each of them, 2,500 for a batch's request. Other C libraries have no such setting.
    """
    setting = _of_libc("mallopt")
    # Whoever starts the process may have chosen otherwise.
    if setting is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        setting(_TRIM_THRESHOLD, _KEPT)
        setting(_MMAP_THRESHOLD, _LARGEST)


def give_back_memory() -> None:
    """Give whole pages that were freed back to the system; glibc keeps them while other threads allocate beside them."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function of the C library; none where it has none of that name (musl, macOS)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _limit_of_group() -> int:
    """What a container may take, on Linux; very much where it is not limited."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return int(text)
    except (OSError, ValueError):
        return 1 << 62
