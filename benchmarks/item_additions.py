"""What it costs to add an item to a large catalogue: the retriever, and what else knows every item.

    python -m benchmarks.item_additions [--items 1000000] [--dim 128]

Joint vectors are drawn. The retriever by joint vectors has an index of the known items, and takes the new item up beside it
(`JointRetriever.with_later`). The alternative is what was done before: centre and scale the whole table again, see by comparison that the
known vectors are those of the index, and put an exact index of the later rows beside it. Then what else an addition makes anew: the table
of joint vectors, the language model's slots, the ids, the texts. CPU seconds of one thread; the sides take turns, and the least of the
turns counts. The row of the same size is replaced in benchmarks/results/item-additions.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from rich.console import Console

from allmrec.alignment.joint_items import JointItemTable
from allmrec.data.catalogue import Catalogue
from allmrec.data.vocabulary import Vocabulary
from allmrec.recommend.item_index import ExactIndex, WithLaterItems
from allmrec.recommend.item_indexer import ItemIndexer
from allmrec.recommend.retrieve import JointRetriever
from benchmarks.about import measured_by
from benchmarks.retrieval import drawn, least
from benchmarks.tables import RESULTS, read_table, write_result

TARGET = RESULTS / "item-additions.json"
_COMPARED = 100_000


def anew(vectors: np.ndarray, known: np.ndarray, index: ExactIndex) -> WithLaterItems:
    """As before: from the whole longer table."""
    centred = vectors - vectors[1 : len(known)].mean(axis=0)
    scaled = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    scaled[0] = 0
    parts = (slice(start, min(start + _COMPARED, len(known))) for start in range(0, len(known), _COMPARED))
    if not all(np.allclose(known[part], scaled[part], rtol=1e-4, atol=1e-6) for part in parts):
        raise SystemExit("The known vectors changed.")
    return WithLaterItems(index, scaled[len(known) :], len(known))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items = arguments.items
    table, _ = drawn(items, 1, arguments.dim, 1000, 10_000)
    text = torch.from_numpy(table)
    joint = JointItemTable.of(text, text, torch.ones(items + 1, dtype=torch.bool))
    more = joint.with_text_rows(torch.ones(1, arguments.dim))
    vectors = more.vectors().numpy()
    # An exact index, as the known items' index is not looked at: neither side makes it again.
    known = JointRetriever(vectors[: items + 1], 10, ItemIndexer(items), items)
    scaled = vectors[: items + 1] - vectors[1 : items + 1].mean(axis=0)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-12)
    scaled[0] = 0
    index = ExactIndex(scaled, np.arange(1, items + 1))
    ids = Vocabulary(tuple(f"item-{number}" for number in range(items)), 1, "item")
    texts = Catalogue((None, *(f"Title {n}" for n in range(items))), (None,) * (items + 1), ((),) * (items + 1))
    # The index of the known items is made before the first addition.
    known.with_later(more.vectors(items + 1))
    beside, again, table_seconds, slots, names, words = least(
        lambda: known.with_later(more.vectors(items + 1)),
        lambda: anew(vectors, scaled, index),
        lambda: joint.with_text_rows(torch.ones(1, arguments.dim)),
        more.vectors,
        lambda: ids.extended(["new"]),
        lambda: texts.extended(["New"]),
        turns=arguments.turns,
    )
    row: dict[str, Any] = {
        "items": items,
        "dim": arguments.dim,
        "cpu_seconds": {"beside": round(beside, 6), "anew": round(again, 4)},
        "anew_over_beside": round(again / beside),
        "rest_cpu_seconds": {
            "joint vectors": round(table_seconds, 4),
            "slots": round(slots, 4),
            "ids": round(names, 4),
            "texts": round(words, 4),
        },
    } | measured_by("item_additions")
    rows = [one for one in read_table(TARGET).get("rows", []) if one["items"] != items]
    write_result(TARGET, {"rows": sorted([*rows, row], key=lambda one: int(one["items"]))})
    Console(width=140).print(row)


if __name__ == "__main__":
    main()
