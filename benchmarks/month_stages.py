"""A month of weekly updates of A-LLMRec: stages 1 and 2 kept, updated by the rule, or everything trained anew each week.

    python -m benchmarks.month_stages DATA [--weeks 4] [--users 150] [--first RUN]

The data is cut as `benchmarks.month` does, and the CF model is the same small one. Stages 1 and 2 are those of the recipe `demo`, with
SmolLM2-135M and MiniLM, and fewer samples (`config`). Up to the cut everything is trained once. Then each week's interactions come, and
three ways go on, in processes of one thread:

- kept: `allmrec update`, which trains the CF model only and keeps stages 1 and 2 all month;
- rule: `allmrec update --keep-within LIMIT`, with a quarter of the training for what goes on;
- anew: everything is trained from nothing on the same data.

All are asked for the week after: of a sample of the users with a history who interacted in it, the first item that the data knows,
among 19 items that the user has not met, then or that week. Candidates are the same for all ways. "Moved" is what an update measures: from the run
before ("week"), and from the run that stages 1 and 2 were trained in at first ("since").
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from rich.console import Console

from allmrec.core.config import parse_config
from allmrec.core.hashing import content_hash
from allmrec.core.seeding import numpy_generator
from allmrec.data.growing import Growth, grown
from allmrec.data.interactions import InteractionDataset
from allmrec.data.memory import dataset as dataset_of
from allmrec.data.negatives import sample_negatives
from allmrec.data.sources.base import RawData
from allmrec.data.sources.newer import NewerConfig, read_newer_files
from allmrec.evaluation.metrics import target_ranks
from allmrec.pipeline.run import Run
from allmrec.pipeline.schedule import train
from allmrec.ranking import Query
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe
from allmrec.stages.tune import allmrec_stages
from allmrec.systems.registry import open_systems
from allmrec.systems.updating import update_run
from benchmarks.about import measured_by
from benchmarks.figures import SHOWN, differences, estimates, user_values
from benchmarks.month import Log, cut_of, moved, span
from benchmarks.month import config as cf_config
from benchmarks.tables import RESULTS, write_result

TARGET = RESULTS / "month-stages.json"
SYSTEMS = ("allmrec", "backbone")

# The target and 19 others.
_CANDIDATES = 20


@dataclass
class Clock:
    """Processor seconds by stage, from the lines that training logs, each of which comes behind what it speaks of."""

    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.process_time)

    def __call__(self, line: str) -> None:
        name, now = line.partition(":")[0], time.process_time()
        name = name if name in ("pretrain", "align", "texts", "tune") else "other"
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.since
        self.since = now

    def rounded(self) -> dict[str, float]:
        """Up to now."""
        self("end")
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Month:
    """What every way is given.

    Attributes:
        data: folder of the prepared data.
        first: the run up to the cut.
        folder: where runs go.
        weeks: how many.
        users: of whom so many are asked each week.
        keep_within: of the rule.
    """

    data: Path
    first: Path
    folder: Path
    weeks: int
    users: int
    keep_within: float

    @cached_property
    def whole(self) -> InteractionDataset:
        """All data."""
        return InteractionDataset.load(self.data)

    @cached_property
    def log(self) -> Log:
        """All interactions in the order of their times."""
        return Log(self.whole)

    def titles(self, items: Iterable[str]) -> dict[str, str | None]:
        """Titles of some items, in the order of their ids."""
        return {item: self.whole.catalogue.titles[self.whole.items.number(item)] for item in sorted(set(items))}

    def begun(self) -> InteractionDataset:
        """The data up to the cut."""
        columns = self.log.between(-np.inf, cut_of(self.log, self.weeks))
        return dataset_of(columns, self.titles(columns["item_id"]))

    def between(self, week: int) -> dict[str, list[Any]]:
        """A week's interactions."""
        return self.log.between(*span(self.log, week, self.weeks))

    def table(self, folder: Path, week: int) -> RawData:
        """A week's interactions and the titles of their items, read as the command reads them."""
        came = self.between(week)
        interactions, items = folder / f"week-{week}.csv", folder / f"items-{week}.csv"
        with interactions.open("w", newline="") as file:
            csv.writer(file).writerows([list(came), *zip(*came.values(), strict=True)])
        with items.open("w", newline="") as file:
            csv.writer(file).writerows([["item_id", "title"], *self.titles(came["item_id"]).items()])
        return read_newer_files(parse_config(NewerConfig, {"interactions": interactions, "items": items}, "The table"))


