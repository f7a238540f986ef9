"""SASRec trained by RecBole and by this project: seconds until both are as good, and how good they end.

    python -m benchmarks.recbole_speed data/games --recbole-python ENV/bin/python --work runs/recbole-speed

DATA is a folder that `allmrec prepare` wrote; examples/recbole/README.md makes RecBole's environment. Both sides have
vectors of 50 numbers, two blocks of one head, 50 positions and a dropout of 0.5, and train on the same pairs: every item
but a user's first and last two, after those before it. RecBole minimises its default, cross-entropy over the whole
catalogue, and makes a sample of every prefix; ours has the objective below, chosen on validation items.

Each side is a process with one thread. After an epoch both are measured by the same code (`full_catalogue`): NDCG@10 of
the same users' validation items among all items that the user has not met. Counted are the process's CPU seconds in
training, without what preparing and measuring take; wall seconds are written down too, and compare only where the machine
did nothing else. In the end the best epoch's weights rank all users' test items. What is finished is kept under --work: run
it again, with a larger --budget if you like, and RecBole goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.registry import backbone_kind
from allmrec.cf.validation import ValidationSample
from allmrec.core.config import parse_config
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.core.training import fit
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from benchmarks.about import measured_on
from benchmarks.full_catalogue import figures, gains, ranks
from benchmarks.tables import RESULTS, write_result

ROOT = Path(__file__).parents[1]
SAMPLE = {"users": 3000, "negatives": 19, "length": 50, "seed": 0}
SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)
PATIENCE = 10  # epochs without a new best, on both sides; RecBole's default

# RecBole's defaults but for the sizes, and batches of 512 instead of 2,048: on this kind of machine an epoch takes
# a fifth less time with them and has four times the steps.
RECBOLE = {
    "hidden_size": 50,
    "inner_size": 50,
    "n_heads": 1,
    "n_layers": 2,
    "MAX_ITEM_LIST_LENGTH": 50,
    "train_batch_size": 512,
    "epochs": 200,
    "stopping_step": PATIENCE,
}

OURS = {
    "backbone": "sasrec",
    "windows": "all",
    "model": {"dropout": 0.5, "objective": {"loss": "sampled_softmax", "negatives": 64}},
    "training": {"learning_rate": 3e-3, "betas": (0.9, 0.98), "batch_size": 128, "epochs": 200, "patience": PATIENCE},
}


def run(
    data: Path, work: Path, recbole_python: str, budget: float, ours: Mapping[str, Any], recbole: Mapping[str, Any]
) -> dict[str, Any]:
    """Train what is not trained yet, and compare."""
    split = leave_one_out(InteractionDataset.load(data))
    exported = work / "data" / data.resolve().name
    if not exported.is_dir():
        export = [sys.executable, str(ROOT / "examples" / "recbole" / "export.py"), str(data), "-o", str(exported)]
        subprocess.run(export, check=True)
    side = work / "recbole"
    side.mkdir(parents=True, exist_ok=True)
    np.save(side / "sample.npy", _sample(split).batch.users)
    changes = [part for name, value in recbole.items() for part in ("--set", f"{name}={value}")]
    program = str(Path(__file__).with_name("recbole_side.py"))
    subprocess.run([recbole_python, program, str(exported), str(side), "--budget", str(budget), *changes], check=True)
    if not (work / "ours" / "users.npy").is_file():
        again = [sys.executable, "-m", "benchmarks.recbole_speed", str(data), "--work", str(work), "--side", "ours"]
        subprocess.run([*again, "--settings", json.dumps(ours)], check=True, cwd=ROOT)
    return compared(split, work) | {"settings": {"ours": ours, "recbole": recbole, "recbole_budget": budget}}


def _sample(split: Split) -> ValidationSample:
    return ValidationSample(split, **SAMPLE)


class _Timed(SequenceTask):
    """Our task with a clock that stands still while it is measured."""

    def __init__(self, backbone: Any, split: Split, config: PretrainConfig, log: Path) -> None:
        super().__init__(backbone, split, config, seed=0)
        self._sample, self._log, self._epochs = _sample(split), log, 0
        self._before = [split.validation_history(int(user)) for user in self._sample.batch.users]
        self._spent = np.zeros(2)
        log.write_text("")
        self._started = self._now()

    def _now(self) -> np.ndarray:
        return np.array([time.process_time(), time.perf_counter()])

    def validate(self) -> Mapping[str, float]:
        """NDCG@10 over the whole catalogue, written down with the seconds that training took until now."""
        self._spent += self._now() - self._started
        self._epochs += 1
        users = self._sample.user_vectors(self._backbone).numpy()
        items = self._backbone.item_vectors().detach().numpy()
        found = figures(ranks(users, items, self._sample.candidates[:, 0], self._before))
        record = {"epoch": self._epochs, "cpu_seconds": self._spent[0], "wall_seconds": self._spent[1], **found}
        with self._log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        self._started = self._now()
        return found


def train_ours(split: Split, folder: Path, settings: Mapping[str, Any]) -> None:
    """Train, write figures of each epoch, and the best one's vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = parse_config(PretrainConfig, dict(settings), "the settings of ours")
    with seeded_torch(0, "cf", "initialisation"):
        backbone = backbone_kind("sasrec").build(split.dataset.n_items, split.dataset.n_users, config.model)
    fit(backbone, _Timed(backbone, split, config, folder / "epochs.jsonl"), config.training, "ours")
    with torch.no_grad():
        np.save(folder / "items.npy", backbone.item_vectors().numpy())
        users = np.arange(split.dataset.n_users)
        parts = []
        for rows in np.array_split(users, max(1, len(users) // 512)):
            histories = left_pad([split.test_history(int(user)) for user in rows], backbone.max_history)
            parts.append(backbone.user_vectors(SequenceBatch(rows, histories)).numpy())
        np.save(folder / "users.npy", np.concatenate(parts))


def compared(split: Split, work: Path) -> dict[str, Any]:
    """Seconds to the same validation figure, and test figures over the same users."""
    logs = {name: _records(work / name / "epochs.jsonl") for name in ("ours", "recbole")}
    best = {name: max(record["ndcg@10"] for record in log) for name, log in logs.items()}
    common = min(best.values())
    levels = [_level(logs, share, share * common) for share in SHARES]
    dataset = split.dataset
    return {
        "what": f"SASRec of dim 50, {dataset.n_users} users, {dataset.n_items} items: CPU seconds to equal quality",
        "validation": f"{len(_sample(split).batch.users)} users, whole catalogue, NDCG@10",
        "best_validation": best,
        "common_level": common,
        "ratio": levels[-1]["ratio"],
        "levels": levels,
        "epochs": {name: len(log) for name, log in logs.items()},
        # Whether a side stopped because it no longer improved; otherwise its budget ended, and it may end up better.
        "converged": {name: _epochs_since_best(log) >= PATIENCE for name, log in logs.items()},
        "cpu_seconds_an_epoch": {name: log[-1]["cpu_seconds"] / len(log) for name, log in logs.items()},
        "test": _tested(split, work),
        "records": logs,
    }


def _records(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _epochs_since_best(log: list[dict[str, float]]) -> int:
    return len(log) - 1 - int(np.argmax([record["ndcg@10"] for record in log]))


def _level(logs: Mapping[str, list[dict[str, float]]], share: float, wanted: float) -> dict[str, Any]:
    """The first epoch of each side that is as good as that."""
    reached = {name: next(r for r in log if r["ndcg@10"] >= wanted) for name, log in logs.items()}
    row: dict[str, Any] = {"share_of_common_level": share, "ndcg@10": wanted}
    for name, record in reached.items():
        row[name] = {key: record[key] for key in ("epoch", "cpu_seconds", "wall_seconds")}
    row["ratio"] = row["recbole"]["cpu_seconds"] / row["ours"]["cpu_seconds"]
    return row


def _tested(split: Split, work: Path) -> dict[str, Any]:
    """Test items among all unseen items, every user with one."""
    users = np.flatnonzero(split.test)
    before = [split.test_history(int(user)) for user in users]
    values = {}
    for name in ("ours", "recbole"):
        vectors, items = np.load(work / name / "users.npy"), np.load(work / name / "items.npy")
        values[name] = gains(ranks(vectors[users], items, split.test[users].astype(np.int64), before))
    found: dict[str, Any] = {"users": len(users)}
    for metric, of_ours in values["ours"].items():
        rng = numpy_generator(0, "recbole speed", metric)
        found[metric] = {name: vars(bootstrap_mean(values[name][metric], rng)) for name in values}
        found[metric]["ours less recbole"] = vars(paired_difference(of_ours, values["recbole"][metric], rng))
    return found


def table(result: Mapping[str, Any]) -> Table:
    """Seconds to each level."""
    shown = Table("NDCG@10 of validation", "RecBole, CPU s", "ours, CPU s", "ratio", title=result["what"])
    for row in result["levels"]:
        seconds = (f"{row[name]['cpu_seconds']:.0f} ({row[name]['epoch']} epochs)" for name in ("recbole", "ours"))
        shown.add_row(f"{row['ndcg@10']:.4f}", *seconds, f"{row['ratio']:.1f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recbole-python", help="the Python of RecBole's environment")
    parser.add_argument("--work", type=Path, default=Path("runs/recbole-speed"), help="what is finished is kept here")
    parser.add_argument("--budget", type=float, default=1500, help="CPU seconds after which RecBole begins no epoch")
    parser.add_argument("--side", choices=("ours",), help="train this side alone, in this process")
    parser.add_argument("--settings", type=json.loads, default=OURS, help="ours, as JSON")
    parser.add_argument("--recbole-settings", type=json.loads, default={}, help="what of RecBole's to change, as JSON")
    parser.add_argument("--output", type=Path, default=RESULTS / "recbole-speed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.side == "ours":
        split = leave_one_out(InteractionDataset.load(arguments.data))
        train_ours(split, arguments.work / "ours", arguments.settings)
        return
    if arguments.recbole_python is None:
        parser.error("--recbole-python is needed; examples/recbole/README.md says how to make its environment")
    work = arguments.work.resolve()
    recbole = RECBOLE | arguments.recbole_settings
    result = run(
        arguments.data.resolve(), work, arguments.recbole_python, arguments.budget, arguments.settings, recbole
    )
    Console().print(table(result))
    command = f"python -m benchmarks.recbole_speed {arguments.data} --budget {arguments.budget:g}"
    write_result(arguments.output, measured_on(command) | result)
    print(f"Written: {arguments.output}")


if __name__ == "__main__":
    main()
