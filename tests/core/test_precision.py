"""The probe of a processor: made once, and its answer is the faster one."""

from __future__ import annotations

import torch

from allmrec.core.precision import _seconds, precision_here

CPU = torch.device("cpu")


def test_the_probe_is_made_once_and_times_a_product() -> None:
    times = [_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert all(0 < seconds < 5 for seconds in times)
    assert times == [_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert precision_here(CPU) == ("bfloat16" if times[1] < times[0] else "float32")
