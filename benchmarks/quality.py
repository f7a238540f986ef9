"""Evaluate a trained run and keep the figures: `python -m benchmarks.quality runs/long --name movielens-long`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from allmrec.core.artifacts import read_json
from allmrec.evaluation import Report, render, verdict
from allmrec.library import Run
from allmrec.systems.evaluating import evaluate_run, run_protocol
from allmrec.systems.registry import SYSTEMS
from benchmarks.about import measured_on
from benchmarks.rank_files import Asked, placed, write_ranks
from benchmarks.tables import RESULTS, curve, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True, help="name of the file under benchmarks/results")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--title-users", type=int, help="users for systems that score titles; default: the recipe's")
    parser.add_argument("--note", default="", help="what else a reader must know, e.g. the commit that trained the run")
    arguments = parser.parse_args()
    command = " ".join(["python -m benchmarks.quality", *sys.argv[1:]])
    run = Run.open(arguments.run)
    if arguments.title_users is not None:
        wanted = run.config.evaluation.model_copy(update={"title_users": arguments.title_users})
        run = run.with_config(run.config.model_copy(update={"evaluation": wanted}))
    about = measured_on(command)
    report = evaluate_run(run, arguments.systems.split(","), command, str(about["commit"]))
    Console().print(render(report))
    print(verdict(report))
    logs = {name: read_json(run.path / name / "log.json") for name in run.stages}
    for log in logs.values():
        log["records"] = curve(log["records"])
    made = {name: read_json(run.path / name / "manifest.json")["created"] for name in run.stages}
    path = RESULTS / f"{arguments.name}.json"
    config, protocol = run.config.model_dump(mode="json"), run_protocol(run)
    if run.config.evaluation.users is not None:
        protocol = protocol.first(run.config.evaluation.users)
    asked = Asked.of(protocol)
    write_ranks(path.with_suffix(".npz"), asked, {s.name: placed(protocol, s.users, s.ranks) for s in report.systems})
    write_result(
        path,
        about
        | {
            "note": arguments.note,
            "config": config,
            "stages": made,
            "logs": logs,
            "protocol": asked.named(),
            "report": without_ranks(report),
        },
    )
    print(f"Written: {path}")


def without_ranks(report: Report) -> dict[str, Any]:
    """A report's figures and provenance; users are the protocol's, and their ranks have a file of their own."""
    value = json.loads(report.to_json())
    for name in ("kind", "format", "hash"):
        del value[name]
    for system in value["systems"]:
        del system["users"], system["ranks"]
    return value


if __name__ == "__main__":
    main()
