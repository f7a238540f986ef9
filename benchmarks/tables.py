"""A table of results: NAME.json, which people read, with settings, provenance and figures; NAME.npz, users' ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from allmrec.core.artifacts import read_json, write_dense_json
from allmrec.core.errors import DataError
from benchmarks.rank_files import Asked, Kept, read_ranks, write_ranks

__all__ = ["RESULTS", "add_cell", "cells_of", "changing", "curve", "read_table", "table_ranks", "write_result"]

RESULTS = Path(__file__).parent / "results"
# What is mostly the same for all cells of a table stands there once, as the first cell has it; others say what differs.
_COMMON = ("device", "versions", "changes", "data", "recipe")


def write_result(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all: as many values a line as fit."""
    write_dense_json(path, value)


def curve(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A learning curve by columns, rounded to a millionth; none where a record lacks a value."""
    names = dict.fromkeys(name for record in records for name in record)
    values = {name: [record.get(name) for record in records] for name in names}
    return {name: [round(v, 6) if isinstance(v, float) else v for v in column] for name, column in values.items()}


def read_table(path: Path) -> dict[str, Any]:
    """A table's JSON; empty where nothing was measured yet."""
    return read_json(path) if path.is_file() else {}


def cells_of(table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured already, by name: each cell with what a table says once for all of them."""
    return {name: table["common"] | cell for name, cell in table.get("cells", {}).items()}


def table_ranks(path: Path, asked: Asked) -> dict[str, Kept]:
    """Ranks of a table; none where nothing was measured yet.

    Raises:
        ArtifactError: they belong to another protocol.
    """
    place = path.with_suffix(".npz")
    return read_ranks(place, asked) if place.is_file() else {}


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """A table's JSON to change in place, written when the block ends; other processes wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.stem}.lock")):
        table = read_table(path)
        yield table
        write_result(path, table)


def add_cell(path: Path, name: str, cell: Mapping[str, Any], asked: Asked, ranks: Mapping[str, Kept]) -> None:
    """Add what a job of its own measured: several may end at the same time.

    Args:
        path: the table's JSON.
        name: of the cell.
        cell: its settings, provenance and costs; all cells of a table have the same fields.
        asked: the protocol, one for all cells of a table.
        ranks: by name within the table.

    Raises:
        ArtifactError: the table's other cells asked another protocol; nothing is written.
        DataError: the cell lacks a field that the others share; nothing is written.
    """
    with changing(path) as table:
        common = table.setdefault("common", {key: cell[key] for key in _COMMON if key in cell})
        if lacking := common.keys() - cell.keys():
            raise DataError(f"The cell {name} lacks {', '.join(sorted(lacking))}, which all cells of {path} have.")
        # Ranks first: a cell that has a name has its ranks, whenever this is killed.
        write_ranks(path.with_suffix(".npz"), asked, table_ranks(path, asked) | dict(ranks))
        table["protocol"] = asked.named()
        differing = {key: value for key, value in cell.items() if key not in common or common[key] != value}
        table.setdefault("cells", {})[name] = differing
