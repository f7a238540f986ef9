"""Peak memory of each part and how it grows: `python -m benchmarks.memory`. Every figure is a process of its own."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.alignment.align import AlignTask
from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.objective import AlignConfig
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.training import TrainingConfig
from allmrec.data.catalogue import Catalogue
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.data.vocabulary import Vocabulary
from allmrec.llm.transformers_lm import load_language_model
from allmrec.ranking import Query
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import TuneConfig, stage_two_batches
from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, load_encoder
from benchmarks.about import measured_on
from benchmarks.tables import RESULTS, write_result

# What grows, and the sizes; the first is the base.
ROWS = {
    "nothing but the imports": ("none", [1]),
    "SASRec, 20 steps of 128, 20,000 users: items": ("sasrec-items", [10_000, 100_000, 1_000_000]),
    "SASRec, 20 steps of 128, 10,000 items: users": ("sasrec-users", [10_000, 100_000, 1_000_000]),
    "stage 1, MiniLM's last layer, 20 steps of 32: items": ("stage-one", [1_000, 4_000]),
    "stage 2, title loss, SmolLM2, 2 steps: samples a step": ("stage-two", [1, 4]),
    "score, SmolLM2, 4 users at a time: candidates": ("score", [5, 20, 80]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=list(PARTS), help="measure one part in this process")
    parser.add_argument("--size", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.part is not None:
        PARTS[arguments.part](arguments.size)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    about = measured_on("python -m benchmarks.memory")
    table, results = Table("what, and what grows", "size", "peak GB"), []
    for what, (part, sizes) in ROWS.items():
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.memory", "--part", part, "--size", str(size)]
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = float(found.stdout.split()[-1])
            table.add_row(what, f"{size:,}", f"{peak:.2f}")
            results.append({"what": what, "size": size, "peak_gb": round(peak, 3)})
    Console().print(table)
    path = RESULTS / "memory.json"
    write_result(path, about | {"results": results})
    print(f"Written: {path}")


def world(users: int, items: int, length: int = 10) -> Split:
    """Users who took items at random, with titles of six words."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "blue", "game", "night", "city", "stone", "river", "king", "lost", "star"])
    titles = [" ".join(row) for row in words[rng.integers(0, len(words), size=(items, 6))]]
    numbers = rng.integers(1, items + 1, size=users * length).astype(np.int32)
    dataset = InteractionDataset(
        users=Vocabulary(tuple(map(str, range(users))), first=0, kind="user"),
        items=Vocabulary(tuple(map(str, range(items))), first=1, kind="item"),
        offsets=np.arange(users + 1, dtype=np.int64) * length,
        item_numbers=numbers,
        times=None,
        catalogue=Catalogue((None, *titles), (None,) * (items + 1), ((),) * (items + 1)),
    )
    return leave_one_out(dataset)


def sasrec(users: int, items: int) -> None:
    """Twenty steps of the real training loop."""
    split = world(users, items)
    rows = 20 * 128
    few = leave_one_out(split.dataset, train_users=np.arange(min(users, rows)))
    config = PretrainConfig(training=TrainingConfig(batch_size=128, epochs=1), validation_users=100)
    pretrain(few if users > rows else split, config, 0)


def stage_one(items: int) -> None:
    """Twenty steps, every text at least once, so that the kept states are all there."""
    split = world(640, items)
    backbone = SASRec(items, SASRecConfig()).eval()
    encoder = load_encoder(EncoderConfig(name="all-MiniLM-L6-v2", tune=1))
    alignment = Alignment(backbone.dim, encoder)
    bank = TextBank(encoder, [None, *split.dataset.catalogue.titles[1:]])
    bank.all_vectors(np.arange(items + 1))
    task = AlignTask(alignment, split, backbone, bank, AlignConfig(), 0)
    for batch in list(task.batches(0))[:20]:
        torch.stack(list(task.losses(batch).values())).sum().backward()


def ranker(split: Split) -> PromptedRanker:
    """SmolLM2 behind untrained vectors."""
    items = split.dataset.n_items
    lm = load_language_model("smollm2-135m-instruct")
    table = JointItemTable.of(torch.rand(items + 1, 128), torch.rand(items + 1, 128), torch.ones(items + 1).bool())
    return PromptedRanker(
        lm, SASRec(items, SASRecConfig()).eval(), table, split.dataset.catalogue.titles, PromptConfig()
    )


def stage_two(samples: int) -> None:
    """Two steps of the paper's loss: 10 history items, 20 candidates."""
    split = world(64, 200)
    made = ranker(split)
    training = TrainingConfig(batch_size=samples)
    config = TuneConfig(validation_users=0, samples_per_epoch=2 * samples, training=training)
    for batch in stage_two_batches(made, split, config, 0):
        made.losses(batch.queries, batch.candidates, batch.targets, True, False).title.backward()


def score(candidates: int) -> None:
    """Eight users' candidates by title."""
    split = world(64, 200)
    model = LanguageRanker(ranker(split), "score", batch_size=4)
    queries = [Query(split.test_history(user), user) for user in range(8)]
    model.rank(queries, [np.arange(1, candidates + 1)] * 8)


PARTS: dict[str, Callable[[int], None]] = {
    "none": lambda size: None,
    "sasrec-items": lambda size: sasrec(20_000, size),
    "sasrec-users": lambda size: sasrec(size, 10_000),
    "stage-one": stage_one,
    "stage-two": stage_two,
    "score": score,
}


if __name__ == "__main__":
    main()