@dataclass(frozen=True)
class Asked:
    """A week's questions."""

    queries: list[Query]
    targets: Int64[np.ndarray, " users"]
    candidates: Int32[np.ndarray, "users candidates"]

    @property
    def hash(self) -> str:
        """Equal where the same users are asked for the same targets among the same candidates."""
        return content_hash("month", np.array([q.user for q in self.queries]), self.targets, self.candidates)


def config(part: Literal["whole", "update"]) -> RunConfig:
    """The recipe `demo` with a small CF model and fewer samples; a fourth of the passes in an update."""
    epochs = 8 if part == "whole" else 2
    stages = {"align.training.epochs": 2, "tune.training.epochs": 4}
    if part == "update":
        stages = {"align.training.epochs": 1, "tune.training.epochs": 1}
    cf = cf_config(32, epochs)
    return load_recipe("demo").changed(
        {"beside": [], "pretrain": cf.pretrain.model_dump(mode="json")}
        | {"align.samples_per_epoch": 1500, "tune.samples_per_epoch": 384, "tune.copying.steps": 60}
        | {"tune.validation_users": 24, "align.validation_items": 500}
        | stages
    )


def asked(data: InteractionDataset, comes: Mapping[str, list[Any]], count: int, week: int) -> tuple[Asked, int]:
    """Known users who interact in a week, the first item of each that the data holds; and how many have none."""
    rng = numpy_generator(0, "month", week)
    firsts: dict[str, str] = {}
    met: dict[str, set[int]] = {}
    for user, item in zip(comes["user_id"], comes["item_id"], strict=True):
        if user in data.users and item in data.items:
            firsts.setdefault(user, item)
            met.setdefault(user, set()).add(data.items.number(item))
    unknown = sum(user in data.users for user in set(comes["user_id"])) - len(firsts)
    names = sorted(firsts)
    names = [names[row] for row in rng.permutation(len(names))[:count]]
    numbers = np.array([data.users.number(name) for name in names])
    widest = max(len(met[name]) for name in names)
    also = np.array([[*met[name], *[0] * (widest - len(met[name]))] for name in names])
    targets = np.array([data.items.number(firsts[name]) for name in names])
    negatives = sample_negatives(data, numbers, _CANDIDATES - 1, rng, exclude_extra=also)
    shown = rng.permuted(np.concatenate([targets[:, None], negatives], axis=1), axis=1).astype(np.int32)
    return Asked([Query(data.sequence(int(user)), int(user)) for user in numbers], targets, shown), unknown


def ranks(run: Run, questions: Asked) -> tuple[dict[str, Float64[np.ndarray, " users"]], float]:
    """Each system's ranks of the targets, and the processor seconds of A-LLMRec's."""
    opened, found, seconds = open_systems(run, SYSTEMS), {}, 0.0
    for name, system in opened.items():
        started = time.process_time()
        found[name] = target_ranks(system.ranker.rank(questions.queries, list(questions.candidates)), questions.targets)
        if name == "allmrec":
            seconds = time.process_time() - started
    return found, seconds


def anew(folder: Path, data: InteractionDataset, log: Clock) -> Run:
    """Everything from nothing."""
    run = Run.create(folder, data, config("whole"), "cpu")
    train([(run, allmrec_stages(run.config))], log)
    return run


def gone_on(month: Month, way: str) -> list[dict[str, Any]]:
    """A month of updates in one way: by week, what `measured` gives."""
    torch.set_num_threads(1)
    folder = month.folder / way
    folder.mkdir()
    first = last = Run.open(month.first, "cpu")
    found, limit = [], 2.0 if way == "kept" else month.keep_within
    for week in range(1, month.weeks + 1):
        raw, clock, earlier = month.table(folder, week), Clock(), last
        made = update_run(earlier, raw, folder / str(week), config=config("update"), keep_within=limit, log=clock)
        if made.run is None:
            raise SystemExit(f"Week {week} has nothing new; give data with interactions in every week.")
        seconds, last = clock.rounded(), made.run
        about = {
            "cpu_seconds": seconds,
            "kept": sorted(made.kept),
            "moved": {
                "stages": {name: round(value, 5) for name, value in made.moved.items()},
                "week": moved(earlier, last),
                "since": moved(first, last),
            },
        }
        found.append(measured(month, last, made.growth, week) | about)
        print(way, week, {k: v for k, v in found[-1].items() if k != "ranks"}, flush=True)
    return found


def week_anew(month: Month, week: int) -> dict[str, Any]:
    """A week of the way `anew`; weeks do not depend on one another."""
    torch.set_num_threads(1)
    folder = month.folder / f"anew-{week}"
    folder.mkdir()
    data = Run.open(month.first, "cpu").dataset
    for number in range(1, week + 1):
        data, growth = grown(data, month.table(folder, number))
    clock = Clock()
    run = anew(folder / "run", data, clock)
    found = {"cpu_seconds": clock.rounded()} | measured(month, run, growth, week)
    print("anew", week, {k: v for k, v in found.items() if k != "ranks"}, flush=True)
    return found


