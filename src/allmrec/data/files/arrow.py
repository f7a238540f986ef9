"""Arrow tables, from a Parquet file or from memory, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from allmrec.core.errors import DataError
from allmrec.data.files.rows import Role, Rows

__all__ = ["require_different", "rows_of_table"]


def rows_of_table(table: pa.Table, wanted: Mapping[str, Role], path: Path, names: Sequence[str] | None = None) -> Rows:
    """Columns of an Arrow table. Times of any unit become Unix seconds.

    Args:
        table: the table.
        wanted: columns to give back where they exist.
        path: where it comes from.
        names: every column of the source, where the table has only some.

    Raises:
        DataError: a column's type does not suit its role, or two columns have one name.
    """
    names = table.column_names if names is None else names
    require_different(names, path)
    columns = {name: _column(table.column(name), name, wanted[name], path) for name in names if name in wanted}
    return Rows(path, tuple(names), columns, table.num_rows, lambda: None)


def require_different(names: Sequence[str], path: Path) -> None:
    """Check that no two columns have one name.

    Raises:
        DataError: two have.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"two columns are called {twice!r}; expected different names", path)


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
