"""A file's rows as they come, part by part, and what collects them: here in memory, elsewhere in a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, TypeAlias

import pyarrow as pa

from allmrec.data.files.rows import Role

__all__ = ["Collect", "Collector", "InMemory", "Part", "is_number", "joined", "written"]


@dataclass(frozen=True)
class Part:
    """Rows that follow one another in a file.

    Attributes:
        arrays: values by column; a column that all of these rows lack is left out.
        lines: the line of each row, counted from 1.
    """

    arrays: Mapping[str, pa.Array]
    lines: Sequence[int]


class Collector(Protocol):
    """Takes the parts of a file in their order and gives back its columns."""

    def add(self, part: Part) -> None:
        """Take the next part."""

    def columns(self, names: Sequence[str]) -> Mapping[str, pa.Array]:
        """Those wanted columns that are among `names`, each as one array of all parts."""

    def lines(self) -> Sequence[int]:
        """The line of each row."""

    def __len__(self) -> int:
        """How many rows there are."""


# Makes a collector for columns with their roles.
Collect: TypeAlias = Callable[[Mapping[str, Role]], Collector]


class InMemory:
    """Keeps all parts in memory.

    Args:
        wanted: columns to keep.
    """

    def __init__(self, wanted: Mapping[str, Role]) -> None:
        self._wanted = wanted
        self._columns: dict[str, list[pa.Array]] = {name: [] for name in wanted}
        self._lines: list[Sequence[int]] = []
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, part: Part) -> None:
        """Take the next part."""
        self._lines.append(part.lines)
        self._n += len(part.lines)
        for name, chunks in self._columns.items():
            chunks.append(part.arrays.get(name, pa.nulls(len(part.lines))))

    def columns(self, names: Sequence[str]) -> Mapping[str, pa.Array]:
        """Those wanted columns that are among `names`."""
        there = [name for name in self._columns if name in names]
        with ThreadPoolExecutor() as pool:  # Arrow lets go of the interpreter while it looks for ids that are the same
            arrays = pool.map(lambda name: joined(self._columns[name], self._wanted[name]), there)
            return dict(zip(there, arrays, strict=True))

    def lines(self) -> Sequence[int]:
        """The line of each row."""
        return list(chain.from_iterable(self._lines))


def joined(chunks: list[pa.Array], role: Role) -> pa.Array:
    """One array of all parts' arrays, which may differ in type."""
    kinds = {chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)}
    if role == "texts":
        kind = pa.large_list(pa.large_string())
    elif kinds == {pa.int64()}:
        kind = pa.int64()
    elif kinds and kinds <= {pa.int64(), pa.float64()}:
        kind = pa.float64()
    else:
        kind = pa.large_string()
        chunks = [written(chunk) if is_number(chunk) else chunk for chunk in chunks]
    chunks = [chunk.cast(kind, safe=False) for chunk in chunks]
    if role == "id":
        # Ids come again and again, so that each is kept once.
        return pa.chunked_array(chunks, kind).dictionary_encode().combine_chunks()
    return pa.concat_arrays(chunks)


def written(numbers: pa.Array) -> pa.Array:
    """Numbers as text. Arrow writes 5.0 as 5, Python as it was."""
    return pa.array([None if value is None else repr(value) for value in numbers.to_pylist()], pa.large_string())


def is_number(chunk: pa.Array) -> bool:
    """Whether an array holds numbers."""
    return bool(pa.types.is_integer(chunk.type) or pa.types.is_floating(chunk.type))
