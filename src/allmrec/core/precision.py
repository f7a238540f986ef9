"""Which of float32 and bfloat16 a device multiplies matrices faster in."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Literal

import torch

__all__ = ["precision_here"]


def precision_here(device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` means on a device: bfloat16 on a GPU, and on a CPU where it multiplies matrices faster than float32.

    Processors with instructions for it (AVX512-BF16, AMX) are about twice as fast, others several times slower, so a probe
    of a few milliseconds is enough. It is made once a process.
    """
    if device.type != "cpu":
        return "bfloat16"
    return "bfloat16" if _seconds(torch.bfloat16) < _seconds(torch.float32) else "float32"


@lru_cache
def _seconds(dtype: torch.dtype) -> float:
    """The least of a few times that a layer-sized product takes."""
    left, right = torch.ones(256, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    least = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        _ = left @ right
        least = min(least, time.perf_counter() - started)
    return least
