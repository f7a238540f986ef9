"""RecBole's half of `benchmarks.recbole_speed`: trains there, and says after each epoch what it cost and what it gives.

Run by RecBole's own Python as a file, so it imports nothing of allmrec's. The clock counts RecBole's training epochs and
stands still while anything is measured or written. It goes on from the last finished epoch if it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# RecBole's own file of the last epoch holds its settings as Python objects, and RecBole reads it with torch's default.
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

import numpy as np
import torch
from full_catalogue import figures, ranks

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "recbole"))
import train as recbole_example


class SpentError(Exception):
    """The budget is used up."""


class Log:
    """One line of figures an epoch, and the seconds up to now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def until(self, epochs: int) -> None:
        """Forget what came after so many epochs."""
        self.records = self.records[:epochs]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records))

    def add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def spent(self, name: str) -> float:
        return float(self.records[-1][name]) if self.records else 0.0


def measured(trainer: Any, log: Log, work: Path, budget: float, validate: Any) -> Any:
    """RecBole's trainer with a clock around its epochs and our measure in the place of its own validation."""

    class Measured(type(trainer)):  # type: ignore[misc]  # a class that is known when it runs
        def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
            if log.records:
                self._save_checkpoint(epoch_idx - 1, verbose=False, saved_model_file=str(work / "last.pth"))
            if log.spent("cpu_seconds") >= budget:
                raise SpentError
            wall, cpu = time.perf_counter(), time.process_time()
            loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
            self.clock = {
                "epoch": epoch_idx + 1,
                "cpu_seconds": log.spent("cpu_seconds") + time.process_time() - cpu,
                "wall_seconds": log.spent("wall_seconds") + time.perf_counter() - wall,
            }
            self.mean_loss = loss / len(train_data)
            return loss

        def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
            found = validate()
            log.add({**self.clock, "loss": self.mean_loss, **found})
            print(json.dumps(log.records[-1]), flush=True)
            return found["ndcg@10"], found

    trainer.__class__ = Measured
    return trainer


def run(folder: Path, work: Path, budget: float, changes: dict[str, Any]) -> None:
    """Train within the budget, then write the best weights' vectors.

    Args:
        folder: what examples/recbole/export.py wrote, and beside it nothing.
        work: holds `sample.npy`, the users to validate on; gets the figures and the vectors.
        budget: CPU seconds after which no epoch is begun.
        changes: RecBole's settings.
    """
    from recbole.utils import get_trainer, init_logger, init_seed

    os.chdir(work)
    config = recbole_example.configuration(folder, work, "SASRec", changes)
    init_logger(config)
    dataset, model, training, validation = recbole_example.loaded(config)
    sequences = recbole_example.read_sequences(folder)
    vectors = recbole_example.Vectors(model, dataset, len((folder / "item_ids.txt").read_text().splitlines()))
    sample = np.load(work / "sample.npy")
    before = [sequences[user][:-2] for user in sample]
    targets = np.array([sequences[user][-2] for user in sample])

    def validate() -> dict[str, float]:
        return figures(ranks(vectors.users(before), vectors.items(), targets, before))

    log = Log(work / "epochs.jsonl")
    trainer = measured(get_trainer(config["MODEL_TYPE"], config["model"])(config, model), log, work, budget, validate)
    last = work / "last.pth"
    if last.is_file():
        trainer.resume_checkpoint(last)
        log.until(trainer.start_epoch)
        init_seed(config["seed"] + trainer.start_epoch, config["reproducibility"])
    trainer.saved_model_file = str(work / "best.pth")
    try:
        trainer.fit(training, validation, saved=True)
    except SpentError:
        print(f"The budget of {budget:.0f} CPU seconds is used up.")
    model.load_state_dict(torch.load(work / "best.pth", weights_only=False)["state_dict"])
    vectors.check(before[:64])
    np.save(work / "items.npy", vectors.items())
    # Whoever has a single item is not evaluated.
    np.save(work / "users.npy", vectors.users([sequence[: max(1, len(sequence) - 1)] for sequence in sequences]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    changes = recbole_example.changes(arguments.set)
    run(arguments.folder.resolve(), arguments.work.resolve(), arguments.budget, changes)


if __name__ == "__main__":
    main()
