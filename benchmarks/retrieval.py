"""The best items of a large catalogue for many users: exactly, against the plain matrix product, and nearly, by an index.

    python -m benchmarks.retrieval [--items 1000000] [--dim 128] [--index]

Vectors are drawn, for no model has so many items: `--groups` middles gather around `--themes` middles of their own, items around
groups, and users around the mean of three items of one theme. All of them lie near a subspace whose k-th direction has a deviation that falls as
1/√k, as principal components of trained item vectors do, and have length 1 (the CF models with `similarity = "cosine"`). The plain product is the faster one
of numpy's and torch's with a place for its result at hand, users in the same batches; it finds nothing yet. CPU seconds of one
thread; the sides take turns, and the least of the turns counts. The row of the same size is replaced in benchmarks/results/retrieval.json.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console

from allmrec.core.seeding import numpy_generator
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.item_index import ExactIndex
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, read_table, write_result

TARGET = RESULTS / "retrieval.json"
BATCH = 256


def drawn(items: int, users: int, dim: int, themes: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items (row 0 pads) and of users."""
    rng = numpy_generator(0, "retrieval", items, dim)
    falling = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)

    def around(middles: np.ndarray, spread: float) -> np.ndarray:
        moved: np.ndarray = middles + spread * falling * rng.standard_normal(middles.shape, dtype=np.float32)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    theme = around(np.zeros((themes, dim), dtype=np.float32), 1.0)
    theme_of = rng.integers(themes, size=groups)
    group = around(theme[theme_of], 0.25)
    group_of = rng.integers(groups, size=items + 1)
    vectors = np.empty((items + 1, dim), dtype=np.float32)
    for start in range(0, items + 1, 200_000):
        part = slice(start, start + 200_000)
        vectors[part] = around(group[group_of[part]], 0.2)
    vectors[0] = 0
    # Three items of one theme: of one group and of two others near it.
    order = np.argsort(theme_of[group_of[1:]], kind="stable") + 1
    first = rng.integers(items - 3, size=users)
    chosen = np.stack([order[first + n] for n in range(3)], axis=1)
    return vectors, around(vectors[chosen].mean(axis=1), 0.1)


def least(*work: Callable[[], Any], turns: int) -> list[float]:
    """The least CPU seconds of each, taken in turn."""
    found = [float("inf")] * len(work)
    for _ in range(turns):
        for number, one in enumerate(work):
            started = time.process_time()
            one()
            found[number] = min(found[number], time.process_time() - started)
    return found


def batches(users: np.ndarray) -> list[np.ndarray]:
    return [users[start : start + BATCH] for start in range(0, len(users), BATCH)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--themes", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--index", action="store_true", help="measure the approximate index too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    vectors, users = drawn(arguments.items, arguments.users, arguments.dim, arguments.themes, arguments.groups)
    rows = np.arange(1, len(vectors))
    exact, table = ExactIndex(vectors, rows), torch.from_numpy(vectors[1:])
    parts = batches(users)
    # In columns, so that a place for the result need not be as large as users times items.
    columns = 500_000
    place = np.empty((BATCH, min(columns, arguments.items)), dtype=np.float32)

    answers: list[np.ndarray] = []

    def plain(product: Callable[[np.ndarray, int, int, np.ndarray], Any]) -> None:
        for part in parts:
            for start in range(0, arguments.items, columns):
                stop = min(start + columns, arguments.items)
                product(part, start, stop, place.reshape(-1)[: len(part) * (stop - start)].reshape(len(part), -1))

    def by_numpy(part: np.ndarray, start: int, stop: int, out: np.ndarray) -> None:
        np.matmul(part, vectors[1 + start : 1 + stop].T, out=out)

    def by_torch(part: np.ndarray, start: int, stop: int, out: np.ndarray) -> None:
        torch.mm(torch.from_numpy(part), table[start:stop].T, out=torch.from_numpy(out))

    def searched() -> None:
        answers[:] = [exact.search(part, arguments.count)[0] for part in parts]

    numpy_s, torch_s, exact_s = least(lambda: plain(by_numpy), lambda: plain(by_torch), searched, turns=arguments.turns)
    product = min(numpy_s, torch_s)
    row: dict[str, Any] = {
        "items": arguments.items, "users": len(users), "dim": arguments.dim, "count": arguments.count,
        "product_cpu_seconds": product, "product_by": "numpy" if numpy_s < torch_s else "torch",
        "exact_cpu_seconds": exact_s, "exact_ratio": exact_s / product,
    }  # fmt: skip
    wanted = np.concatenate(answers)
    if arguments.index:
        started = time.process_time()
        index = ApproximateIndex.made(vectors)
        row["index_build_cpu_seconds"] = time.process_time() - started
        row["by_cells_searched"] = []
        for cells in (8, 16, 32, 64, 128):
            index.faiss_index.nprobe = cells
            (seconds,) = least(lambda: [index.search(part, arguments.count) for part in parts], turns=2)
            found = np.concatenate([index.search(part, arguments.count)[0][:, : arguments.count] for part in parts])
            shared = [len(np.intersect1d(a, b)) for a, b in zip(found, wanted, strict=True)]
            cell = {"cells": cells, "of": int(index.faiss_index.nlist), "cpu_seconds": seconds}
            cell |= {"share_of_exact": seconds / exact_s, "share_of_product": seconds / product}
            row["by_cells_searched"].append(cell | {"recall": float(np.mean(shared)) / wanted.shape[1]})
    row["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = ("items", "dim")
    others = [old for old in read_table(TARGET).get("rows", []) if any(old[name] != row[name] for name in size)]
    write_result(TARGET, {"rows": [*others, measured_by("retrieval") | row]})
    Console(width=140).print(row)


if __name__ == "__main__":
    main()
