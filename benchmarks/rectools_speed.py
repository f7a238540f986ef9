"""SASRec trained by RecTools and by this project's recipe `cpu`: how good both are over the whole catalogue, and at what cost.

    python -m benchmarks.rectools_speed data/beauty --rectools-python ENV/bin/python --work runs/rectools

ENV has `rectools[torch]`. Both have two blocks of two heads, 50 positions and vectors of 128 numbers, train on every item but a
user's last two, stop when NDCG@10 of the same validation users has not risen for some epochs, and rank each test item among all
items that the user has not met. RecTools' loss is its own best, the softmax over the catalogue; its other settings are its
defaults. One thread each; counted are CPU seconds in training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from allmrec.cf.pretrain import pretrain
from allmrec.core.artifacts import read_json
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.recipes.files import load_recipe
from benchmarks.about import measured_by
from benchmarks.full_catalogue import figures
from benchmarks.tables import RESULTS, read_table, write_result
from benchmarks.towers import catalogue_ranks

MODEL = {"n_blocks": 2, "n_heads": 2, "n_factors": 128, "session_max_len": 50, "loss": "softmax", "batch_size": 128}


def exported(split: Split, path: Path, validation_users: int) -> None:
    """Every interaction with its place, and who is asked for what."""
    data = split.dataset
    lengths = np.diff(data.offsets)
    users = np.repeat(np.arange(data.n_users), lengths)
    places = np.concatenate([np.arange(length) for length in lengths])
    validated = numpy_generator(0, "rectools").permutation(split.validated())[:validation_users]
    validated.sort()
    tested = np.flatnonzero(split.test)
    items = np.concatenate([data.sequence(user) for user in range(data.n_users)])
    np.savez(
        path, users=users, items=items, places=places,
        training=places < split.train_end[users], testing=(places == lengths[users] - 1) & (split.test[users] != 0),
        validation_users=validated, validation_items=split.validation[validated],
        test_users=tested, test_items=split.test[tested],
    )  # fmt: skip


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rectools-python", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/rectools"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--patience", type=int, default=3)
    arguments = parser.parse_args()
    about = measured_by("rectools_speed")
    arguments.work.mkdir(parents=True, exist_ok=True)
    split = leave_one_out(InteractionDataset.load(arguments.data))
    given, answer = arguments.work / "data.npz", arguments.work / "rectools.json"
    exported(split, given, 5000)
    subprocess.run(
        [arguments.rectools_python, Path(__file__).with_name("rectools_side.py"), given, answer, "--epochs", str(arguments.epochs),
         "--patience", str(arguments.patience), "--model", json.dumps(MODEL)], check=True,
    )  # fmt: skip
    theirs = read_json(answer)
    best = max(theirs["records"], key=lambda record: record["ndcg@10"])
    begun = time.process_time()
    model, log = pretrain(split, load_recipe("cpu", {}).pretrain, 0)
    spent = time.process_time() - begun
    ours = figures(catalogue_ranks(model, split, np.flatnonzero(split.test)))
    found = {
        "rectools": {**theirs["test"], "cpu_seconds": theirs["records"][-1]["cpu_seconds"], "epochs": len(theirs["records"]),
                     "best_epoch": best["epoch"], "records": theirs["records"], "model": MODEL},
        "allmrec": {**ours, "cpu_seconds": round(spent, 1), "epochs": len(log.records), "best_step": log.best_step},
    }  # fmt: skip
    path = RESULTS / "rectools.json"
    write_result(path, read_table(path) | {arguments.data.name: about | found})
    Console(width=140).print({name: {k: v for k, v in row.items() if k != "records"} for name, row in found.items()})


if __name__ == "__main__":
    main()
