"""A month of weekly updates on data with times: `allmrec update` against training anew, and against leaving the model as it is.

    python -m benchmarks.month DATA [--weeks 4] [--dim 32] [--epochs 8] [--update-epochs 2]

The data is cut so many weeks and one before its end. The CF model of the recipe `cpu`, made small, is trained up to the cut. Then
each week's interactions come: a run that goes on (`systems.updating`), and one that is trained anew on the same data. All are asked for
the week after, over the whole catalogue: of each user with a history who interacted in it, the first item. An item that is new in that
week counts as a miss of all. Processor seconds are those of one thread, reading the data included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from allmrec.core.config import parse_config
from allmrec.core.progress import progress_bar
from allmrec.data.interactions import InteractionDataset
from allmrec.data.memory import dataset as dataset_of
from allmrec.data.sources.table import TableConfig, read_table_files
from allmrec.pipeline.run import Run
from allmrec.pipeline.schedule import train
from allmrec.ranking import Query
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe
from allmrec.recommend.retrieve import BackboneRetriever
from allmrec.stages.align import ALIGN
from allmrec.stages.cf import PRETRAIN, backbone
from allmrec.systems.movement import Inputs
from allmrec.systems.updating import update_run
from benchmarks.about import measured_by
from benchmarks.figures import Values, differences, estimates, user_values
from benchmarks.tables import RESULTS, write_result

TARGET = RESULTS / "month.json"
_WEEK = 7 * 86_400


class Log:
    """All interactions as columns, in the order of their times.

    Args:
        data: has times.
    """

    def __init__(self, data: InteractionDataset) -> None:
        if data.times is None:
            raise SystemExit("The data has no times, and a month is cut by them.")
        users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
        order = np.argsort(data.times, kind="stable")
        self.times = data.times[order]
        self.users = [data.users.id(int(user)) for user in users[order]]
        self.items = [data.items.id(int(item)) for item in data.item_numbers[order]]

    def between(self, start: float, end: float) -> dict[str, list[Any]]:
        """Interactions after `start`, up to `end`."""
        part = slice(*np.searchsorted(self.times, [start, end], side="right"))
        return {"user_id": self.users[part], "item_id": self.items[part], "timestamp": self.times[part].tolist()}


def cut_of(log: Log, weeks: int) -> float:
    """The time up to which the first model is trained: so many weeks and one before the end."""
    return float(log.times[-1]) - (weeks + 1) * _WEEK


def span(log: Log, week: int, weeks: int) -> tuple[float, float]:
    """After which time a week's interactions come, and up to which; weeks count from 1, one more than `weeks` is asked about."""
    start = cut_of(log, weeks) + (week - 1) * _WEEK
    return start, start + _WEEK


def config(dim: int, epochs: int) -> RunConfig:
    """The recipe's CF model, small."""
    changes = {"dim": dim, "heads": 1, "max_history": 20}
    training = {"epochs": epochs, "validate_every": 66, "patience": 4}
    return load_recipe("cpu").changed(
        {"pretrain.validation_users": 1000}
        | {f"pretrain.model.{name}": value for name, value in changes.items()}
        | {f"pretrain.training.{name}": value for name, value in training.items()}
    )


def timed(work: Callable[[], Run]) -> tuple[Run, float]:
    """What it gives, and its processor seconds."""
    started = time.process_time()
    made = work()
    return made, time.process_time() - started


def anew(folder: Path, data: InteractionDataset, settings: RunConfig) -> Run:
    """A CF model that begins with nothing."""
    run = Run.create(folder, data, settings, "cpu")
    train([(run, [PRETRAIN])], lambda line: None)
    return run


def updated(folder: Path, earlier: Run, week: dict[str, list[Any]], settings: RunConfig) -> Run:
    """A run that goes on, as the command does it."""
    table = folder.with_suffix(".csv")
    rows = zip(*week.values(), strict=True)
    table.write_text("\n".join([",".join(week), *(",".join(map(str, row)) for row in rows)]) + "\n")
    raw = read_table_files(parse_config(TableConfig, {"interactions": table}, "The table"))
    made = update_run(earlier, raw, folder, config=settings, log=lambda line: None).run
    if made is None:
        raise SystemExit(f"{table} has nothing new; give data with interactions in every week.")
    return made


