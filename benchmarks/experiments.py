"""The shipped plans on real sets, and the report of them that stands in docs.

    python -m benchmarks.experiments measure [PLAN ...] [--seeds 0] [--minutes 60]
    python -m benchmarks.experiments report

`measure` runs `allmrec experiment` for each plan of `experiments.toml` with the data and the cuts that stand there. What is done is kept in
`benchmarks/results/experiments/PLAN`, and trained stages in `runs/experiments/stages`, for all plans together; after `--minutes` it
stops, and the same command goes on. A cell that was killed goes on from its last saved step. `report` makes `docs/experiments.html` of
all of them, and the list that `allmrec experiment --list` shows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console

from allmrec.core.artifacts import atomic_write, write_json
from allmrec.experiments.found import Experiment, read_experiments
from allmrec.experiments.writing import write_report
from benchmarks.tables import RESULTS

FOLDER = RESULTS / "experiments"
STAGES = Path("runs/experiments/stages")
PAGE = Path(__file__).parents[1] / "docs" / "experiments.html"
MEASURED = Path(__file__).parents[1] / "src" / "allmrec" / "experiments" / "measured.json"


def settings() -> dict[str, Any]:
    """`experiments.toml`."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def changes(plan: str, of: dict[str, Any]) -> list[str]:
    """Changed fields of the recipe: those of all plans, then the plan's own."""
    return [*of["options"]["set"], *of["plans"][plan].get("set", [])]


def command(plan: str, of: dict[str, Any], data: Path, seeds: str | None) -> list[str]:
    """How a plan is measured."""
    options = of["options"] | of["plans"][plan]
    words = [
        str(Path(sys.executable).with_name("allmrec")),
        "experiment",
        plan,
        "-o",
        os.path.relpath(FOLDER / plan),  # it is written into every cell
        "--stages",
        str(STAGES),
    ]
    for name in options["data"]:
        words += ["--data", str(data / name)]
    words += ["--users", str(options["users"])]
    for system, users in options["users_of"].items():
        words += ["--users-of", f"{system}={users}"]
    for change in changes(plan, of):
        words += ["--set", change]
    if seeds is not None:
        words += ["--seeds", seeds]
    return words


def measure(plans: list[str], data: Path, seeds: str | None, minutes: float | None) -> None:
    """Plans one after the other, until the time is over."""
    of = settings()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for plan in plans or list(of["plans"]):
        process = subprocess.Popen(command(plan, of, data, seeds))
        try:
            process.wait(None if deadline is None else max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{plan}: time is over; the same command goes on")
            process.send_signal(signal.SIGINT)
            process.wait()
            return
        if process.returncode:
            print(f"{plan}: ended with status {process.returncode}")


def cost(found: Experiment) -> dict[str, Any]:
    """What a plan took here, for `allmrec experiment --list`."""
    done = [one.about for one in found.done]
    sets = dict.fromkeys(one.cell.data for one in found.done)
    return {
        "plan": found.folder.name,
        "cells": len(done),
        "minutes": round(sum(about["seconds"] for about in done) / 60),
        "what": ", ".join(sets),
        "device": ", ".join(sorted({str(about["device"]) for about in done})),
        "date": max(str(about["date"])[:10] for about in done),
    }


def report() -> None:
    """The page, and what plans cost."""
    write_report(FOLDER, Console())
    (FOLDER / "report.md").unlink()
    atomic_write(PAGE, (FOLDER / "report.html").read_bytes())
    (FOLDER / "report.html").unlink()
    about = json.loads(MEASURED.read_text("utf-8"))
    write_json(MEASURED, about | {"runs": [cost(one) for one in read_experiments(FOLDER) if one.done]})


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "report"))
    parser.add_argument("plans", nargs="*")
    parser.add_argument("--data", type=Path, default=Path("data"), help="Folder of the prepared sets.")
    parser.add_argument("--seeds", help="Seeds instead of the plans' own.")
    parser.add_argument("--minutes", type=float, help="Stop then.")
    arguments = parser.parse_args()
    if arguments.what == "report":
        report()
    else:
        measure(arguments.plans, arguments.data, arguments.seeds, arguments.minutes)


if __name__ == "__main__":
    main()
