"""A file's rows in a DuckDB database: added part by part, read back a column at a time."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from allmrec.core.errors import ConfigError, MissingExtraError, NoSpaceError
from allmrec.data.files import Part, Role, Rows
from allmrec.data.files.parts import is_number, joined, written

if TYPE_CHECKING:
    import duckdb

__all__ = ["Collecting", "Lines", "Store", "StoredColumns", "duckdb_errors"]

# Rows that are handed to DuckDB at once: two of its row groups.
_ROWS = 1 << 18
_BATCH = 1 << 17


class Store:
    """One DuckDB database, in memory as far as its limit goes and beyond that in a folder.

    In a file of its own it would take half as long again: DuckDB compresses what it writes there.

    Args:
        folder: where what does not fit goes.
        memory_limit: bytes that DuckDB may take.
        threads: cores that it may use.

    Attributes:
        sql: the connection.

    Raises:
        MissingExtraError: duckdb is not installed.
    """

    def __init__(self, folder: Path, memory_limit: int, threads: int) -> None:
        try:
            import duckdb
        except ModuleNotFoundError:
            raise MissingExtraError("duckdb", "duckdb", "Preparing what is larger than memory") from None
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit // 1024}KiB",
            "threads": threads,
            "temp_directory": str(folder / "spilled"),
            "preserve_insertion_order": True,
            "checkpoint_threshold": "1TB",  # there is no file to write to
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._tables = {"log"}
        self.sql: duckdb.DuckDBPyConnection = duckdb.connect(config=config)
        self.sql.execute("SET enable_progress_bar = false")

    def close(self) -> None:
        """Close the database, whose file may then be removed."""
        self._pool.shutdown()  # rows may still be on their way
        self.sql.close()

    def collect(self, wanted: Mapping[str, Role]) -> Collecting:
        """A collector whose rows become the table `log`, in the place of what was there."""
        return Collecting(self, wanted)

    def take(self, rows: Rows, wanted: Mapping[str, Role]) -> StoredColumns:
        """The columns of rows that were read in memory."""
        kept = self.collect(wanted)
        lines = rows.lines()
        for start in range(0, rows.n_rows, _ROWS):
            size = min(_ROWS, rows.n_rows - start)
            arrays = {name: _plain(column.slice(start, size)) for name, column in rows.columns.items()}
            kept.add(Part(arrays, range(size) if lines is None else lines[start : start + size]))
        return kept.columns(tuple(rows.columns))

    def one(self, query: str) -> tuple[Any, ...]:
        """The one row of a query."""
        (row,) = self.sql.execute(query).fetchall()
        found: tuple[Any, ...] = row
        return found

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query, some at a time."""
        # A connection of its own, on which nobody waits for what is not taken.
        with self.sql.cursor() as cursor:
            yield from cursor.sql(query).to_arrow_reader(_BATCH)

    def insert(self, name: str, table: pa.Table) -> None:
        """Append rows to a table, which is made by its first rows."""
        self.sql.register("incoming", table)
        try:
            verb = f"INSERT INTO {name} BY NAME" if name in self._tables else f"CREATE TABLE {name} AS"
            self.sql.execute(f"{verb} SELECT * FROM incoming")
            self._tables.add(name)
        finally:
            self.sql.unregister("incoming")

    def insert_beside(self, name: str, table: pa.Table) -> Future[None]:
        """The same in another thread; no other query may run before `settle`."""
        return self._pool.submit(self.insert, name, table)

    def add_columns(self, name: str, columns: Mapping[str, str]) -> None:
        """Give a table further columns, which are empty in the rows that it has, behind what was handed over."""
        self.settle()
        for column, kind in columns.items():
            self.sql.execute(f"ALTER TABLE {name} ADD COLUMN {column} {kind}")

    def settle(self) -> None:
        """Wait until all rows that were handed over are in their tables."""
        self._pool.submit(int).result()  # one thread, which takes one after the other


