"""Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allmrec.core.errors import DataError
from allmrec.data.files.arrow import require_different, rows_of_table
from allmrec.data.files.parts import Collect, Part
from allmrec.data.files.rows import Problems, Role, Rows, Wanted, check_unpacked, open_failure, wanted_of

__all__ = ["read_parquet", "read_parquet_parts"]

# What a value takes in memory at least, once it is text: where it begins, and a short text or a code.
_BYTES_A_VALUE = 16

_ROWS_A_PART = 1 << 17


def read_parquet(path: Path, wanted: Wanted, problems: Problems | None = None) -> Rows:
    """Read columns of a Parquet file. Times keep their unit where the role is "time", and become Unix seconds elsewhere.

    Args:
        path: the file.
        wanted: columns to give back where they exist.
        problems: how much the file may unpack to; by default as much as usual.

    Raises:
        DataError: the file is missing or damaged, unpacks to too much, or a column's type does not suit its role.
    """
    with _damage_named(path):
        found = _look(path, wanted, problems)
        # A text that comes again and again stays one text until it is known how much all of them take.
        with pq.ParquetFile(path, read_dictionary=found.texts) as file:
            table = file.read(columns=found.chosen)
        table.validate(full=True)
        check_unpacked(path, _table_size(table), found.packed, found.limit)
    return rows_of_table(table, found.roles, path, found.names, found.types)


def read_parquet_parts(path: Path, wanted: Wanted, problems: Problems, collect: Collect) -> Rows | None:
    """Read a Parquet file some rows at a time; arguments and errors as in `read_parquet`.

    Returns:
        The rows, or None where the whole column decides how its values are read (ids in floating point), or there is none.
    """
    unpacked, row = 0, 1
    with _damage_named(path):
        found = _look(path, wanted, problems)
        if any(
            found.roles[name] == "id" and pa.types.is_floating(found.schema.field(name).type) for name in found.chosen
        ):
            return None
        kept = collect({name: found.roles[name] for name in found.chosen})
        with pq.ParquetFile(path, read_dictionary=found.texts) as file:
            for batch in file.iter_batches(_ROWS_A_PART, columns=found.chosen):
                table = pa.Table.from_batches([batch])
                table.validate(full=True)
                unpacked += _table_size(table)
                check_unpacked(path, unpacked, found.packed, found.limit)
                part = rows_of_table(table, found.roles, path, found.names, found.types)
                kept.add(Part(part.columns, range(row, row + part.n_rows)))
                row += part.n_rows
    if row == 1:
        return None
    return Rows(path, found.names, kept.columns(found.names), len(kept), lambda: None, found.types)


@dataclass(frozen=True)
class _Found:
    """What a file's end tells of it."""

    schema: pa.Schema
    names: tuple[str, ...]
    roles: Mapping[str, Role]
    chosen: list[str]
    types: dict[str, str]
    texts: list[str]
    packed: int
    limit: int


def _look(path: Path, wanted: Wanted, problems: Problems | None) -> _Found:
    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        texts = [column.path for column in map(file.schema.column, range(len(file.schema))) if _is_text(column)]
    names = tuple(schema.names)
    require_different(names, path)
    roles = wanted_of(wanted, names)
    chosen = [name for name in names if name in roles]
    limit, packed = (problems or Problems()).max_unpacked, path.stat().st_size
    check_unpacked(path, _unpacked(metadata, chosen), packed, limit)
    types = {field.name: str(field.type) for field in schema}
    return _Found(schema, names, roles, chosen, types, texts, packed, limit)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file into our error."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise open_failure(path, error) from error
        raise DataError(f"this is no Parquet file, or a damaged one ({error}); get the file again", path) from error


def _table_size(table: pa.Table) -> int:
    return sum(_written_out(chunk) for column in table.columns for chunk in column.chunks)


def _unpacked(metadata: pq.FileMetaData, chosen: Collection[str]) -> int:
    """The bytes that columns take in memory, as far as the file's end tells. A repeated value takes next to none in the
    file, so the number of values counts as well as their size."""
    size = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            if column.path_in_schema.partition(".")[0] in chosen:
                size += max(column.total_uncompressed_size, column.num_values * _BYTES_A_VALUE)
    return size


def _is_text(column: pq.ColumnSchema) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY" and column.logical_type.type in ("STRING", "JSON", "ENUM"))


def _written_out(array: pa.Array) -> int:
    """The bytes that an array takes once each of its values is written out."""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _written_out(array.flatten())
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    return int(pc.sum(pc.binary_length(array.dictionary).take(array.indices).cast(pa.int64())).as_py() or 0)
