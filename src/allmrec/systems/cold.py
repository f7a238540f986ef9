"""Cold by rule: below how many interactions an item's text vector counts, chosen on validation items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.errors import ArtifactError
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.pipeline.run import Run
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.stages.tune import TUNE
from allmrec.systems.keeping import partial_results
from allmrec.systems.kinds import System

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
    kept = _read(path) if path.exists() else {}
    if method in kept and kept[method]["key"] == key:
        return int(kept[method]["below"])
    protocol = draw_protocol(run.split, "validation", None, run.config.evaluation.candidates, run.config.seed).first(
        users
    )
    counts = run.split.train_counts()[1:]
    # Where no item lies between a threshold and the one before, nothing would change.
    tried = [
        below
        for before, below in zip((None, *THRESHOLDS), THRESHOLDS, strict=False)
        if before is None or np.any((counts >= before) & (counts < below))
    ]
    rankers = {f"text vectors below {below} interactions": _Renamed(make(below), below) for below in tried}
    systems = {name: System(ranker) for name, ranker in rankers.items()}
    found = partial_results(run, protocol, systems, f"cold rule {key}")
    report = evaluate_rankers(list(rankers.values()), protocol, run.split, kept=found)
    figures = {below: result.metrics[_WATCHED].value for below, result in zip(tried, report.systems, strict=True)}
    best = max(figures, key=lambda below: (figures[below], -below))
    choice = {"key": key, "below": best, "users": len(protocol), _WATCHED: {str(b): v for b, v in figures.items()}}
    write_json(path, kept | {method: choice})
    found.clear()
    return best


class _Renamed:
    """A ranker under a name that says which threshold it tries."""

    def __init__(self, ranker: Ranker, below: int) -> None:
        self.name = f"text vectors below {below} interactions"
        self._ranker = ranker

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        return self._ranker.rank(queries, candidates)


def _read(path: Path) -> dict[str, Any]:
    """The choices that were kept, by method.

    Raises:
        ArtifactError: the file holds something else.
    """
    kept = read_json(path)
    for method, choice in kept.items():
        fits = isinstance(choice, dict) and isinstance(choice.get("key"), str)
        if not fits or type(choice.get("below")) is not int or choice["below"] not in THRESHOLDS:
            raise ArtifactError(
                f"{path} has {method!r} = {choice!r}; expected a key and a threshold of {', '.join(map(str, THRESHOLDS))}. "
                "Remove it to choose again."
            )
    return kept
