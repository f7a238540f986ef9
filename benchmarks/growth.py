"""How time and memory grow with users, items and interactions: `python -m benchmarks.growth`.

Every cell is a child process, and torch has one thread there. It does the smallest size first, unmeasured, then the size itself: processor seconds (the
least of three turns where one takes under five seconds), and how far its memory rose at the most above what it held before, which is
the imports and, but for preparing and recommending in bulk, the data; on Ray both are those of the whole cluster
(`benchmarks.growth_bulk`). A slope is the exponent of growth, fitted to the logarithms: over all
sizes, and over the last two, where what does not grow counts least. Data are drawn; what they are does not matter here.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmrec.alignment.align import align
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.objective import AlignConfig
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.progress import progress_shown
from allmrec.core.seeding import numpy_generator, torch_generator
from allmrec.core.training import TrainingConfig
from allmrec.data.build import read_table
from allmrec.data.large import prepare_to
from allmrec.data.splitting import Split
from allmrec.ranking import Query
from allmrec.recommend.approximate_index import ApproximateIndex, load_faiss
from allmrec.recommend.item_index import ExactIndex
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import TuneConfig, tune
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.text.encoder import EncoderConfig, load_encoder
from benchmarks.about import measured_by
from benchmarks.growth_bulk import bulk, on_cluster, trained
from benchmarks.memory import world
from benchmarks.retrieval import batches, drawn
from benchmarks.tables import RESULTS, changing

# What is measured, what grows, and the sizes.
DECADES = [100, 1_000, 10_000, 100_000]
ROWS = {
    "prepare": ("prepare a CSV table, 10 a user, 50 an item", "interactions", [3_000, 30_000, 300_000, 3_000_000]),
    "prepare-same-ids": ("the same of 30,000 users and 6,000 items always", "interactions", [3_000, 30_000, 300_000, 3_000_000]),
    "prepare-duckdb": ("a CSV table by DuckDB in 256 MiB, 10 a user, 50 an item, written to a folder", "interactions", [3_000, 30_000, 300_000, 3_000_000]),
    "cf-users": ("an epoch of SASRec, 10,000 items, 10 interactions each", "users", DECADES),
    "cf-items": ("20 steps of SASRec, 128 users each", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "cf-interactions": ("an epoch of SASRec, 1,000 users, the latest 50 count", "interactions", [5_000, 50_000, 500_000, 5_000_000]),
    "tower-items": ("20 steps of the text tower, 128 users each", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "align-users": ("an epoch of stage 1, 1,000 items, a tiny encoder", "users", DECADES),
    "align-items": ("20 steps of stage 1, then all joint vectors, a tiny encoder", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "align-interactions": ("an epoch of stage 1 at every position, 50 users, 10,000 items, a tiny encoder", "interactions", [250, 2_500, 25_000, 250_000]),
    "tune-users": ("an epoch of stage 2 by titles, a tiny language model", "users", [10, 100, 1_000, 10_000]),
    "tune-items": ("20 steps of stage 2 by titles, a tiny language model", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "tune-interactions": ("an epoch of stage 2 by titles at every position, 2 users, 10,000 items, 5 candidates, a tiny language model", "interactions", [10, 100, 1_000, 10_000]),
    "retrieve": ("the 20 best items for 1,000 vectors of 64, exact", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "index": ("an approximate index of vectors of 64", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "retrieve-index": ("the 20 best items for 1,000 vectors of 64, by that index, recall 0.95", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "score": ("20 candidates a user scored by SASRec", "users", DECADES),
    "score-titles": ("20 candidates a user scored by title, a tiny language model", "users", [10, 100, 1_000, 10_000]),
    "bulk-users": ("everybody's 10 best of 10,000 items as Parquet, CF", "users", [30, 300, 3_000, 30_000]),
    "bulk-items": ("1,000 users' 10 best as Parquet, CF", "items", [1_000, 10_000, 100_000, 1_000_000]),
    "bulk-ray-users": ("everybody's 10 best of 10,000 items as Parquet, CF, two actors of Ray", "users", [100, 1_000, 10_000, 100_000]),
    "bulk-ray-items": ("1,000 users' 10 best as Parquet, CF, two actors of Ray", "items", [1_000, 10_000, 100_000, 1_000_000]),
}  # fmt: skip
Work = Callable[[], object]

# Children are forked from a server that has imported it all once.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["benchmarks.memory", "allmrec.bulk.scoring", "allmrec.library", "torch._dynamo"])


def table(interactions: int, folder: Path, users: int | None = None) -> Path:
    """A file of user, item and time; a tenth as many users as interactions, and five times as many users as items."""
    users = users or interactions // 10
    rng = numpy_generator(0, "growth", interactions)
    path = folder / f"{interactions}.csv"
    users, items = (
        rng.integers(users, size=interactions),
        rng.integers(users // 5, size=interactions),
    )
    with path.open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        for start in range(0, interactions, 100_000):
            part = slice(start, start + 100_000)
            file.writelines(
                f"u{u},i{i},{start + n}\n" for n, (u, i) in enumerate(zip(users[part], items[part], strict=True))
            )
    return path


def prepare(interactions: int, folder: Path) -> Work:
    path = table(interactions, folder)
    return lambda: read_table(path)


def prepare_same_ids(interactions: int, folder: Path) -> Work:
    path = table(interactions, folder, users=30_000)
    return lambda: read_table(path)


def prepare_duckdb(interactions: int, folder: Path) -> Work:
    options, limit = {"interactions": table(interactions, folder)}, 256 << 20

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            prepare_to(Path(made) / "data", "table", options, engine="duckdb", memory_limit=limit)

    return work


def epoch(split: Split) -> Work:
    config = PretrainConfig(training=TrainingConfig(batch_size=128, epochs=1), validation_users=100)
    return lambda: pretrain(split, config, 0)


def cf_items(items: int, folder: Path) -> Work:
    return epoch(world(20 * 128, items))


def cf_users(users: int, folder: Path) -> Work:
    return epoch(world(users, 10_000))


def cf_interactions(interactions: int, folder: Path) -> Work:
    return epoch(world(1_000, 10_000, interactions // 1_000))


def tower_items(items: int, folder: Path) -> Work:
    texts = torch.randn(items + 1, 64, generator=torch_generator(0, "growth", items))
    model = SASRecConfig(items="texts")
    training = TrainingConfig(batch_size=128, epochs=1)
    config, split = PretrainConfig(model=model, training=training, validation_users=100), world(20 * 128, items)
    return lambda: pretrain(split, config, 0, texts=texts)


def stage_one(users: int, items: int, folder: Path, length: int = 10, **settings: Any) -> Work:
    """Stage 1 behind an untrained CF model; an encoder of two layers reads each text once."""
    split, backbone = world(users, items, length), SASRec(items, SASRecConfig()).eval()
    if not (folder / "encoder").is_dir():
        save_tiny_encoder(folder / "encoder")
    config = AlignConfig(training=TrainingConfig(batch_size=32, epochs=1), validation_items=100, **settings)

    def work() -> None:
        encoder = load_encoder(EncoderConfig(name=str(folder / "encoder"), tune="frozen"))
        align(split, backbone, [None, *split.dataset.catalogue.titles[1:]], encoder, config, 0)

    return work


def align_users(users: int, folder: Path) -> Work:
    return stage_one(users, 1_000, folder)


def align_items(items: int, folder: Path) -> Work:
    return stage_one(20 * 32, items, folder)


def align_interactions(interactions: int, folder: Path) -> Work:
    return stage_one(50, 10_000, folder, interactions // 50, positions="all")


def prompted(split: Split) -> PromptedRanker:
    """A language model of three layers behind untrained vectors."""
    items, titles = split.dataset.n_items, split.dataset.catalogue.titles
    rng = torch_generator(0, "growth", items)
    cf, text = (torch.randn(items + 1, 128, generator=rng) for _ in range(2))
    table = JointItemTable.of(cf, text, torch.ones(items + 1).bool())
    return PromptedRanker(tiny_language_model(), SASRec(items, SASRecConfig()).eval(), table, titles, PromptConfig())


def stage_two(users: int, items: int, length: int = 10, **settings: Any) -> Work:
    split = world(users, items, length)
    made = prompted(split)
    config = TuneConfig(validation_users=0, training=TrainingConfig(batch_size=4, epochs=1), **settings)
    return lambda: tune(made, split, config)


def tune_users(users: int, folder: Path) -> Work:
    return stage_two(users, 1_000)


def tune_items(items: int, folder: Path) -> Work:
    return stage_two(20 * 4, items)


def tune_interactions(interactions: int, folder: Path) -> Work:
    return stage_two(2, 10_000, interactions // 2, positions="all", candidates=5)


def score_titles(users: int, folder: Path) -> Work:
    split = world(users, 1_000)
    ranker = LanguageRanker(prompted(split), "score", batch_size=32)
    rng = numpy_generator(0, "growth", users)
    queries = [Query(split.test_history(user), user) for user in range(users)]
    candidates = [rng.permutation(1_000)[:20] + 1 for _ in range(users)]
    return lambda: ranker.rank(queries, candidates)


def retrieve(items: int, folder: Path) -> Work:
    rng = numpy_generator(0, "growth", items)
    vectors = rng.standard_normal((items + 1, 64), dtype=np.float32)
    users = rng.standard_normal((1_000, 64), dtype=np.float32)
    index = ExactIndex(vectors, np.arange(1, items + 1))
    return lambda: [index.search(users[start : start + 256], 20) for start in range(0, len(users), 256)]


def grouped(items: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items in groups, and of 1,000 users; without groups no index finds much."""
    load_faiss().omp_set_num_threads(1)
    return drawn(items, 1_000, 64, max(10, items // 1_000), items // 20)


def index(items: int, folder: Path) -> Work:
    vectors, _ = grouped(items)
    return lambda: ApproximateIndex.made(vectors)


def retrieve_index(items: int, folder: Path) -> Work:
    vectors, users = grouped(items)
    made = ApproximateIndex.made(vectors)
    recall, enough = made.raise_recall(users[:256], 20, 0.95)
    if not enough:
        raise RuntimeError(
            f"The index of {items:,} items finds {recall.found:.3f} of the exact answer; 0.95 is wanted."
        )
    return lambda: [made.search(part, 20) for part in batches(users)]


def score(users: int, folder: Path) -> Work:
    split = world(users, 10_000)
    ranker = BackboneRecommender(SASRec(10_000, SASRecConfig()).eval())
    rng = numpy_generator(0, "growth", users)
    queries = [Query(split.test_history(user), user) for user in range(users)]
    candidates = list(rng.integers(1, 10_001, size=(users, 20)))
    return lambda: ranker.rank(queries, candidates)


PARTS: dict[str, Callable[[int, Path], Work]] = {
    "prepare": prepare,
    "prepare-same-ids": prepare_same_ids,
    "prepare-duckdb": prepare_duckdb,
    "cf-users": cf_users,
    "cf-items": cf_items,
    "cf-interactions": cf_interactions,
    "tower-items": tower_items,
    "align-users": align_users,
    "align-items": align_items,
    "align-interactions": align_interactions,
    "tune-users": tune_users,
    "tune-items": tune_items,
    "tune-interactions": tune_interactions,
    "retrieve": retrieve,
    "index": index,
    "retrieve-index": retrieve_index,
    "score": score,
    "score-titles": score_titles,
    "bulk-users": bulk("bulk-users"),
    "bulk-items": bulk("bulk-items"),
}


def measure(part: str, size: int, folder: Path) -> tuple[float, float]:
    """Processor seconds, and megabytes by which memory rose, in this process."""
    torch.set_num_threads(1)
    if part.startswith("bulk-ray"):
        return on_cluster(folder / f"{part}-{size}", folder)
    with progress_shown(False):
        PARTS[part](ROWS[part][2][0], folder)()
        work = PARTS[part](size, folder)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before, least = _memory("VmRSS"), math.inf
        for _ in range(3):
            started = time.process_time()
            work()
            least = min(least, time.process_time() - started)
            if least >= 5:
                break
    return least, _memory("VmHWM") - before


def _memory(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1000


def slope(sizes: list[int], values: list[float]) -> float:
    """The exponent of growth: the slope of the straight line through the logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-6)), 1)[0]), 2)


def in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """What comes of a call in a process of its own, which has the imports of all."""
    with _PROCESSES.Pool(1) as pool:
        return pool.apply(work, arguments)


def row(part: str, folder: Path) -> dict[str, Any]:
    """All sizes of a part."""
    what, grows, sizes = ROWS[part]
    seconds, memory = list[float](), list[float]()
    for size in sizes:
        if part.startswith("bulk"):
            in_child(trained, part, size, folder)
        found = in_child(measure, part, size, folder)
        seconds.append(float(f"{found[0]:.3g}"))
        memory.append(float(f"{max(found[1], 0):.3g}"))
        print(part, size, seconds[-1], memory[-1], file=sys.stderr, flush=True)
    slopes = [slope(sizes, seconds), slope(sizes[-2:], seconds[-2:]), slope(sizes[-2:], memory[-2:])]
    return {"what": what, "grows": grows, "sizes": sizes, "cpu_s": seconds, "mb": memory, "slopes": slopes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="others stay as they stand in the file"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about, path = measured_by("growth"), RESULTS / "growth.json"
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.rows:
            found = row(part, Path(folder))
            with changing(path) as table:
                when = {"date": about["date"], "commit": str(about["commit"])[:7], "command": about["command"]}
                rows = table.get("rows", {}) | {part: found | when}
                table["rows"] = {name: rows[name] for name in ROWS if name in rows}
                table.update({name: about[name] for name in ("device", "versions")})


if __name__ == "__main__":
    main()
