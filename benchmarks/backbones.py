"""CF models and the simple ones beside them on real sets, several seeds: train, evaluate_rankers, keep; then collect.

    python -m benchmarks.backbones run data/games data/beauty --seeds 3
    python -m benchmarks.backbones collect

Every cell (set, system, seed) is a job of its own that writes its figures when it is done; a job that is there already
is not run again, so the command can be stopped and started. All systems and seeds answer the same frozen candidates, and
the first CATALOGUE_USERS of the same users are asked about the whole catalogue. Settings were chosen on validation items
(docs/backbones.md).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.baselines.ease import EASE
from allmrec.baselines.item_knn import ItemKNN
from allmrec.baselines.popularity import Popularity
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import BACKBONES
from allmrec.core.artifacts import content_hash, read_json, write_json
from allmrec.core.config import parse_config
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation import Report, draw_protocol, evaluate_rankers, evaluate_recommenders
from allmrec.ranking import Ranker
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.retrieve import AllItems, BackboneRetriever, Retriever
from benchmarks.about import measured_by, measured_on
from benchmarks.figures import Values, estimates, shown, user_values
from benchmarks.tables import RESULTS, write_result

CATALOGUE_USERS = 10_000
RESULT = RESULTS / "backbones.json"

SIMPLE: Mapping[str, Callable[[Split], Ranker]] = {
    "popularity": Popularity.of,
    "item-knn": ItemKNN.of,
    "ease": EASE.of,
}

# Chosen on validation items. The smaller set affords small steps, many epochs and SASRec's own loss; on the larger ones a
# softmax over 64 sampled items reached nearly the same figures in a third of the time.
_COMMON = {"betas": (0.9, 0.98)}
_SMALL = _COMMON | {"learning_rate": 1e-3, "batch_size": 128, "epochs": 200, "validate_every": 100, "patience": 8}
_LARGE = _COMMON | {"learning_rate": 3e-3, "batch_size": 256, "epochs": 40, "patience": 3}
_TRAINING: Mapping[str, Mapping[str, Any]] = {"movietweetings": _SMALL}
_LARGE_MODELS: Mapping[str, Mapping[str, Any]] = {
    "sasrec": {"model": {"objective": {"loss": "sampled_softmax", "negatives": 64}}}
}


def settings(name: str, data: str) -> PretrainConfig:
    """How a backbone is trained on a set."""
    model = {} if data in _TRAINING else _LARGE_MODELS.get(name, {})
    values = {"backbone": name, "windows": "all", "validation_users": 3000, "training": _TRAINING.get(data, _LARGE)}
    return parse_config(PretrainConfig, values | dict(model), f"the settings of {name}")


def run(folders: list[Path], systems: list[str], seeds: int, output: Path) -> None:
    """Do every job that is not done."""
    for folder in folders:
        dataset = InteractionDataset.load(folder)
        split = leave_one_out(dataset)
        for system in systems:
            for seed in range(1 if system in SIMPLE else seeds):
                _job(split, folder.name, system, seed, output / folder.name / f"{system}-{seed}")


def _job(split: Split, data: str, system: str, seed: int, path: Path) -> None:
    config = None if system in SIMPLE else settings(system, data).model_dump(mode="json")
    key = content_hash(f"{split.dataset.content_hash} {config} {seed} {CATALOGUE_USERS}")
    figures = path.with_suffix(".json")
    if figures.is_file() and read_json(figures)["key"] == key:
        print(f"{data} {system} {seed}: there already")
        return
    started, cpu = time.perf_counter(), time.process_time()
    log: dict[str, Any] = {}
    if system in SIMPLE:
        recommender: Ranker = SIMPLE[system](split)
        retriever: Retriever = AllItems(split.dataset.n_items)
    else:
        backbone, trained = pretrain(split, settings(system, data), seed)
        log = {"best_step": trained.best_step, "steps": trained.steps, "validation_ndcg@10": trained.best_value}
        recommender, retriever = BackboneRecommender(backbone, BACKBONES[system].title), BackboneRetriever(backbone)
    whole = Recommender(split.dataset, recommender, retriever)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    protocol = draw_protocol(split, "test", None, 20, seed=0)
    candidates = evaluate_rankers([recommender], protocol, split, reference=recommender.name)
    catalogue = evaluate_recommenders([whole], protocol.first(CATALOGUE_USERS), split, reference=recommender.name)
    about = measured_by("backbones")
    title = recommender.name
    ranks = {"ranks": _ranks(candidates), "catalogue_ranks": _ranks(catalogue)}
    write_json(figures, about | {"key": key, "title": title, "config": config, **log, **spent, **ranks})
    print(
        f"{data} {system} {seed}: {_line(candidates, 'Hit@1')}, whole catalogue {_line(catalogue, 'NDCG@10')}",
        flush=True,
    )


def _ranks(report: Report) -> list[int | None]:
    return list(report.systems[0].ranks)


def _line(report: Report, metric: str) -> str:
    return f"{metric} {report.systems[0].metrics[metric].value:.4f}"


def collect(output: Path) -> None:
    """Figures of all jobs, seeds taken together, into the result file and a table."""
    rows = [row for folder in sorted(output.iterdir()) if folder.is_dir() for row in _rows(folder)]
    write_result(RESULT, measured_on("python -m benchmarks.backbones collect") | {"cells": rows})
    Console().print(table(rows))
    print(f"Written: {RESULT}")


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for system in (*SIMPLE, *BACKBONES):
        jobs = [read_json(path) for path in sorted(folder.glob(f"{system}-*.json"))]
        if not jobs:
            continue
        values = {kind: [_user_values(job[ranks]) for job in jobs] for kind, ranks in _KINDS}
        yield {
            "data": folder.name,
            "system": jobs[0]["title"],
            "seeds": len(jobs),
            "users": len(jobs[0]["ranks"]),
            "catalogue_users": len(jobs[0]["catalogue_ranks"]),
            "figures": {kind: estimates(_mean(seeds), "backbones") for kind, seeds in values.items()},
            "deviations_of_seeds": {kind: _deviations(seeds) for kind, seeds in values.items()},
            "by_seed": [
                {kind: estimates(seeds[n], "backbones") for kind, seeds in values.items()}
                | {name: job.get(name) for name in _LOGGED}
                for n, job in enumerate(jobs)
            ],
            "config": jobs[0]["config"],
            "made": [{name: job[name] for name in ("device", "date", "commit", "command")} for job in jobs],
        }


_KINDS = (("20 candidates", "ranks"), ("whole catalogue", "catalogue_ranks"))
_LOGGED = ("seconds", "cpu_seconds", "steps", "best_step", "validation_ndcg@10")
_SHOWN = ("Hit@1", "NDCG@10", "Hit@10")


def _user_values(ranks: list[int | None]) -> Values:
    """Each user's value of the shown metrics, of one seed."""
    array = np.array([np.inf if rank is None else rank for rank in ranks], dtype=np.float64)
    return user_values([array], _SHOWN)


