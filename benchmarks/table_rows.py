"""The CF model's table of items moved row by row against as a whole: what a step costs over items, and what it is worth on a real set.

    python -m benchmarks.table_rows speed
    python -m benchmarks.table_rows quality DATA

`speed`: SASRec on drawn users, 64 negatives, both ways in turn, processor seconds of a step. `quality`: both ways trained on DATA, a
folder that `allmrec prepare` wrote, until patience ends; NDCG@10 over the whole catalogue of up to 5,000 validation users.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

import torch

from allmrec.cf.losses import Objective
from allmrec.cf.next_item import NextItemLoss
from allmrec.cf.pretrain import PretrainConfig, SequenceTask, pretrain
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.artifacts import read_json
from allmrec.core.optimizers import RowAdamW
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from benchmarks.about import measured_by
from benchmarks.memory import world
from benchmarks.tables import RESULTS, write_result

PATH = RESULTS / "table-rows.json"
WAYS = {"whole": False, "rows": True}
SIZES, STEPS, DIM = (100_000, 300_000, 1_000_000, 3_000_000), 10, 64
MODEL = SASRecConfig(dim=DIM, objective=Objective(loss="sampled_softmax", negatives=64))


def speed() -> list[dict[str, Any]]:
    """Seconds of a step by size; each way has a model of its own, so that neither finds the other's moments."""
    rows = []
    for items in SIZES:
        split = world(4 * STEPS * 128, items)
        seconds: dict[str, float] = {}
        for way, by_rows in WAYS.items():
            with seeded_torch(0, "table rows"):
                model = SASRec(items, MODEL).train()
            task = SequenceTask(model, split, PretrainConfig(model=MODEL), 0)
            loss = NextItemLoss(model, by_rows=by_rows)
            optimizer = RowAdamW(model.parameters(), lr=1e-3, fused=True)
            batches = task.batches(0)
            for number in range(STEPS + 2):
                if number == 2:  # the first allocate what the others use again
                    begun = time.process_time()
                batch = batches[number]
                optimizer.zero_grad(set_to_none=True)
                loss.of(batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
                optimizer.step()
            seconds[way] = (time.process_time() - begun) / STEPS
        rows.append({"items": items, "cpu_seconds_of_a_step": seconds, "ratio": seconds["whole"] / seconds["rows"]})
        print(rows[-1], flush=True)
    return rows


def quality(folder: Path) -> dict[str, Any]:
    """The best validation of both ways."""
    split = leave_one_out(InteractionDataset.load(folder))
    training = TrainingConfig(
        learning_rate=1e-3, betas=(0.9, 0.98), batch_size=128, epochs=100, validate_every=150, patience=5
    )
    config = PretrainConfig(
        model=MODEL, windows="all", validation_users=5000, validation_negatives="all", training=training
    )
    found: dict[str, Any] = {}
    module = importlib.import_module("allmrec.cf.pretrain")  # the package has a function of that name
    for way, by_rows in WAYS.items():
        module._BY_ROWS_ABOVE = -1 if by_rows else 10**12  # type: ignore[attr-defined]  # of the module
        begun = time.process_time()
        _, log = pretrain(split, config, 0, device="cpu")
        best = max(log.records, key=lambda record: record["ndcg@10"])
        found[way] = {
            "ndcg@10": best["ndcg@10"],
            "step": int(best["step"]),
            "steps": log.steps,
            "cpu_seconds": time.process_time() - begun,
        }
        print(way, found[way], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "quality"))
    parser.add_argument("data", type=Path, nargs="?")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = read_json(PATH) if PATH.is_file() else {}
    about = measured_by("table_rows")
    if arguments.what == "speed":
        result["speed"] = about | {"batch_size": 128, "negatives": 64, "dim": DIM, "rows": speed()}
    else:
        result.setdefault("quality", {})[arguments.data.name] = about | quality(arguments.data)
    write_result(PATH, result)
    print(f"Written: {PATH}")


if __name__ == "__main__":
    main()
