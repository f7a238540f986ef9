"""Several processes that train one module together: what the training loop needs of them.

`accelerate launch` and `torchrun` start the processes and say in the environment which is which. Every process holds
the whole module, takes its part of every batch, and adds up gradients with the others before a step, so all of them
make the same step. Started any other way there is one process, and nothing here does anything.

Where one ends, or its host can no longer be reached, the others end too, with a `ProcessLostError`: at once where the
connection was closed, else when they have waited for as long as `TIMEOUT` says.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
from torch import nn

from allmrec.core.errors import ConfigError, ProcessLostError

__all__ = ["TIMEOUT", "Processes", "processes", "slices"]

T = TypeVar("T")

# Of the environment: seconds that a process waits for the others. One may write a large file while the others wait.
TIMEOUT = "ALLMREC_PROCESS_TIMEOUT"
_SECONDS, _LONGEST = 1800.0, 1_000_000


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    What waits for the others raises a `ProcessLostError` where one of them is gone.

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
            with self._together():
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
        with self._together():
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the sum over all of them; a parameter that none has a gradient of keeps none.

        Of a sparse gradient only its rows are sent.
        """
        if self.count == 1 or not parameters:
            return
        device = parameters[0].device
        known = torch.tensor(
            [[p.grad is not None, p.grad is not None and p.grad.is_sparse] for p in parameters],
            dtype=torch.float32,
            device=device,
        )
        self._add_up(known)
        there, sparse = known.T.tolist()
        for parameter, by_rows in zip(parameters, sparse, strict=True):
            if by_rows:
                self._sum_rows(parameter)
        for kind in sorted({p.dtype for p in parameters}, key=str):
            chosen = [
                p
                for p, n, by_rows in zip(parameters, there, sparse, strict=True)
                if n and not by_rows and p.dtype == kind
            ]
            if not chosen:
                continue
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in chosen])
            self._add_up(flat)
            for parameter, part in zip(chosen, torch.split(flat, [p.numel() for p in chosen]), strict=True):
                parameter.grad = part.view_as(parameter)

    def _sum_rows(self, parameter: nn.Parameter) -> None:
        """Give every process the sum of a parameter's sparse gradients; a process may have none."""
        none = torch.empty((0,), dtype=torch.int64, device=parameter.device)
        rows, values = none, parameter.detach()[none]
        if parameter.grad is not None:
            own = parameter.grad.coalesce()
            rows, values = own.indices()[0], own.values()
        counts = torch.zeros(self.count, dtype=torch.float32, device=parameter.device)
        counts[self.index] = len(rows)
        self._add_up(counts)
        most = int(counts.max())
        # As long as the longest, as all processes must send as much.
        padded = torch.cat([rows, rows.new_zeros(most - len(rows))])
        filled = torch.cat([values, values.new_zeros((most - len(values), *values.shape[1:]))])
        all_rows, all_values = self._gathered(padded), self._gathered(filled)
        chosen = [slice(0, int(count)) for count in counts.tolist()]
        parameter.grad = torch.sparse_coo_tensor(
            torch.cat([one[part] for one, part in zip(all_rows, chosen, strict=True)])[None],
            torch.cat([one[part] for one, part in zip(all_values, chosen, strict=True)]),
            parameter.shape,
        ).coalesce()

    def _gathered(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Every process's tensor, all of one shape."""
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        with self._together():
            torch.distributed.all_gather(found, tensor.contiguous())
        return found

    def sum_values(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Each name's sum over all processes; all of them give the same names."""
        if self.count == 1:
            return dict(values)
        sums = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float32, device=device)
        self._add_up(sums)
        found = dict(zip(sorted(values), sums.tolist(), strict=True))
        return {name: found[name] for name in values}

    def _add_up(self, tensor: torch.Tensor) -> None:
        with self._together():
            torch.distributed.all_reduce(tensor)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Say in words what torch raises where another process is gone; it has a class of its own for some cases only."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    @contextmanager
    def within(self) -> Iterator[None]:
        """For what may wait for the others somewhere inside: that one is gone is said in words, other errors go on as they are."""
        try:
            yield
        except RuntimeError as error:
            # What gloo raises has no class of its own.
            of_others = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
            if self.count == 1 or not of_others:
                raise
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> ProcessLostError:
        return ProcessLostError(
            f"Process {self.index} of {self.count} (from 0) has lost another of them: it ended, its host went down, or the network is "
            f"cut. Training cannot go on without it, and stopped. What the main process saved is kept. See what the others "
            f"printed, then start the same command again on every host: it goes on from there. ({_reason(error)})"
        )


def processes(device: torch.device | str = "cpu") -> Processes:
    """This process's place among those that were started together.

    Args:
        device: where it trains; decides what they talk over, gloo on a CPU and nccl between GPUs.

    Raises:
        ConfigError: the environment's `TIMEOUT` is no number of seconds, or accelerate has started this process alone.
        ProcessLostError: the others did not come.
    """
    if "WORLD_SIZE" not in os.environ and "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ:
        raise ConfigError(
            "accelerate launch was to start several processes and has started this one alone, as it does on CPUs without MPI. Start "
            "them with torchrun, or give accelerate launch --multi_gpu in place of --cpu; without a GPU too, with --device cpu for "
            "allmrec."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    return _joined(torch.device(device).type == "cpu")


@cache
def _joined(on_cpu: bool) -> Processes:
    from accelerate import PartialState  # slow to import, and only several processes need it

    seconds = _timeout()
    try:
        state = PartialState(cpu=on_cpu, timeout=timedelta(seconds=seconds))
    except RuntimeError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = _reason(error)
        raise ProcessLostError(
            f"The processes that are to train together did not find one another at {where} within {seconds:g} s. Each host must reach "
            f"that address, and the number of hosts and processes must be the same in every host's command. ({reason})"
        ) from error
    # Its threads must have ended before the interpreter does, or the process is aborted at its end.
    atexit.register(_left)
    return Processes(state.process_index, state.num_processes, state.local_process_index)


def _left() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _reason(error: RuntimeError) -> str:
    """Torch's own words without the place in its source and its advice."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"^\[[^]]*\] ", "", line).partition(". ")[0]


def _timeout() -> float:
    named = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(named) if named else _SECONDS
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _LONGEST:
        raise ConfigError(
            f"{TIMEOUT} is {named!r} in the environment; expected a number of seconds from 1 to {_LONGEST:,}."
        )
    return seconds


def slices(rows: int, count: int) -> list[slice]:
    """Rows in `count` parts that follow one another and differ by one at the most; some are empty if rows are few."""
    ends = [rows * number // count for number in range(count + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(ends)]
