"""LLM-SRec beside the CF model that it stands on: among candidates, and over the whole catalogue.

    python -m benchmarks.llm_srec data/movietweetings runs/llm-srec --name llm-srec

What is trained in the run's folder already is left as it is. The figures stand in NAME.json, with the log of the training.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from allmrec.core.artifacts import read_json
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import Report, render
from allmrec.evaluation.intervals import Estimate
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.systems.evaluating import evaluate_catalogue, evaluate_run
from allmrec.systems.registry import SYSTEMS, train_systems
from benchmarks.about import measured_on
from benchmarks.tables import RESULTS, curve, write_result

ROWS = ("popularity", "backbone", "llm-srec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data")
    parser.add_argument("run", type=Path, help="the run's folder, there or not yet")
    parser.add_argument("--recipe", default="benchmarks/llm_srec.toml")
    parser.add_argument("--name", default="llm-srec", help="name of the file under benchmarks/results")
    parser.add_argument("--note", default="", help="what else a reader must know")
    arguments = parser.parse_args()
    about = measured_on(" ".join(["python -m benchmarks.llm_srec", *sys.argv[1:]]))
    torch.set_num_threads(1)
    config = load_recipe(arguments.recipe)
    if (arguments.run / "run.json").is_file():
        run = Run.open(arguments.run).with_config(config)
        run.keep()
    else:
        run = Run.create(arguments.run, InteractionDataset.load(arguments.data), config)
    train_systems(run, [config.pretrain.backbone, "llm-srec"], print)
    begun = time.process_time()
    reports = {"candidates": evaluate_run(run, ROWS), "catalogue": evaluate_catalogue(run, ROWS)}
    evaluated = time.process_time() - begun
    for report in reports.values():
        Console().print(render(report))
    (stage,) = SYSTEMS["llm-srec"].stages(config)
    folder = run.path / run.stage(stage).place
    log = read_json(folder / "log.json")
    log["records"] = curve(log["records"])
    found = {
        "note": arguments.note,
        "data_users": run.dataset.n_users,
        "config": config.model_dump(mode="json"),
        "trained": read_json(folder / "manifest.json")["created"],
        "evaluation_cpu_seconds": round(evaluated, 1),
        "log": log,
        **{name: [row(report, system) for system in report.by_name] for name, report in reports.items()},
    }
    path = RESULTS / f"{arguments.name}.json"
    write_result(path, about | found)
    print(f"Written: {path}")


def row(report: Report, name: str) -> dict[str, Any]:
    """A system's figures, and its differences to the CF model, each as value, low and high."""
    system = report.by_name[name]
    less = {one.metric: triple(one.estimate) for one in report.differences if one.system == name}
    metrics = {metric: triple(estimate) for metric, estimate in system.metrics.items()}
    return {"system": name, "users": system.n_users, "metrics": metrics, "less": less, "note": system.note}


def triple(estimate: Estimate) -> list[float]:
    return [round(value, 6) for value in (estimate.value, estimate.low, estimate.high)]


if __name__ == "__main__":
    main()
