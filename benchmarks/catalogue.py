"""A run's systems over the whole catalogue, what A-LLMRec adds to its retriever, and what shuffled histories cost each.

    python -m benchmarks.catalogue runs/movietweetings --title-users 500

The figures stand in catalogue-NAME.json, NAME being the run's folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from allmrec.evaluation import Report, render
from allmrec.evaluation.intervals import Estimate
from allmrec.library import Run
from allmrec.systems.evaluating import evaluate_catalogue
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result


def triple(estimate: Estimate) -> list[float]:
    """Value, low and high."""
    return [round(float(number), 5) for number in (estimate.value, estimate.low, estimate.high)]


def rows(report: Report) -> list[dict[str, Any]]:
    """Each system's figures, its differences to the CF model's, and those of shuffled histories."""
    found = []
    for system in report.systems:
        less = {one.metric: triple(one.estimate) for one in report.differences if one.system == system.name}
        order = system.order.differences if system.order else {}
        found.append(
            {
                "system": system.name,
                "users": system.n_users,
                "metrics": {metric: triple(estimate) for metric, estimate in system.metrics.items()},
                "less": less,
                "shuffled_less": {metric: triple(estimate) for metric, estimate in order.items()},
                "note": system.note,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--systems", default="popularity,backbone,text-tower,towers,late-fusion,allmrec")
    parser.add_argument("--title-users", type=int, default=500, help="for systems that score titles")
    arguments = parser.parse_args()
    about = measured_by("catalogue")
    torch.set_num_threads(1)
    run = Run.open(arguments.run)
    asked = {"users": None, "title_users": arguments.title_users, "order_test": True}
    run = run.with_config(run.config.model_copy(update={"evaluation": run.config.evaluation.model_copy(update=asked)}))
    report = evaluate_catalogue(run, arguments.systems.split(","))
    Console().print(render(report))
    pairs = [
        {
            "title": pair.title,
            "of": pair.system,
            "less": pair.against,
            "users": pair.differences[0].n_users,
            "differences": {one.metric: triple(one.estimate) for one in pair.differences},
        }
        for pair in report.pairs
    ]
    found = {"items": run.dataset.n_items, "rows": rows(report), "pairs": pairs}
    path = RESULTS / f"catalogue-{arguments.run.name}.json"
    write_result(path, about | found)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
