"""A data set that `allmrec prepare` wrote, in RecBole's files. Run in allmrec's environment.

    python examples/recbole/export.py data/shop -o recbole/shop

The folder then holds `shop.inter` and `shop.item`, RecBole's atomic files, and `user_ids.txt` and `item_ids.txt`, one id a
line. RecBole's tokens are numbers: a user's line in `user_ids.txt` counted from 0, an item's in `item_ids.txt` counted
from 1. So no id can be mistaken for a missing value or a separator. The time of an interaction is its place in the user's order:
RecBole then splits exactly as allmrec does, also where several interactions carry the same second.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from allmrec.data import InteractionDataset


def export(dataset: InteractionDataset, folder: Path) -> None:
    """Write a data set as RecBole reads it; the files are named after the folder.

    Args:
        dataset: prepared data.
        folder: where to; it is made, and files of these names are replaced.

    Raises:
        ValueError: an id holds a line break, so no file of ids can hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_ids(folder / "user_ids.txt", dataset.users.ids)
    _write_ids(folder / "item_ids.txt", dataset.items.ids)
    users = dataset.user_of_interaction()
    places = np.arange(dataset.n_interactions) - np.repeat(dataset.offsets[:-1], dataset.lengths)
    rows = np.stack([users, dataset.item_numbers.astype(np.int64), places], axis=1)
    _write_table(folder / f"{folder.name}.inter", "user_id:token\titem_id:token\ttimestamp:float", rows)
    # Named here, an item without interactions has a vector too.
    items = np.arange(1, dataset.n_items + 1)[:, None]
    _write_table(folder / f"{folder.name}.item", "item_id:token", items)


def _write_ids(path: Path, ids: Sequence[str]) -> None:
    broken = [name for name in ids if name != name.strip() or len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"The id {broken[0]!r} does not fit on a line as it is; {path.name} holds one id a line.")
    path.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def _write_table(path: Path, header: str, rows: np.ndarray) -> None:
    np.savetxt(path, rows, fmt="%d", delimiter="\t", header=header, comments="", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that `allmrec prepare` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write; its name is the data set's")
    arguments = parser.parse_args()
    dataset = InteractionDataset.load(arguments.data)
    export(dataset, arguments.output)
    print(
        f"{arguments.output}: {dataset.n_users} users, {dataset.n_items} items, {dataset.n_interactions} interactions"
    )


if __name__ == "__main__":
    main()
