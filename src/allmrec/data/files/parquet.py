"""Parquet files; knows no column's meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allmrec.core.errors import DataError
from allmrec.data.files.rows import Role, Rows, open_failure

__all__ = ["read_parquet"]


def read_parquet(path: Path, wanted: Mapping[str, Role]) -> Rows:
    """Read columns of a Parquet file. Times of any unit become Unix seconds.

    Raises:
        DataError: the file is missing or damaged, or a column's type does not suit its role.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            n_rows = file.metadata.num_rows
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise DataError(f"two columns are called {twice[0]!r}; expected different names", path)
            table = file.read(columns=[name for name in names if name in wanted])
            table.validate(full=True)
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise open_failure(path, error) from error
        raise DataError(f"this is no Parquet file, or a damaged one ({error}); get the file again", path) from error
    columns = {name: _column(table.column(name), name, wanted[name], path) for name in table.column_names}
    return Rows(path, names, columns, n_rows, lambda: None)


def _column(column: pa.ChunkedArray, name: str, role: Role, path: Path) -> pa.Array:
    """A column in the type that its role wants."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    target = _target(kind, role)
    if target is not None:
        try:
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                # Microseconds reach far enough for any date that a log could hold.
                column = pc.floor_temporal(column.cast(pa.timestamp("us"), safe=False), unit="second")
                column = column.cast(pa.timestamp("s"))
            array = column.cast(target).combine_chunks()
            return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
        except (pa.ArrowException, ValueError) as error:
            raise DataError(f"column {name!r} of type {kind} cannot be read ({error})", path) from error
    expected = {
        "id": "text or whole numbers",
        "number": "numbers or times",
        "text": "text",
        "texts": "text or lists of texts",
    }[role]
    raise DataError(f"column {name!r} has type {kind}; expected {expected}", path)


def _target(kind: pa.DataType, role: Role) -> pa.DataType | None:
    """The type to read a column as, or None where it does not suit its role."""
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return pa.large_string()
    if types.is_integer(kind):
        return pa.int64() if role == "number" else pa.large_string()
    if types.is_floating(kind) or types.is_decimal(kind):
        # An id such as 12.0 was a whole number once, and nobody knows what became of the large ones.
        return {"id": None, "number": pa.float64()}.get(role, pa.large_string())
    if role == "number" and (types.is_timestamp(kind) or types.is_date(kind)):
        return pa.int64()
    if role == "texts" and (types.is_list(kind) or types.is_large_list(kind)):
        return pa.large_list(pa.large_string())
    return None
