"""Where a figure was made."""

from __future__ import annotations

import os
import platform

import torch

__all__ = ["BESIDE", "device_name"]

BESIDE = "ALLMREC_CELLS_AT_A_TIME"
"""Says how many cells share a machine; their seconds say little then."""


def device_name(device: str) -> str:
    """A device by the name that its maker gave it, and how many cells are measured on the machine at a time where it is not one."""
    beside = int(os.environ.get(BESIDE, "1"))
    shared = "" if beside == 1 else f", {beside} cells at a time"
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) + shared
    threads = torch.get_num_threads()
    return f"{platform.machine()} {device.upper()}, {threads} thread{'' if threads == 1 else 's'}{shared}"
