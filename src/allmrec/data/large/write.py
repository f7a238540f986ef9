"""The kept interactions as a data set on disk, byte by byte as `InteractionDataset.save` has them, without holding them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from allmrec.core.hashing import ContentDigest
from allmrec.data.build import whole_seconds
from allmrec.data.describing import Described
from allmrec.data.interactions import CONTENT, items_table
from allmrec.data.large.clean import StoredLog
from allmrec.data.large.filters import order_keys
from allmrec.data.large.store import Store
from allmrec.data.provenance import Step, Summary

__all__ = ["kept_items", "write_parts"]

_PIECE = 1 << 24
# Interactions whose pairs are counted at once; about 100 bytes each.
_AT_ONCE = 1 << 22
_TYPES: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4")}


def kept_items(store: Store) -> list[str]:
    """The ids of the items with interactions, in the order of their numbers."""
    query = "SELECT items.name FROM kept_items JOIN items ON items.rowid = kept_items.i ORDER BY kept_items.i"
    return [name for batch in store.batches(query) for name in batch.column(0).to_pylist()]


def write_parts(log: StoredLog, described: Described, last: Step, folder: Path) -> tuple[str, Summary]:
    """Write interactions, users and items into a folder.

    Args:
        log: has the view `kept` and the tables `kept_users` and `kept_items`.
        described: the items.
        last: how many remain.
        folder: where to.

    Returns:
        The content hash and the size.
    """
    store, n_users, n_interactions = log.store, last.users, last.interactions
    tensors = _Tensors(folder / "interactions.safetensors", n_users, n_interactions, log.has_time)
    _write_numbers(log, tensors)
    with ThreadPoolExecutor(max_workers=1) as beside:
        counting = beside.submit(_different_pairs, tensors.mapped("offsets"), tensors.mapped("item_numbers"))
        content = _write_ids(store, described, folder, tensors)
        different = counting.result()
    summary = Summary(
        users=n_users,
        items=len(described.ids),
        interactions=n_interactions,
        average_length=n_interactions / n_users,
        density=different / (n_users * len(described.ids)),
        items_without_title=described.catalogue.missing_titles,
        items_without_description=described.catalogue.missing_descriptions,
    )
    return content, summary


def _write_ids(store: Store, described: Described, folder: Path, tensors: _Tensors) -> str:
    """Write users and items into a folder; the content hash, of them and the tensors."""
    ids = folder / "ids.json"  # what the content hash has of the ids
    _write_users(store, described, folder / "users.parquet", ids)
    pq.write_table(items_table(described.ids, described.catalogue), folder / "items.parquet")
    digest = ContentDigest()
    digest.text(len(CONTENT.encode()), [CONTENT.encode()])
    digest.text(ids.stat().st_size, _pieces(ids))
    ids.unlink()
    for name in ("offsets", "item_numbers", "times"):
        tensors.add_to(digest, name)
    catalogue = described.catalogue
    texts = json.dumps([catalogue.titles, catalogue.descriptions, catalogue.categories]).encode()
    digest.text(len(texts), [texts])
    return digest.hexdigest()


def _write_numbers(log: StoredLog, tensors: _Tensors) -> None:
    """Write the items and times of every user in order, and where each user begins."""
    store = log.store
    places = np.concatenate(
        [batch.column(0).to_numpy() for batch in store.batches("SELECT i FROM kept_items ORDER BY i")]
    )
    numbers = np.zeros(int(places[-1]) + 1, dtype=np.int32)
    numbers[places] = np.arange(1, len(places) + 1)
    end = 0
    tensors.write("offsets", np.zeros(1, dtype=np.int64))
    for batch in store.batches("SELECT n FROM kept_users ORDER BY u"):
        ends = end + np.cumsum(batch.column(0).to_numpy())
        tensors.write("offsets", ends)
        end = int(ends[-1])
    time = ", time" * log.has_time
    for batch in store.batches(f"SELECT i{time} FROM kept ORDER BY u, {', '.join(order_keys(log))}"):
        tensors.write("item_numbers", numbers[batch.column(0).to_numpy()])
        if log.has_time:
            tensors.write("times", whole_seconds(batch.column(1).to_numpy(), log.ticks))
    tensors.close()


def _different_pairs(offsets: np.ndarray, item_numbers: np.ndarray) -> int:
    """How many pairs of a user and an item there are, a few million interactions at a time: DuckDB would hold all pairs at once."""
    n_users, found, begin = len(offsets) - 1, 0, 0
    while begin < n_users:
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + _AT_ONCE, side="right")) - 1)
        users = np.repeat(np.arange(end - begin), np.diff(offsets[begin : end + 1]))
        items = np.asarray(item_numbers[offsets[begin] : offsets[end]], dtype=np.int64)
        pairs = (users << 32) | items
        pairs.sort(
            kind="stable"
        )  # nearly in order, of which only a stable sort makes use; np.unique takes several times as long
        found += (len(pairs) > 0) + int(np.count_nonzero(pairs[1:] != pairs[:-1]))
        begin = end
    return found


def _write_users(store: Store, described: Described, table: Path, ids: Path) -> None:
    """Write the users' ids as a table, and those of users and items as the content hash has them."""
    schema = pa.schema([("user_id", pa.large_string())])
    query = "SELECT users.name FROM kept_users JOIN users ON users.rowid = kept_users.u ORDER BY kept_users.u"
    with pq.ParquetWriter(table, schema) as writer, open(ids, "w", encoding="utf-8") as text:
        text.write("[[")
        for number, batch in enumerate(store.batches(query)):
            names = batch.column(0).cast(pa.large_string())
            writer.write_table(pa.table([names], schema=schema))
            text.write(", " * (number > 0) + json.dumps(names.to_pylist())[1:-1])
        text.write("], ")
        text.write(json.dumps(described.ids) + "]")


