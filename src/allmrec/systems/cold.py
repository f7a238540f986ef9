"""Cold by rule: below how many interactions an item's text vector counts, chosen on validation items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.errors import ArtifactError
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.pipeline.run import Run
from allmrec.pipeline.tune_stage import TUNE
from allmrec.ranking import Ranker

__all__ = ["THRESHOLDS", "cold_threshold"]

# Tried in this order; 0 is the CF vector for every item. The watched figure decides, and the smaller of equals.
THRESHOLDS = (0, 1, 3, 5, 10, 20)
_WATCHED = "NDCG@10"


def cold_threshold(run: Run, make: Callable[[int], Ranker], method: str) -> int:
    """The threshold of the configuration, or the best on validation items, kept in the run's `cold.json`.

    Args:
        run: a trained run.
        make: the system for a threshold.
        method: how it answers; each method has its own choice.

    Returns:
        Items with fewer interactions than this take their text vector; 0: none does.
    """
    wanted = run.config.answer.cold_below
    if wanted is not None:
        return wanted
    path, users = run.path / "cold.json", run.config.answer.cold_users
    key = f"{run.stage(TUNE).key} {method} {users} {run.config.evaluation.candidates}"
    try:
        kept: dict[str, Any] = read_json(path)
    except ArtifactError:
        kept = {}
    if kept.get(method, {}).get("key") == key:
        return int(kept[method]["below"])
    protocol = draw_protocol(run.split, "validation", None, run.config.evaluation.candidates, run.config.seed).first(
        users
    )
    counts = run.split.train_counts()[1:]
    figures: dict[int, float] = {}
    for number, below in enumerate(THRESHOLDS):
        # Where no item lies between this threshold and the one before, nothing would change.
        if number and not np.any((counts >= THRESHOLDS[number - 1]) & (counts < below)):
            continue
        report = evaluate_rankers([make(below)], protocol, run.split)
        figures[below] = report.systems[0].metrics[_WATCHED].value
    best = max(figures, key=lambda below: (figures[below], -below))
    choice = {"key": key, "below": best, "users": len(protocol), _WATCHED: {str(b): v for b, v in figures.items()}}
    write_json(path, kept | {method: choice})
    return best
