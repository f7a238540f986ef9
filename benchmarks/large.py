"""SASRec with a million items and five million users on one machine: memory of each phase, and what a step costs.

    python -m benchmarks.large [--users 5000000] [--items 1000000] [--steps 300]

The set is drawn: five or more items a user, a few items far more popular than the others. It is trained as any other is,
by `SequenceTask` and `fit`, for the first steps of an epoch. Peaks are this process's, so each phase's holds those before it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.cf.losses import Objective
from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.samples import TrainingBatch
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig, fit
from allmrec.data.catalogue import Catalogue
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.data.vocabulary import Vocabulary
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

SHORTEST, FURTHER = 5, 3.0  # of a history: the least, and how many more on average
SKEW = 3.0  # an item's place among all is u to this power, u uniform: half of the interactions are with an eighth
DRAWN_AT_ONCE = 4_000_000
PARTS_OF_STEP = 20


class Phases:
    """Memory and seconds of what was done, phase by phase."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._started = time.perf_counter()

    def done(self, name: str) -> None:
        """Write down how large the process is now, and has been at the most."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        now = time.perf_counter()
        self.records.append(
            {"phase": name, "resident_gb": _resident(), "peak_gb": peak, "seconds": now - self._started}
        )
        print(self.records[-1], flush=True)
        self._started = now


def _resident() -> float:
    """What the process holds at the moment, in GB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e6


def world(users: int, items: int, seed: int = 0) -> InteractionDataset:
    """Histories of skewed lengths over items of skewed popularity."""
    rng = np.random.default_rng(seed)
    lengths = SHORTEST - 1 + rng.geometric(1 / (FURTHER + 1), size=users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    named = (rng.permutation(items) + 1).astype(np.int32)
    numbers = np.empty(offsets[-1], dtype=np.int32)
    for start in range(0, len(numbers), DRAWN_AT_ONCE):
        part = numbers[start : start + DRAWN_AT_ONCE]
        part[:] = named[(rng.random(len(part)) ** SKEW * items).astype(np.int64)]
    return InteractionDataset(
        users=Vocabulary(tuple(map(str, range(users))), first=0, kind="user"),
        items=Vocabulary(tuple(map(str, range(items))), first=1, kind="item"),
        offsets=offsets,
        item_numbers=numbers,
        times=None,
        catalogue=Catalogue((None,) * (items + 1), (None,) * (items + 1), ((),) * (items + 1)),
    )


class _First(Sequence[TrainingBatch]):
    """The first batches of an epoch, made when they are looked at."""

    def __init__(self, batches: Sequence[TrainingBatch], count: int) -> None:
        self._batches, self._count = batches, min(count, len(batches))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TrainingBatch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingBatch]: ...
    def __getitem__(self, index: int | slice) -> TrainingBatch | Sequence[TrainingBatch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        return self._batches[range(self._count)[index]]


class _Short(SequenceTask):
    """The task with so many steps in an epoch."""

    steps = 0

    def batches(self, epoch: int) -> Sequence[TrainingBatch]:
        return _First(super().batches(epoch), self.steps)


def step_parts(model: SASRec, task: SequenceTask, config: TrainingConfig) -> dict[str, float]:
    """Milliseconds of processor time that the parts of a step take, on the average of a few."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    spent = dict.fromkeys(("batch", "loss", "gradients", "optimiser"), 0.0)
    batches = task.batches(1)
    model.train()
    for number in range(-2, PARTS_OF_STEP):
        if number == 0:  # the first steps allocate what the others use again
            spent = dict.fromkeys(spent, 0.0)
        marks = [time.process_time()]
        batch = batches[number + 2]
        marks.append(time.process_time())
        with seeded_torch(0, "step", number + 2):
            loss = task.losses(batch)["recommendation"]
        marks.append(time.process_time())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(time.process_time())
        optimizer.step()
        marks.append(time.process_time())
        for name, seconds in zip(spent, np.diff(marks), strict=True):
            spent[name] += float(seconds)
    return {name: 1000 * seconds / PARTS_OF_STEP for name, seconds in spent.items()}


def measured(users: int, items: int, steps: int, batch_size: int, negatives: int) -> dict[str, Any]:
    """Make the set, train, and say what it took."""
    phases = Phases()
    phases.done("imports")
    split: Split = leave_one_out(world(users, items))
    phases.done("data set and split")
    training = TrainingConfig(learning_rate=1e-3, betas=(0.9, 0.98), batch_size=batch_size, epochs=1)
    model_config = SASRecConfig(objective=Objective(loss="sampled_softmax", negatives=negatives))
    with seeded_torch(0, "large"):
        model = SASRec(items, model_config)
    phases.done("model")
    config = PretrainConfig(model=model_config, training=training)
    task = _Short(model, split, config, seed=0)
    task.steps = steps
    phases.done("windows, negatives, validation sample")
    wall, cpu = time.perf_counter(), time.process_time()
    log = fit(model, task, training, "a million items")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    phases.done(f"{log.steps} steps and a validation")
    task.steps = PARTS_OF_STEP + 2
    parts = step_parts(model, task, training)
    return {
        "what": f"SASRec, {users} users, {items} items, {split.dataset.n_interactions} interactions",
        "batch_size": batch_size,
        "negatives": negatives,
        "steps": log.steps,
        "steps_of_an_epoch": -(-len(task.windows) // batch_size),
        "steps_a_second": log.steps / wall,
        "steps_a_cpu_second": log.steps / cpu,
        "milliseconds_of_a_step": parts,
        "loss": log.records[-1]["loss/recommendation"],
        "peak_gb": phases.records[-1]["peak_gb"],
        "phases": phases.records,
    }


def table(result: dict[str, Any]) -> Table:
    """Memory of the phases."""
    shown = Table("phase", "GB held", "GB at the most", "seconds", title=result["what"])
    for phase in result["phases"]:
        figures = (f"{phase[name]:.2f}" for name in ("resident_gb", "peak_gb"))
        shown.add_row(phase["phase"], *figures, f"{phase['seconds']:.0f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--negatives", type=int, default=64)
    parser.add_argument("--output", type=Path, default=RESULTS / "large.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measured(arguments.users, arguments.items, arguments.steps, arguments.batch, arguments.negatives)
    Console().print(table(result))
    about = measured_by("large")
    write_result(arguments.output, about | result)
    print(f"Written: {arguments.output}")


if __name__ == "__main__":
    main()