class _Tensors:
    """A safetensors file whose tensors are written piece by piece, all at once."""

    def __init__(self, path: Path, n_users: int, n: int, has_time: bool) -> None:
        sizes = {
            "offsets": ("I64", n_users + 1),
            **({"times": ("I64", n)} if has_time else {}),
            "item_numbers": ("I32", n),
        }
        header: dict[str, Any] = {}
        begin = 0
        for name, (kind, length) in sizes.items():
            end = begin + length * _TYPES[kind].itemsize
            header[name] = {"dtype": kind, "shape": [length], "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._path, self._kinds = path, {name: _TYPES[kind] for name, (kind, _) in sizes.items()}
        self._ranges: dict[str, tuple[int, int]] = {
            name: (8 + len(text) + entry["data_offsets"][0], 8 + len(text) + entry["data_offsets"][1])
            for name, entry in header.items()
        }
        with open(path, "wb") as whole:
            whole.write(struct.pack("<Q", len(text)) + text)
            whole.truncate(8 + len(text) + begin)
        self._files = {name: open(path, "r+b") for name in sizes}  # noqa: SIM115  # open as long as the others
        for name, file in self._files.items():
            file.seek(self._ranges[name][0])

    def write(self, name: str, values: np.ndarray) -> None:
        """Append values to a tensor."""
        self._files[name].write(values.astype(self._kinds[name], copy=False).tobytes())

    def close(self) -> None:
        """Close the file, every tensor of which must be whole."""
        for name, file in self._files.items():
            assert file.tell() == self._ranges[name][1], name  # noqa: S101  # counts and rows come of the same table
            file.close()

    def mapped(self, name: str) -> np.ndarray:
        """A tensor of the closed file, read where it lies."""
        begin, end = self._ranges[name]
        kind = self._kinds[name]
        return np.memmap(self._path, kind, "r", begin, ((end - begin) // kind.itemsize,))

    def add_to(self, digest: ContentDigest, name: str) -> None:
        """Add a tensor of the closed file to a hash, or nothing where there is none."""
        if name not in self._ranges:
            digest.data(b"")
            return
        begin, end = self._ranges[name]
        kind = self._kinds[name]
        digest.array(kind, ((end - begin) // kind.itemsize,), _pieces(self._path, begin, end))


def _pieces(path: Path, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
    """A part of a file, some megabytes at a time."""
    end = path.stat().st_size if end is None else end
    with open(path, "rb") as file:
        file.seek(begin)
        while begin < end and (piece := file.read(min(_PIECE, end - begin))):
            begin += len(piece)
            yield piece
