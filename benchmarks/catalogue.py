"""A run's systems over the whole catalogue, what A-LLMRec adds to its retriever, and what shuffled histories cost each.

    python -m benchmarks.catalogue runs/movietweetings --title-users 500

The figures stand in catalogue-NAME.json, NAME being the run's folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from allmrec.core.seeding import numpy_generator
from allmrec.evaluation import Report, render
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference
from allmrec.evaluation.order import OrderTest
from allmrec.evaluation.report import SystemResult
from allmrec.library import Run
from allmrec.systems.evaluating import evaluate_catalogue, run_protocol
from allmrec.systems.recommending import open_recommender, retrieve_by_towers
from allmrec.systems.registry import system_kind
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result


def triple(estimate: Estimate) -> list[float]:
    """Value, low and high."""
    return [round(float(number), 5) for number in (estimate.value, estimate.low, estimate.high)]


def lost(system: SystemResult, order: OrderTest) -> dict[int, float]:
    """What shuffling costs each user: NDCG@10 of the shuffled history less that of the one in order."""
    shuffled = np.array([np.inf if rank is None else rank for rank in order.ranks], dtype=np.float64)
    return dict(zip(system.users, gains(shuffled) - gains(system.rank_array()), strict=True))


def rows(report: Report) -> list[dict[str, Any]]:
    """Each system's figures, its differences to the CF model's, and those of shuffled histories."""
    found = []
    for system in report.systems:
        less = {one.metric: triple(one.estimate) for one in report.differences if one.system == system.name}
        order = system.order.differences if system.order else {}
        reference, more = report.by_name.get(report.reference), None
        if system.order and reference and reference.order and reference is not system:
            own, of_reference = lost(system, system.order), lost(reference, reference.order)
            both = [user for user in system.users if user in of_reference]
            mine, theirs = (np.array([of[user] for user in both]) for of in (own, of_reference))
            more = triple(paired_difference(mine, theirs, numpy_generator(0, "order")))
        found.append(
            {
                "system": system.name,
                "users": system.n_users,
                "metrics": {metric: triple(estimate) for metric, estimate in system.metrics.items()},
                "less": less,
                "shuffled_less": {metric: triple(estimate) for metric, estimate in order.items()},
                "shuffled_less_than_reference": more,
                "note": system.note,
            }
        )
    return found


def gains(ranks: np.ndarray) -> np.ndarray:
    """NDCG@10 of each rank from 1; infinity for a miss."""
    return np.where(ranks <= 10, 1 / np.log2(1.0 + np.minimum(ranks, 10.0)), 0.0)


def random_order(run: Run, system: SystemResult) -> dict[str, Any]:
    """What the items that are retrieved for a system's users would be worth in random order, and how much more it makes of them."""
    protocol, retriever = run_protocol(run), "towers" if retrieve_by_towers(run) else "backbone"
    items, asked = run.config.answer.retrieve.items, np.isin(protocol.users, system.user_array())
    queries, targets = (
        [q for q, of in zip(protocol.queries(run.split), asked, strict=True) if of],
        protocol.targets[asked],
    )
    met = [np.setdiff1d(query.history, [target]) for query, target in zip(queries, targets, strict=True)]
    found = open_recommender(run, retriever).recommender.top(queries, met, items)
    among = np.array(
        [target in ranking.items for ranking, target in zip(found, targets, strict=True)], dtype=np.float64
    )
    by_chance = among * gains(np.arange(1.0, items + 1)).mean()
    own = dict(zip(system.users, gains(system.rank_array()), strict=True))
    ordered = np.array([own[int(user)] for user in protocol.users[asked]])
    return {
        "system": system.name, "retriever": retriever, "items": items, "users": len(targets),
        "share_with_target": triple(bootstrap_mean(among, numpy_generator(0, "share"))),
        "ndcg@10_in_random_order": triple(bootstrap_mean(by_chance, numpy_generator(0, "random"))),
        "ndcg@10_less_random": triple(paired_difference(ordered, by_chance, numpy_generator(0, "less"))),
    }  # fmt: skip


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
    of_titles = [system for system in report.systems if system.key and system_kind(system.key).prompted]
    chance = [random_order(run, system) for system in of_titles]
    found = {"items": run.dataset.n_items, "rows": rows(report), "pairs": pairs, "random_order": chance}
    path = RESULTS / f"catalogue-{arguments.run.name}.json"
    write_result(path, about | found)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
