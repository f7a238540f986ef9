"""SASRec's pre-training against the plain form of the released loop, steps of both taken in turn.

    python -m benchmarks.cf_speed DATA [--steps N]

DATA is a folder that `allmrec prepare` wrote. The plain form is what a competent reader makes of the released program:
one user after another in Python, a negative drawn until the user does not have it, every row 50 positions wide, no
trimming. Both sides train the same model code with the same batch size; the optimiser is the loop's own here (fused) and torch's
default there. The released program draws its
samples in processes of their own where there are cores for them; here they are drawn in the loop, and the ratio without
them is given too. Counted are seconds of the one thread's processor time, which other work on the machine disturbs
less; the ratio of wall time stands beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console

from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

BATCH, LENGTH = 128, 50


def pretraining_speed(dataset: InteractionDataset, steps: int | None, chunk: int = 10) -> dict[str, Any]:
    """Seconds of an epoch, or of its first `steps`, of both sides."""
    split = leave_one_out(dataset)
    ours, plain = _ours(split), _plain(split)
    for side in (ours, plain):
        next(side)  # the first step of a model allocates what the others use again
    epoch = -(-int((split.train_end > 1).sum()) // BATCH)
    steps = min(steps or epoch, epoch - 1)
    wall, cpu = {"ours": 0.0, "plain": 0.0}, {"ours": 0.0, "plain": 0.0}
    sampling, done = 0.0, 0
    while done < steps:
        now = min(chunk, steps - done)
        # Other work on the machine then slows both alike.
        for name, side in (("ours", ours), ("plain", plain)):
            started, started_cpu = time.perf_counter(), time.process_time()
            spent = sum(next(side) for _ in range(now))
            wall[name] += time.perf_counter() - started
            cpu[name] += time.process_time() - started_cpu
            sampling += spent if name == "plain" else 0.0
        done += now
    return {
        "what": f"SASRec pre-training, {dataset.n_users} users, {dataset.n_items} items: steps a CPU second",
        "steps": steps,
        "steps_of_an_epoch": epoch,
        "ours": steps / cpu["ours"],
        "against": "the released loop's plain form",
        "theirs": steps / cpu["plain"],
        "ratio": cpu["plain"] / cpu["ours"],
        "ratio_without_sampling": (cpu["plain"] - sampling) / cpu["ours"],
        "ratio_of_wall_time": wall["plain"] / wall["ours"],
        "cpu_seconds": {"ours": cpu["ours"], "theirs": cpu["plain"], "theirs for samples": sampling},
        "wall_seconds": {"ours": wall["ours"], "theirs": wall["plain"]},
    }


def _model(split: Split, fused: bool) -> tuple[SASRec, torch.optim.Optimizer]:
    with seeded_torch(0, "benchmark"):
        model = SASRec(split.dataset.n_items, SASRecConfig(max_history=LENGTH)).train()
    return model, torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=fused or None
    )


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _ours(split: Split) -> Iterator[float]:
    """Train with the package's own task, a step at a time; yields the seconds that went into samples, here not known."""
    model, optimizer = _model(split, fused=True)
    task = SequenceTask(model, split, PretrainConfig(), seed=0)
    for number, batch in enumerate(task.batches(0)):
        with seeded_torch(0, "step", number):
            _step(optimizer, task.losses(batch)["recommendation"])
        yield 0.0


def _plain(split: Split) -> Iterator[float]:
    """Train as the released program does, a step at a time; yields the seconds that went into samples."""
    model, optimizer = _model(split, fused=False)
    rng = numpy_generator(0, "benchmark", "plain")
    histories = {user: split.train(user).tolist() for user in range(split.dataset.n_users)}
    while True:
        started = time.process_time()
        samples = [_sample(histories, split.dataset.n_items, rng) for _ in range(BATCH)]
        inputs, targets, negatives = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
        spent = time.process_time() - started
        states = model.position_vectors(inputs)
        positive = (states * model.item_emb(targets)).sum(-1)
        negative = (states * model.item_emb(negatives)).sum(-1)
        real = torch.where(targets != 0)
        wanted = F.binary_cross_entropy_with_logits(positive[real], torch.ones_like(positive[real]))
        unwanted = F.binary_cross_entropy_with_logits(negative[real], torch.zeros_like(negative[real]))
        _step(optimizer, wanted + unwanted)
        yield spent


def _sample(
    histories: dict[int, list[int]], n_items: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A user, the positions from the last one backwards, and a negative at each."""
    user = int(rng.integers(len(histories)))
    while len(histories[user]) <= 1:
        user = int(rng.integers(len(histories)))
    inputs, targets, negatives = (np.zeros(LENGTH, dtype=np.int64) for _ in range(3))
    following, place, taken = histories[user][-1], LENGTH - 1, set(histories[user])
    for item in reversed(histories[user][:-1]):
        inputs[place], targets[place] = item, following
        negatives[place] = _other_than(taken, n_items, rng)
        following, place = item, place - 1
        if place < 0:
            break
    return inputs, targets, negatives


def _other_than(taken: set[int], n_items: int, rng: np.random.Generator) -> int:
    drawn = int(rng.integers(1, n_items + 1))
    while drawn in taken:
        drawn = int(rng.integers(1, n_items + 1))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, help="steps of each side; default: an epoch")
    parser.add_argument("--output", type=Path, default=RESULTS / "cf-speed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = pretraining_speed(InteractionDataset.load(arguments.data), arguments.steps)
    Console().print(
        f"{result['ours']:.1f} steps a CPU second against {result['theirs']:.1f}: {result['ratio']:.2f} times as fast"
    )
    write_result(arguments.output, measured_by("cf_speed") | result)
    print(f"Written: {arguments.output}")


if __name__ == "__main__":
    main()