def measured(month: Month, run: Run, growth: Growth, week: int) -> dict[str, Any]:
    """Ranks of the week after, what was asked, and what it cost to answer."""
    questions, unknown = asked(run.dataset, month.between(week + 1), month.users, week)
    theirs, seconds = ranks(run, questions)
    return {
        "ranks": theirs, "asked": questions.hash, "users": len(questions.queries), "unknown_targets": unknown,
        "interactions": growth.interactions, "new_users": growth.users, "new_items": growth.items,
        "cpu_seconds_answers": round(seconds, 1),
    }  # fmt: skip


def compared(by_way: Mapping[str, list[dict[str, Any]]], system: str, seed: str) -> dict[str, Any]:
    """All weeks together: each way's figures, and differences paired over the users of each week."""
    values = {way: user_values([np.concatenate([w["ranks"][system] for w in weeks])]) for way, weeks in by_way.items()}
    pairs = (("kept", "anew"), ("rule", "anew"), ("rule", "kept"))
    return {
        "month": {way: estimates(own, seed) for way, own in values.items()},
        "less": {f"{one} less {other}": differences(values[one], values[other], seed) for one, other in pairs},
    }


def week_row(by_way: Mapping[str, list[dict[str, Any]]], week: int) -> dict[str, Any]:
    """A week's figures of all ways."""
    rows = {way: weeks[week] for way, weeks in by_way.items()}
    if len({row["asked"] for row in rows.values()}) > 1:
        raise SystemExit(f"Week {week + 1}: the ways were not asked the same; their data differ.")
    common = ("interactions", "new_users", "new_items", "users", "unknown_targets")
    own = ("cpu_seconds", "cpu_seconds_answers", "kept", "moved")
    figures = {
        system: {
            way: {name: round(float(one.mean()), 5) for name, one in user_values([row["ranks"][system]]).items()}
            for way, row in rows.items()
        }
        for system in SYSTEMS
    }
    return {
        "week": week + 1,
        **{name: rows["kept"][name] for name in common},
        "ways": {way: {name: row[name] for name in own if name in row} for way, row in rows.items()},
        "figures": figures,
        "less": {
            other: differences(
                user_values([rows["kept"]["ranks"]["allmrec"]]), user_values([rows[other]["ranks"]["allmrec"]]), "week"
            )
            for other in ("anew", "rule")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--users", type=int, default=150, help="asked each week")
    parser.add_argument("--keep-within", type=float, default=0.05, help="of the rule")
    parser.add_argument(
        "--first", type=Path, help="a run that an earlier call trained up to the cut, with these settings"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="allmrec-month-") as folder:
        first = arguments.first or Path(folder, "first")
        month = Month(
            arguments.data.resolve(), first, Path(folder), arguments.weeks, arguments.users, arguments.keep_within
        )
        data, seconds = month.begun(), None
        if arguments.first is None:
            clock = Clock()
            anew(first, data, clock)
            seconds = clock.rounded()
        elif (run := Run.open(first, "cpu")).data_hash != data.content_hash or run.config != config("whole"):
            raise SystemExit(f"{first} is a run of other data or settings; leave --first out.")
        weeks = range(1, arguments.weeks + 1)
        with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
            on = {way: pool.submit(gone_on, month, way) for way in ("kept", "rule")}
            fresh = [pool.submit(week_anew, month, week) for week in weeks]
            by_way = {way: one.result() for way, one in on.items()} | {"anew": [one.result() for one in fresh]}
    about = {"users": data.n_users, "items": data.n_items, "interactions": data.n_interactions, "cpu_seconds": seconds}
    result = {
        "data": arguments.data.name,
        "keep_within": arguments.keep_within,
        "config": {part: config(part).model_dump(mode="json") for part in ("whole", "update")},
        "candidates": _CANDIDATES,
        "first": about,
        "weeks": [week_row(by_way, week) for week in range(arguments.weeks)],
        "systems": {system: compared(by_way, system, "month") for system in SYSTEMS},
    }
    by = measured_by("month_stages")
    by["command"] = str(by["command"]).replace(str(arguments.data), f"data/{arguments.data.name}")
    if arguments.first is not None:
        by["command"] = str(by["command"]).replace(str(arguments.first), "RUN")
    write_result(TARGET, by | result)
    Console(width=140).print({name: result[name] for name in ("weeks", "systems")} | {"metrics": SHOWN})


if __name__ == "__main__":
    main()