def _mean(seeds: list[Values]) -> Values:
    """Each user's mean over the seeds."""
    return {name: np.mean([seed[name] for seed in seeds], axis=0) for name in _SHOWN}


def _deviations(seeds: list[Values]) -> dict[str, float]:
    """How far the seeds' own means are from one another."""
    return {name: round(float(np.std([seed[name].mean() for seed in seeds])), 6) for name in _SHOWN}


def table(rows: list[dict[str, Any]]) -> Table:
    """What the documents show."""
    rendered = Table("set", "system", "Hit@1 of 20", "NDCG@10 of 20", "NDCG@10", "Hit@10", "CPU s")
    for row in rows:
        few, whole = row["figures"]["20 candidates"], row["figures"]["whole catalogue"]
        spent = float(np.mean([seed["cpu_seconds"] for seed in row["by_seed"]]))
        cells = (few["Hit@1"], few["NDCG@10"], whole["NDCG@10"], whole["Hit@10"])
        rendered.add_row(row["data"], row["system"], *map(shown, cells), f"{spent:.0f}")
    return rendered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("data", type=Path, nargs="*", help="folders that `allmrec prepare` wrote")
    parser.add_argument("--systems", default="popularity,item-knn,ease,ncf,gru4rec,nextitnet,sasrec")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/backbones"), help="where the jobs' figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "collect":
        collect(arguments.output)
    else:
        run(arguments.data, arguments.systems.split(","), arguments.seeds, arguments.output)


if __name__ == "__main__":
    main()
