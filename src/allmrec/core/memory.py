"""How much memory the process has needed, and may still take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["available_memory", "peak_memory"]


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


def _limit_of_group() -> int:
    """What a container may take, on Linux; very much where it is not limited."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return int(text)
    except (OSError, ValueError):
        return 1 << 62