class Collecting:
    """A `Collector` that appends the parts of a file to the table `log`.

    A column of numbers is up to three there: whole numbers, floating point and text, of which each row has one or none, as its
    part of the file had it; only all of them together tell what the column is. Each is made when a part first has such values.
    """

    def __init__(self, store: Store, wanted: Mapping[str, Role]) -> None:
        self._store, self._wanted = store, dict(wanted)
        self._kinds: dict[str, set[pa.DataType]] = {name: set() for name in wanted}
        self._lines = Lines()
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self._last: Future[None] | None = None
        self._fields = {
            field: kind
            for place, role in enumerate(self._wanted.values())
            for field, kind in _fields(place, role).items()
        }
        # Those of ids are there from the beginning, for a table has no rows without a column.
        self._there = [field for field in self._fields if field.startswith("c")] or list(self._fields)[:1]
        fields = ", ".join(f"{field} {_SQL_TYPES[self._fields[field]]}" for field in self._there)
        store.settle()  # what another collector began, which its reader gave up
        store.sql.execute("DROP TABLE IF EXISTS log")
        store.sql.execute(f"CREATE TABLE log ({fields})")

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, part: Part) -> None:
        """Take the next part."""
        n = len(part.lines)
        self._lines.append(part.lines)
        if not n:
            return
        arrays: dict[str, pa.Array] = {}
        for place, (name, role) in enumerate(self._wanted.items()):
            array = part.arrays.get(name)
            if array is None or pa.types.is_null(array.type):
                continue
            if is_number(array) and array.type not in _SQL_TYPES:
                array = written(array)  # beyond 64 bits with a sign; a column that has such is text in memory too
            self._kinds[name].add(array.type)
            stored = array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array
            fields = {kind: field for field, kind in _fields(place, role).items()}
            if stored.type not in fields:
                raise TypeError(f"column {name!r} has type {stored.type}; expected one of {list(fields)}")
            arrays[fields[stored.type]] = stored
        new = [field for field in arrays if field not in self._there]
        if new:
            self._flush()
            self._there += new
            self._store.add_columns("log", {field: _SQL_TYPES[self._fields[field]] for field in new})
        nulls = {field: pa.nulls(n, self._fields[field]) for field in self._there if field not in arrays}
        self._waiting.append(pa.table({field: (arrays | nulls)[field] for field in self._there}))
        self._n_waiting += n
        if self._n_waiting >= _ROWS:
            self._flush()

    def columns(self, names: Sequence[str]) -> StoredColumns:
        """Those wanted columns that are among `names`."""
        self._flush()
        if self._last is not None:
            self._last.result()
        there = [name for name in self._wanted if name in names]
        return StoredColumns(self._store, self._wanted, self._kinds, there, frozenset(self._there))

    def lines(self) -> Sequence[int]:
        """The line of each row."""
        return self._lines

    def _flush(self) -> None:
        """Hand the waiting rows to DuckDB, in another thread."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting, self._n_waiting = [], 0
        if self._last is not None:
            self._last.result()
        self._last = self._store.insert_beside("log", table)


class StoredColumns(Mapping[str, pa.Array]):
    """Columns that lie in the table `log`, each read into memory when it is asked for.

    Attributes:
        store: where they lie.
        kinds: the Arrow types that the parts of each column had.
    """

    def __init__(
        self,
        store: Store,
        wanted: Mapping[str, Role],
        kinds: Mapping[str, set[pa.DataType]],
        names: Sequence[str],
        there: frozenset[str],
    ) -> None:
        self.kinds = kinds
        self.store, self._wanted, self._names, self._there = store, wanted, tuple(names), there
        self._places = {name: place for place, name in enumerate(wanted)}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> pa.Array:
        if name not in self._names:
            raise KeyError(name)
        role, kinds = self._wanted[name], self.kinds[name]
        query = f"SELECT {', '.join(self.fields(name))} FROM log ORDER BY rowid"
        chunks = [_as_it_was(batch, role, kinds) for batch in self.store.batches(query)]
        chunks = chunks or [pa.array([], pa.large_string())]  # no row at all
        return joined(chunks, role) if _stamp(kinds) is None else pa.concat_arrays(chunks)

    def fields(self, name: str) -> list[str]:
        """Expressions of a column's values: one of text, or one each of whole numbers, of others and of text."""
        fields = _fields(self._places[name], self._wanted[name])
        return [field if field in self._there else f"NULL::{_SQL_TYPES[kind]}" for field, kind in fields.items()]


def _fields(place: int, role: Role) -> dict[str, pa.DataType]:
    """The fields of the table that hold a column, and their types."""
    if role == "id":
        return {f"c{place}": pa.large_string()}
    return {f"i{place}": pa.int64(), f"f{place}": pa.float64(), f"t{place}": pa.large_string()}


class Lines(Sequence[int]):
    """The lines of rows, part behind part, of which most are ranges."""

    def __init__(self) -> None:
        self._parts: list[Sequence[int]] = []
        self._ends: list[int] = []

    def append(self, part: Sequence[int]) -> None:
        """Take the lines of the next rows."""
        if part and part[-1] - part[0] + 1 == len(part):
            part = range(part[0], part[-1] + 1)
        self._parts.append(part if isinstance(part, range) else array("q", part))
        self._ends.append(len(self) + len(part))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[int]: ...
    def __getitem__(self, place: int | slice) -> int | Sequence[int]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]


_SQL_TYPES = {pa.large_string(): "VARCHAR", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}


def _as_it_was(batch: pa.RecordBatch, role: Role, kinds: set[pa.DataType]) -> pa.Array:
    """A batch's values in the type that the whole column has."""
    if role == "id":
        return batch.column(0).cast(pa.large_string())
    stamp = _stamp(kinds)
    if stamp is not None:
        return batch.column(0).cast(stamp)
    whole, floating, texts = batch.columns
    for kind, column in ((pa.large_string(), texts), (pa.int64(), whole), (pa.float64(), floating)):
        if kinds <= {kind}:
            return column.cast(kind)
    if kinds == {pa.int64(), pa.float64()}:
        return pc.coalesce(floating, whole.cast(pa.float64(), safe=False))
    values = zip(whole.to_pylist(), floating.to_pylist(), texts.to_pylist(), strict=True)
    return pa.array(
        [text if text is not None else _written(w if w is not None else f) for w, f, text in values], pa.large_string()
    )


def _written(number: float | None) -> str | None:
    """A number as Python writes it."""
    return None if number is None else repr(number)


def _stamp(kinds: set[pa.DataType]) -> pa.DataType | None:
    """The type of a column of Arrow's own times; None where it is none."""
    return next((kind for kind in kinds if pa.types.is_timestamp(kind)), None)


def _plain(column: pa.Array) -> pa.Array:
    """A column whose values stand in every row."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


@contextmanager
def duckdb_errors(output: Path, memory_limit: int) -> Iterator[None]:
    """Turn what DuckDB says of memory and disk into our errors.

    Raises:
        ConfigError: the memory limit is too small.
        NoSpaceError: the disk is full.
    """
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if "max_temp_directory_size" in str(error):
            raise NoSpaceError(output, f"what does not fit in memory found no room beside it ({error})") from error
        raise ConfigError(
            f"preparing needs more than the {memory_limit / 2**20:,.0f} MiB of memory that DuckDB may take; raise the limit "
            "(--memory-limit, such as 4GB)."
        ) from error
    except duckdb.IOException as error:
        if "no space" in str(error).lower():
            raise NoSpaceError(output, f"the database beside it found no room ({error})") from error
        raise
