"""Many requests in one call against one call each: `python -m benchmarks.request_speed RUN`.

Of the run's CF model and, with `--titles`, of A-LLMRec. That is compared too with what its ranker does with the candidates of the
same requests when nothing is looked up or retrieved. Times are of one thread's CPU, so that work beside it counts little. A system that is
not measured keeps its row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.library import Run
from allmrec.recommend.request import Request, resolve
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, read_table, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--titles", type=int, default=0, help="requests to A-LLMRec; 0: none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("request_speed")
    run = Run.open(arguments.run, "cpu")
    rows = [of_cf(run, arguments.requests)]
    if arguments.titles:
        rows += of_titles(run, arguments.titles)
    target, new = RESULTS / "request-speed.json", [about | row for row in rows]
    measured = {(row["system"], row["against"]) for row in new}
    new += [row for row in read_table(target).get("rows", []) if (row["system"], row["against"]) not in measured]
    write_result(target, {"rows": new})
    shown = Table("system", "requests", "together, a second", "against", "a second", "ratio")
    for row in rows:
        rates = (
            f"{row['together']:.4g}",
            row["against"],
            f"{row['theirs']:.4g}",
            f"{row['together'] / row['theirs']:.2f}",
        )
        shown.add_row(row["system"], str(row["requests"]), *rates)
    Console(width=140).print(shown)


def of_cf(run: Run, count: int) -> dict[str, Any]:
    """The CF model: all requests in one call, and one call each."""
    recommender = run.recommender(run.config.pretrain.backbone)
    users = [run.dataset.users.id(number) for number in range(min(count, run.dataset.n_users))]
    requests = [Request(user=user) for user in users]
    recommender.recommend(requests[:50])
    together = len(users) / seconds(lambda: recommender.recommend(requests))
    theirs = len(users) / seconds(lambda: [recommender.recommend(user=user) for user in users])
    return {"system": recommender.name, "requests": len(users), "together": together, "against": "one call each", "theirs": theirs}  # fmt: skip


def of_titles(run: Run, count: int) -> list[dict[str, Any]]:
    """A-LLMRec: all requests in one call; one call each; and its ranker alone on the same queries and candidates."""
    model = run.recommender()
    users = range(min(count, run.dataset.n_users))
    requests = [Request(user=run.dataset.users.id(number), k=20) for number in users]
    answers = model.recommend(requests)
    queries = [resolve(run.dataset, request).query for request in requests]
    items = run.dataset.items
    candidates = [np.asarray(items.numbers([item.item_id for item in answer])) for answer in answers]
    together = len(requests) / seconds(lambda: model.recommend(requests))
    others: dict[str, Callable[[], Any]] = {
        "one call each": lambda: [model.recommend([request]) for request in requests],
        "its ranker alone, the same 20 candidates": lambda: model.rank(queries, candidates),
    }
    row = {"system": "A-LLMRec", "requests": len(requests), "together": together}
    return [row | {"against": name, "theirs": len(requests) / seconds(work)} for name, work in others.items()]


def seconds(work: Callable[[], Any]) -> float:
    """The least of three CPU times."""
    found = []
    for _ in range(3):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


if __name__ == "__main__":
    main()