def asked(data: InteractionDataset, week: dict[str, list[Any]]) -> tuple[list[Query], np.ndarray]:
    """Known users and the first item that each interacted with in that week, 0 for one that the data does not hold."""
    firsts = dict(zip(reversed(week["user_id"]), reversed(week["item_id"]), strict=True))
    known = [user for user in firsts if user in data.users]
    numbers = [data.users.number(user) for user in known]
    targets = [data.items.number(firsts[user]) if firsts[user] in data.items else 0 for user in known]
    return [Query(data.sequence(number), number) for number in numbers], np.array(targets)


def values(run: Run, queries: Sequence[Query], targets: np.ndarray) -> Values:
    """NDCG@10 of each, among all items that the user has not met; of a target met before it is a miss."""
    model = backbone(run)
    found = BackboneRetriever(model).retrieve(
        queries, 10, [np.unique(q.history) for q in queries], [None] * len(queries)
    )
    places = [np.flatnonzero(one.items == target) for one, target in zip(found, targets, strict=True)]
    ranks = np.array([place[0] + 1 if len(place) else np.inf for place in places], dtype=np.float64)
    return user_values([ranks], ["NDCG@10"])


def moved(before: Run, now: Run) -> dict[str, float]:
    """How far the vectors of known items and users moved, as an update measures it."""
    items, users = Inputs.of(before, ALIGN).moved(now, ALIGN)
    return {"items": round(items, 5), "users": round(users, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--update-epochs", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    log = Log(InteractionDataset.load(arguments.data))
    whole, short = (config(arguments.dim, epochs) for epochs in (arguments.epochs, arguments.update_epochs))
    rows, by_way = list[dict[str, Any]](), dict[str, list[np.ndarray]]()
    with tempfile.TemporaryDirectory(prefix="allmrec-month-") as folder, progress_bar("weeks", arguments.weeks) as bar:
        begun = dataset_of(log.between(-np.inf, cut_of(log, arguments.weeks)))
        first, seconds = timed(lambda: anew(Path(folder, "first"), begun, whole))
        last = first
        about = {
            "users": begun.n_users,
            "items": begun.n_items,
            "interactions": begun.n_interactions,
            "cpu_seconds": round(seconds, 1),
        }
        for week in range(1, arguments.weeks + 1):
            came, comes = (log.between(*span(log, number, arguments.weeks)) for number in (week, week + 1))
            earlier, before = last, last.dataset
            last, on = timed(lambda: updated(Path(folder, f"on-{week}"), earlier, came, short))  # noqa: B023  # called before the loop goes on
            data = last.dataset
            fresh, new = timed(lambda: anew(Path(folder, f"anew-{week}"), data, whole))  # noqa: B023  # called before the loop goes on
            queries, targets = asked(data, comes)
            ways = {"update": last, "anew": fresh, "as it was": first}
            found = {way: values(run, queries, targets) for way, run in ways.items()}
            for way, own in found.items():
                by_way.setdefault(way, []).append(own["NDCG@10"])
            rows.append({
                "week": week, "interactions": len(came["user_id"]), "new_users": data.n_users - before.n_users,
                "new_items": data.n_items - before.n_items, "asked": len(queries), "new_targets": int((targets == 0).sum()),
                "cpu_seconds": {"update": round(on, 1), "anew": round(new, 1)},
                "ndcg@10": {way: round(float(own["NDCG@10"].mean()), 5) for way, own in found.items()},
                "anew_because": "" if last.start is None else last.start.anew.get(PRETRAIN.name, ""),
                "moved": {"update": moved(earlier, last), "anew": moved(earlier, fresh)},
            })  # fmt: skip
            bar.advance(1)
    together = {way: {"NDCG@10": np.concatenate(parts)} for way, parts in by_way.items()}
    result = {
        "data": arguments.data.name,
        "first": about,
        "weeks": rows,
        "month": {way: estimates(own, "month")["NDCG@10"] for way, own in together.items()},
        "less": {
            way: differences(together["update"], together[way], "month")["NDCG@10"] for way in ("anew", "as it was")
        },
    }
    by = measured_by("month")
    by["command"] = str(by["command"]).replace(str(arguments.data), f"data/{arguments.data.name}")
    write_result(TARGET, by | result)
    Console(width=140).print(result)


if __name__ == "__main__":
    main()
