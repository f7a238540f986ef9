"""The shipped plans on real sets, and the report of them that stands in docs.

    python -m benchmarks.experiments measure [EXPERIMENT ...] [--minutes 60]
    python -m benchmarks.experiments report

`measure` runs `allmrec experiment` for each entry of `experiments.toml` with the data and the cuts that stand there. What is done is kept in
`benchmarks/results/experiments`, and trained stages in `runs/experiments/stages`, for all together; after `--minutes` it
stops, and the same command goes on. A cell that was killed goes on from its last saved step. `report` makes `docs/experiments.html` of
all of them, with the claims that the plans have now, and the list that `allmrec experiment --list` shows; it removes results that no experiment names any more.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from allmrec.core.artifacts import atomic_write, write_json
from allmrec.experiments.cuts import cuts_of
from allmrec.experiments.found import Experiment, read_experiments
from allmrec.experiments.plan import Plan, load_plan
from allmrec.experiments.record import FILE, Record
from allmrec.experiments.results import Results
from allmrec.experiments.writing import write_report
from benchmarks.tables import RESULTS

FOLDER = RESULTS / "experiments"
STAGES = Path("runs/experiments/stages")
PAGE = Path(__file__).parents[1] / "docs" / "experiments.html"
MEASURED = Path(__file__).parents[1] / "src" / "allmrec" / "experiments" / "measured.json"


def settings() -> dict[str, Any]:
    """`experiments.toml`."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@dataclass(frozen=True)
class Measured:
    """What an experiment is measured with.

    Attributes:
        name: of its folder.
        plan: of the package.
        data: folders of the sets.
        users, users_of, seeds_of: as options of `allmrec experiment`.
        set: changed fields of the recipe: those of all, then its cut's, then its own.
        seeds: of training.
        without: rows of the plan that are not measured.
    """

    name: str
    plan: str
    data: Sequence[str]
    users: int
    users_of: Mapping[str, int]
    set: Sequence[str]
    seeds: Sequence[int]
    seeds_of: Mapping[str, int]
    without: Sequence[str]

    def command(self, data: Path) -> list[str]:
        """The words that measure it.

        Args:
            data: folder of the prepared sets.
        """
        words = [
            str(Path(sys.executable).with_name("allmrec")),
            "experiment",
            self.plan,
            "-o",
            os.path.relpath(FOLDER / self.name),  # it is written into every cell
            "--results",
            os.path.relpath(FOLDER),
            "--stages",
            str(STAGES),
        ]
        for name in self.data:
            words += ["--data", str(data / name)]
        words += ["--users", str(self.users)]
        for system, users in self.users_of.items():
            words += ["--users-of", f"{system}={users}"]
        for system, seeds in self.seeds_of.items():
            words += ["--seeds-of", f"{system}={seeds}"]
        if self.without:
            words += ["--without", ",".join(self.without)]
        for change in self.set:
            words += ["--set", change]
        return [*words, "--seeds", ",".join(map(str, self.seeds))]


def measured(of: Mapping[str, Any]) -> list[Measured]:
    """The experiments of `experiments.toml`.

    Args:
        of: its content.
    """
    found = []
    for name, own in of["experiments"].items():
        cut = of["cuts"][own["cut"]] if "cut" in own else {}
        options = of["options"] | cut | own
        changes = [*of["options"]["set"], *cut.get("set", []), *own.get("set", [])]
        found.append(
            Measured(
                name,
                own.get("plan", name),
                own["data"],
                options["users"],
                options["users_of"],
                changes,
                options["seeds"],
                options["seeds_of"],
                own.get("without", []),
            )
        )
    return found


def measure(names: list[str], data: Path, minutes: float | None) -> None:
    """Experiments one after the other, until the time is over."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for one in measured(settings()):
        if names and one.name not in names:
            continue
        process = subprocess.Popen(one.command(data))
        try:
            process.wait(None if deadline is None else max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{one.name}: time is over; the same command goes on")
            process.send_signal(signal.SIGINT)
            process.wait()
            return
        if process.returncode:
            print(f"{one.name}: ended with status {process.returncode}")


def cost(found: Experiment, plan: str) -> dict[str, Any]:
    """What a plan took here, for `allmrec experiment --list`: to train each stage once, whoever trained it, and to ask."""
    done = list({str(one.about["key"]): one.about for one in found.done}.values())
    asking = sum(about["users"] / about["users_per_second"] for about in done if about.get("users_per_second"))
    devices = {str(about["device"]) for about in done}
    devices |= {part.device for about in done for part in found.times.parts(about) if part.device}
    cut = any(cuts_of(found.record.plan, section) for section in found.sections)
    sets = dict.fromkeys(one.cell.data for one in found.done)
    return {
        "plan": plan,
        "cells": len(found.done),
        "minutes": round((found.times.together(done) + asking) / 60),
        "cut": cut,
        "what": ", ".join(sets),
        "device": ", ".join(sorted(devices)),
        "date": max(str(about["date"])[:10] for about in done),
    }


def with_words_of(record: Record, plan: Plan) -> Record:
    """A record with the title, the words and the claims that its plan has now; none of them decides what a cell finds.

    Args:
        record: of an experiment that was measured.
        plan: as the package has it.
    """
    words = {"title": plan.title, "about": plan.about, "claims": plan.claims}
    return replace(record, plan=record.plan.model_copy(update=words))


def report() -> None:
    """The page, and what plans cost."""
    for one in measured(settings()):
        if (FOLDER / one.name / FILE).is_file():
            with_words_of(Record.read(FOLDER / one.name), load_plan(one.plan)).write(FOLDER / one.name)
    Results(FOLDER).keep_only(
        {key for path in FOLDER.glob(f"*/{FILE}") for key in Record.read(path.parent).keys.values()}
    )
    write_report(FOLDER, Console())
    (FOLDER / "report.md").unlink()
    atomic_write(PAGE, (FOLDER / "report.html").read_bytes())
    (FOLDER / "report.html").unlink()
    about = json.loads(MEASURED.read_text("utf-8"))
    plans = {one.name: one.plan for one in measured(settings())}
    runs = [cost(one, plans[one.folder.name]) for one in read_experiments(FOLDER) if one.done]
    write_json(MEASURED, about | {"runs": runs})


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "report"))
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="By name; none: all.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="Folder of the prepared sets.")
    parser.add_argument("--minutes", type=float, help="Stop then.")
    arguments = parser.parse_args()
    if arguments.what == "report":
        report()
    else:
        measure(arguments.names, arguments.data, arguments.minutes)


if __name__ == "__main__":
    main()
