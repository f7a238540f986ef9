"""Arrow tables, from a Parquet file or from memory, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from allmrec.core.errors import DataError
from allmrec.data.files.rows import Role, Rows, Wanted, wanted_of

__all__ = ["require_different", "rows_of_table"]


# From here on floating point does not hold every whole number.
_EXACT = 2.0**53


def rows_of_table(
    table: pa.Table,
    wanted: Wanted,
    path: Path,
    names: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
) -> Rows:
    """Columns of an Arrow table. Times keep their unit where the role is "time", and become Unix seconds elsewhere.

    Whole numbers in floating point, which a column of ids with gaps becomes, are ids written as 12.0.

    Args:
        table: the table.
        wanted: columns to give back where they exist.
        path: where it comes from.
        names: every column of the source, where the table has only some.
        types: their types.

    Raises:
        DataError: a column's type does not suit its role, or two columns have one name.
    """
    names = table.column_names if names is None else names
    require_different(names, path)
    types = {field.name: str(field.type) for field in table.schema} if types is None else types
    roles = wanted_of(wanted, names)
    columns = {
        name: _column(table.column(name), name, roles[name], path, types[name]) for name in names if name in roles
    }
    return Rows(path, tuple(names), columns, table.num_rows, lambda: None, types)


def require_different(names: Sequence[str], path: Path) -> None:
    """Check that no two columns have one name.

    Raises:
        DataError: two have.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"two columns are called {twice!r}; expected different names", path)


def _column(column: pa.ChunkedArray, name: str, role: Role, path: Path, called: str) -> pa.Array:
    """A column in the type that its role wants."""
    column = _plain(column, role)
    kind = column.type
    if role == "id" and pa.types.is_floating(kind):
        column = _whole(column, name, path)
        kind = column.type
    target = _target(kind, role)
    if target is not None:
        try:
            if role == "number" and target == pa.int64() and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
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
        "time": "numbers or times",
        "text": "text",
        "texts": "text or lists of texts",
    }[role]
    raise DataError(f"column {name!r} has type {called}; expected {expected}", path)


def _plain(column: pa.ChunkedArray, role: Role) -> pa.ChunkedArray:
    """A column whose values stand in every row, where they stood in a dictionary."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        # Written out they may take more than the 2 GB of a plain string array.
        texts = pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
        return column.cast(pa.large_string() if texts else kind.value_type)
    if (
        role == "texts"
        and (pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and pa.types.is_dictionary(kind.value_type)
    ):
        return column.cast(pa.large_list(pa.large_string()))
    return column


def _target(kind: pa.DataType, role: Role) -> pa.DataType | None:
    """The type to read a column as, or None where it does not suit its role."""
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return pa.large_string()
    if types.is_integer(kind):
        return pa.int64() if role in ("number", "time") else pa.large_string()
    if types.is_decimal(kind) and role == "id":
        return pa.large_string()
    if types.is_floating(kind) or types.is_decimal(kind):
        return {"id": None, "number": pa.float64(), "time": pa.float64()}.get(role, pa.large_string())
    if role == "time" and types.is_timestamp(kind):
        return pa.timestamp(kind.unit)
    if role == "time" and types.is_date(kind):
        # Days and milliseconds of a calendar.
        return pa.timestamp("s") if types.is_date32(kind) else pa.timestamp("ms")
    if role == "number" and (types.is_timestamp(kind) or types.is_date(kind)):
        return pa.int64()
    if role == "texts" and (types.is_list(kind) or types.is_large_list(kind)):
        return pa.large_list(pa.large_string())
    return None


def _whole(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Ids in floating point as texts such as 12.0, or the column as it is where they are no whole numbers.

    Raises:
        DataError: some are so large that floating point has lost their last digits.
    """
    column = pc.if_else(pc.is_nan(column), None, column).cast(pa.float64())
    known = column.drop_null()
    if not pc.all(pc.and_(pc.is_finite(known), pc.equal(pc.floor(known), known))).as_py():
        return column
    if (largest := pc.max(pc.abs(known)).as_py()) is not None and largest >= _EXACT:
        raise DataError(
            f"column {name!r} holds ids in floating point up to {largest:.0f}, which has lost the last digits of the "
            "large ones; write ids as text or whole numbers (Int64 in pandas)",
            path,
        )
    return pc.binary_join_element_wise(column.cast(pa.int64()).cast(pa.string()), ".0", "")
