"""Trains in processes of their own that are killed at random moments; then the same command goes on until the run is done.

A tiny world (models of random weights, every stage). The weights must be those of a run that nobody disturbed, bit for bit.
`python -m benchmarks.kills` does it a few hundred times.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from tests.support.forked import start

from allmrec.core.hashing import file_hash
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.stages.tune import ALLMREC_STAGES
from allmrec.testing.tiny_recipe import save_tiny_recipe
from allmrec.testing.worlds import taste_world

__all__ = ["TRAINED", "Kills", "World", "kill_and_go_on", "make_world", "quick_place", "weights"]

# `texts` is none of the recipe's, and nothing is trained there.
TRAINED = tuple(kind.name for kind in ALLMREC_STAGES if kind.seeded)


@dataclass(frozen=True)
class World:
    """A data set and a recipe, with the models that it names beside it."""

    data: Path
    recipe: Path


@dataclass
class Kills:
    """What happened: processes killed by the stage that they were in, runs that were brought to their end, and how."""

    by_stage: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    different: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Processes killed."""
        return sum(self.by_stage.values())


def make_world(folder: Path) -> World:
    """Two dozen users, three tastes; a language model, an encoder, a recipe."""
    data: InteractionDataset = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    data.save(folder / "data")
    recipe = save_tiny_recipe(
        folder,
        pretrain="training = { epochs = 12, batch_size = 12, validate_every = 5 }",
        align="training = { epochs = 8, batch_size = 12 }",
        tune="training = { epochs = 3, batch_size = 4, learning_rate = 1e-2, accumulation = 2 }",
    )
    return World(folder / "data", recipe)


def quick_place() -> Path | None:
    """Memory, where the system offers it as a folder; none: wherever temporary files go.

    State is written to the disk itself at every step here, which would be most of the time. What a killed process leaves
    is the same in memory; only a power cut would tell the difference.
    """
    place = Path("/dev/shm")  # noqa: S108  # a name of its own is made in it
    return place if os.access(place, os.W_OK) else None


def weights(run: Path) -> dict[str, str]:
    """Hashes of what a run has trained."""
    return {
        str(file.relative_to(run)): file_hash(file) for name in TRAINED for file in run.glob(f"{name}/*.safetensors")
    }


def kill_and_go_on(world: World, folder: Path, kills: int, seed: int = 0, save_every: float = 0.0) -> Kills:
    """Train runs, kill, go on, until `kills` processes were killed and each stage was met.

    Args:
        world: what to train on.
        folder: where the runs go; each is removed when it is done.
        kills: processes to kill at the least.
        seed: names the delays.
        save_every: seconds between two savings of the resume state; 0 saves behind every step.
    """
    done, rng = Kills(), numpy_generator(seed, "kills")
    train = [
        "train",
        str(world.data),
        "--recipe",
        str(world.recipe),
        "--device",
        "cpu",
        "--save-every",
        str(save_every),
    ]
    output = folder / "output.txt"
    process = start([*train, "-o", str(folder / "whole")], output)
    begun = time.monotonic()
    _end(process)
    usual = time.monotonic() - begun
    expected = weights(folder / "whole")
    while done.count < kills or len(done.by_stage) < len(TRAINED):
        _one_run([*train, "-o"], folder, usual, rng, expected, done, output)
        if done.failed or done.different or done.count > 20 * kills + 100:
            break
    return done


def _one_run(
    train: list[str],
    folder: Path,
    usual: float,
    rng: np.random.Generator,
    expected: dict[str, str],
    done: Kills,
    output: Path,
) -> None:
    """Kill one run again and again until it is done."""
    run = folder / f"run-{done.runs}"
    while True:
        process = start([*train, str(run)], output)
        process.join(float(rng.uniform(0, 0.6 * usual)))
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        done.by_stage[next((name for name in TRAINED if not (run / name).exists()), "behind the last")] += 1
    done.runs += 1
    if process.exitcode != 0:
        done.failed.append(output.read_text()[-2000:])
    elif (found := weights(run)) != expected:
        done.different += [f"{run.name}: {name}" for name in expected if found.get(name) != expected[name]]
    elif left := [path.name for path in [*run.glob(".*.tmp"), *run.glob(".*.retired"), *(run / ".resume").iterdir()]]:
        done.failed.append(f"left behind in {run}: {left}")
    else:
        shutil.rmtree(run)


def _end(process: BaseProcess) -> None:
    process.join()
    if process.exitcode != 0:
        raise SystemExit("training failed even without a kill; see its output above")
