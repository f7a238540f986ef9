"""Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from allmrec.core.errors import DataError
from allmrec.data.files.arrow import require_different, rows_of_table
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
            require_different(names, path)
            table = file.read(columns=[name for name in names if name in wanted])
            table.validate(full=True)
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise open_failure(path, error) from error
        raise DataError(f"this is no Parquet file, or a damaged one ({error}); get the file again", path) from error
    return rows_of_table(table, wanted, path, names)
