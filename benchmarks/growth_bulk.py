"""Recommending in bulk for `benchmarks.growth`: the runs, the work, and what it costs on a Ray cluster, all processes counted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import ray
import torch

from allmrec.bulk.cluster import connect
from allmrec.bulk.ray_engine import RayEngine
from allmrec.bulk.scoring import recommend_users
from allmrec.core.progress import progress_shown
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from benchmarks.memory import world
from benchmarks.processes import Watch

__all__ = ["bulk", "on_cluster", "trained"]


def trained(part: str, size: int, folder: Path) -> None:
    """Make a run with a CF model, for bulk; in a process of its own, whose memory is not counted."""
    torch.set_num_threads(1)
    users, items = (size, 10_000) if part.endswith("users") else (1_000, size)
    changes = {
        "pretrain.model.dim": 64,
        "pretrain.training.epochs": 1,
        "pretrain.training.batch_size": 1_000,
        "beside": [],
    }
    dataset = world(users, items).dataset
    run = Run.create(folder / f"{part}-{size}", dataset, load_recipe("paper", changes), "cpu")
    with progress_shown(False):
        run.train(until="pretrain")


def bulk(part: str) -> Callable[[int, Path], Callable[[], object]]:
    """Open a run and recommend, each time into a folder of its own."""

    def made(size: int, folder: Path) -> Callable[[], object]:
        return lambda: recommend_users(
            Run.open(folder / f"{part}-{size}", "cpu"), tempfile.mkdtemp(dir=folder), system="backbone"
        )

    return made


def on_cluster(run: Path, folder: Path) -> tuple[float, float]:
    """Recommend for everybody by two actors of a cluster that is there already.

    Args:
        run: the run's folder.
        folder: for what is written.

    Returns:
        Processor seconds, those in which the actors start among them, and megabytes by which memory rose: of this process and the cluster.
    """
    # Ray's own is 15, behind everything else on the machine.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so
    connect(ray, "local")
    try:
        with Watch(os.getpid()) as watch, progress_shown(False):
            before = watch.peak_mb
            recommend_users(Run.open(run, "cpu"), tempfile.mkdtemp(dir=folder), system="backbone", engine=RayEngine(2))
        return watch.cpu_seconds, watch.peak_mb - before
    finally:
        ray.shutdown()
