"""Kinds of approximate indices compared in memory and time, at the same recall: `python -m benchmarks.index_kinds --items 100000`.

Vectors are drawn as in `benchmarks.retrieval`, with one more dimension for rarity as both towers as one have it (the users' side is 64, the
items' side small, counts of interactions heavy-tailed). Of each kind: CPU seconds of one thread to make it, its bytes an item (beside
them an exact score needs the vectors themselves, which lie in a file), and the cheapest setting that finds the
stated share of the exact best 20 and its CPU seconds for all users; where none that is tried does, the best there is. `more` is how many times as many
items as wanted are scored exactly. The row of the same size is replaced in benchmarks/results/index-kinds.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from allmrec.core.seeding import numpy_generator
from allmrec.recommend.approximate_index import ApproximateIndex, load_faiss, padded
from allmrec.recommend.item_index import ExactIndex
from benchmarks.about import measured_by
from benchmarks.retrieval import batches, drawn
from benchmarks.tables import RESULTS, read_table, write_result

TARGET = RESULTS / "index-kinds.json"
_USER_SIDE, _COUNT = 64.0, 20
_CELLS, _EFFORTS, _MORE = (8, 16, 32), (64, 128, 256), (2, 4, 10)


def with_rarity(vectors: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the dimension for rarity, half as strong as the other scores."""
    counts = 3 * numpy_generator(0, "rarity", len(vectors)).pareto(0.8, len(vectors))
    rare = -0.5 * (users[:50] @ vectors[1:].T).std(axis=1).mean() * np.log1p(counts)
    side = ((rare - rare.mean()) / _USER_SIDE).astype(np.float32)
    side[0] = 0
    ones = np.full((len(users), 1), _USER_SIDE, dtype=np.float32)
    return np.hstack([vectors, side[:, None]]), np.hstack([users, ones])


def kinds(items: int, dim: int) -> dict[str, str]:
    """What faiss calls each kind."""
    cells = 2 ** round(np.log2(items) / 2)
    return {
        "ivf-sq8": f"IVF{cells},SQ8",
        "ivf-sq4": f"IVF{cells},SQ4",
        "ivf-pq4": f"IVF{cells},PQ{dim // 2}x4fs",
        "hnsw-sq8": "HNSW16_SQ8",
        "ivf-pq8": f"IVF{cells},PQ{dim // 4}",
    }


def searched(index: ApproximateIndex, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Products of what is found, and CPU seconds."""
    started = time.process_time()
    found = np.concatenate([index.search(part, _COUNT)[1][:, :_COUNT] for part in parts])
    return found, time.process_time() - started


def measured(
    name: str, vectors: np.ndarray, parts: Sequence[np.ndarray], least: np.ndarray, aim: float
) -> dict[str, Any]:
    """One kind."""
    faiss = load_faiss()
    items, dim = len(vectors) - 1, padded(vectors[:1]).shape[1]
    called = kinds(items, dim)[name]
    started = time.process_time()
    made = faiss.index_factory(dim, called, faiss.METRIC_INNER_PRODUCT)
    whole = padded(vectors[1:])
    made.train(
        whole[:: max(1, items // 65_536)] if name.startswith("hnsw") else whole[:: max(1, items // (64 * made.nlist))]
    )
    made.add(whole)
    row: dict[str, Any] = {"kind": name, "faiss": called, "made_cpu_seconds": round(time.process_time() - started, 2)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        faiss.write_index(made, str(path))
        row["bytes_an_item"] = round(path.stat().st_size / items, 1)
    tried = []
    for effort in _EFFORTS if name.startswith("hnsw") else _CELLS:
        for more in _MORE:
            if name.startswith("hnsw"):
                made.hnsw.efSearch = effort
            else:
                made.nprobe = effort
            products, seconds = searched(ApproximateIndex(vectors, made, more), parts)
            found = float((products >= least[:, None]).mean())
            tried.append(
                {"searched": effort, "more": more, "recall": round(found, 4), "cpu_seconds": round(seconds, 3)}
            )
    enough = [one for one in tried if one["recall"] >= aim]
    best = min(enough, key=lambda one: one["cpu_seconds"]) if enough else max(tried, key=lambda one: one["recall"])
    return row | best | {"enough": bool(enough)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--kinds", nargs="+", default=list(kinds(1, 16)), choices=list(kinds(1, 16)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_faiss().omp_set_num_threads(1)
    items = arguments.items
    vectors, users = with_rarity(*drawn(items, arguments.users, arguments.dim, max(50, items // 1000), items // 20))
    exact, parts = ExactIndex(vectors, np.arange(1, items + 1)), batches(users)
    started = time.process_time()
    wanted = np.concatenate([exact.search(part, _COUNT)[1] for part in parts])
    row: dict[str, Any] = {
        "items": items, "users": len(users), "dim": vectors.shape[1], "count": _COUNT, "aim": arguments.recall,
        "exact_cpu_seconds": round(time.process_time() - started, 3), "bytes_of_vectors_an_item": 4 * vectors.shape[1],
    }  # fmt: skip
    least = wanted[:, -1] - 1e-5 * np.abs(wanted[:, -1])
    row["kinds"] = [measured(name, vectors, parts, least, arguments.recall) for name in arguments.kinds]
    others = [old for old in read_table(TARGET).get("rows", []) if old["items"] != items]
    write_result(TARGET, {"rows": sorted([*others, measured_by("index_kinds") | row], key=lambda one: one["items"])})
    Console(width=140).print(row)


if __name__ == "__main__":
    main()
