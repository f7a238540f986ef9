"""Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from allmrec.core.errors import DataError
from allmrec.data.files.arrow import require_different, rows_of_table
from allmrec.data.files.rows import Problems, Rows, Wanted, check_unpacked, open_failure, wanted_of

__all__ = ["read_parquet"]

# What a value takes in memory at least, once it is text: where it begins, and a short text or a code.
_BYTES_A_VALUE = 16


def read_parquet(path: Path, wanted: Wanted, problems: Problems | None = None) -> Rows:
    """Read columns of a Parquet file. Times keep their unit where the role is "time", and become Unix seconds elsewhere.

    Args:
        path: the file.
        wanted: columns to give back where they exist.
        problems: how much the file may unpack to; by default as much as usual.

    Raises:
        DataError: the file is missing or damaged, unpacks to too much, or a column's type does not suit its role.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            require_different(names, path)
            roles = wanted_of(wanted, names)
            chosen = [name for name in names if name in roles]
            limit = (problems or Problems()).max_unpacked
            check_unpacked(path, _unpacked(file.metadata, chosen), path.stat().st_size, limit)
            types = {field.name: str(field.type) for field in file.schema_arrow}
            table = file.read(columns=chosen)
            table.validate(full=True)
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise open_failure(path, error) from error
        raise DataError(f"this is no Parquet file, or a damaged one ({error}); get the file again", path) from error
    return rows_of_table(table, roles, path, names, types)


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
