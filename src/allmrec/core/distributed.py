"""Several processes that train one module together: what the training loop needs of them.

`accelerate launch` and `torchrun` start the processes and say in the environment which is which. Every process holds
the whole module, takes its part of every batch, and adds up gradients with the others before a step, so all of them
make the same step. Started any other way there is one process, and nothing here does anything.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import nn

__all__ = ["Processes", "processes", "slices"]

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        index: which one this is, from 0.
        count: how many there are.
        on_this_machine: its number among those on this machine; says which GPU is its own.
    """

    index: int = 0
    count: int = 1
    on_this_machine: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.index == 0

    def device(self, name: str) -> str:
        """This process's own device where `name` leaves open which GPU."""
        return f"cuda:{self.on_this_machine}" if self.count > 1 and name == "cuda" else name

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process, then in the others; they read what it wrote."""
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:
            if self.is_main:
                self.wait()

    def from_main(self, value: T) -> T:
        """The main process's value."""
        if self.count == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the sum over all of them; a parameter that none has a gradient of keeps none."""
        if self.count == 1 or not parameters:
            return
        device = parameters[0].device
        known = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device)
        torch.distributed.all_reduce(known)
        for kind in sorted({p.dtype for p in parameters}, key=str):
            chosen = [p for p, n in zip(parameters, known.tolist(), strict=True) if n and p.dtype == kind]
            if not chosen:
                continue
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in chosen])
            torch.distributed.all_reduce(flat)
            for parameter, part in zip(chosen, torch.split(flat, [p.numel() for p in chosen]), strict=True):
                parameter.grad = part.view_as(parameter)

    def sum_values(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Each name's sum over all processes; all of them give the same names."""
        if self.count == 1:
            return dict(values)
        sums = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float32, device=device)
        torch.distributed.all_reduce(sums)
        found = dict(zip(sorted(values), sums.tolist(), strict=True))
        return {name: found[name] for name in values}


def processes(device: torch.device | str = "cpu") -> Processes:
    """This process's place among those that were started together.

    Args:
        device: where it trains; decides what they talk over, gloo on a CPU and nccl between GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    return _joined(torch.device(device).type == "cpu")


@cache
def _joined(on_cpu: bool) -> Processes:
    from accelerate import PartialState  # slow to import, and only several processes need it

    state = PartialState(cpu=on_cpu)
    return Processes(state.process_index, state.num_processes, state.local_process_index)


def slices(rows: int, count: int) -> list[slice]:
    """Rows in `count` parts that follow one another and differ by one at the most; some are empty if rows are few."""
    ends = [rows * number // count for number in range(count + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(ends)]
