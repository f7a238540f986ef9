"""How much memory the process has needed."""

from __future__ import annotations

import sys

import torch

__all__ = ["peak_memory"]


def peak_memory() -> int | None:
    """The most that this process has held since it began, in bytes: the GPU's memory where it used one, else resident.

    Returns:
        None where the system does not say (Windows).
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return None
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
