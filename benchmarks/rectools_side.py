"""RecTools' half of `benchmarks.rectools_speed`: trains its SASRec there until validation falls, and ranks the test items.

Run by RecTools' own Python as a file, so it imports nothing of allmrec's. The clock counts training alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def dataset(users: np.ndarray, items: np.ndarray, places: np.ndarray) -> Any:
    """Interactions in RecTools' form: later places are later days."""
    days = np.datetime64("2000-01-01") + places.astype("timedelta64[D]")
    return Dataset.construct(
        pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: days})
    )


def ranks(model: Any, known: Any, users: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Each target's place among the first ten that are recommended, from 0; 10 for a miss."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a target was never trained on, user by user
        found = model.recommend(users=users, dataset=known, k=10, filter_viewed=True, on_unsupported_targets="ignore")
    best = np.full((int(users.max()) + 1, 10), -1, dtype=np.int64)
    best[found[Columns.User].to_numpy(), found[Columns.Rank].to_numpy() - 1] = found[Columns.Item].to_numpy()
    same = best[users] == targets[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), 10)


def figures(found: np.ndarray) -> dict[str, float]:
    """NDCG@10 and Hit@10."""
    return {
        "ndcg@10": float(np.where(found < 10, 1 / np.log2(found + 2.0), 0.0).mean()),
        "hit@10": float((found < 10).mean()),
    }


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--patience", type=int, required=True)
    parser.add_argument("--model", type=json.loads, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given = np.load(arguments.data)
    users, items, places = given["users"], given["items"], given["places"]
    training = dataset(*(part[given["training"]] for part in (users, items, places)))
    model = SASRecModel(**arguments.model, deterministic=True)
    records: list[dict[str, float]] = []
    spent, best, test = 0.0, -1.0, np.empty(0)
    for epoch in range(1, arguments.epochs + 1):
        begun = time.process_time()
        model.fit_partial(training, min_epochs=1, max_epochs=1)
        spent += time.process_time() - begun
        now = figures(ranks(model, training, given["validation_users"], given["validation_items"]))
        records.append({"epoch": epoch, "cpu_seconds": round(spent, 1), **now})
        print(json.dumps(records[-1]), flush=True)
        if now["ndcg@10"] > best:
            best = now["ndcg@10"]
            # Histories up to the test item; what was trained stays as it is.
            known = dataset(*(part[~given["testing"]] for part in (users, items, places)))
            test = ranks(model, known, given["test_users"], given["test_items"])
        if epoch - max(records, key=lambda record: record["ndcg@10"])["epoch"] >= arguments.patience:
            break
    result = {"records": records, "test": figures(test), "python": sys.version.split()[0]}
    arguments.output.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
