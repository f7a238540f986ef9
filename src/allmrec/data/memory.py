"""A data set from tables and lists in memory, with the columns, checks and counts of `read_table`.

Tables are taken over Arrow's PyCapsule interface or the dataframe interchange protocol, so that no table library is needed
to serve all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError, DataError
from allmrec.data.build import PrepareConfig, build_dataset
from allmrec.data.files import Problems, Rows, Wanted, shown
from allmrec.data.files.arrow import rows_of_table
from allmrec.data.files.records import rows_of_records
from allmrec.data.files.values import UnusableError
from allmrec.data.ids import id_text, id_texts, plain_list
from allmrec.data.interactions import InteractionDataset
from allmrec.data.sources.base import RawData
from allmrec.data.sources.columns import AUTO, ColumnsConfig, found_column, interactions_wanted, items_wanted
from allmrec.data.sources.table import found_interactions, found_items

__all__ = ["dataset"]

# What tables and lists are called in messages, in the place of a file.
_INTERACTIONS, _ITEMS = Path("interactions"), Path("items")


def dataset(
    interactions: object, items: object = None, prepare: PrepareConfig | None = None, **options: Any
) -> InteractionDataset:
    """A data set from tables or lists in memory; `read_table` does the same with files.

    A table is a pandas or polars DataFrame, an Arrow table, or anything else with `__arrow_c_stream__` or `__dataframe__`;
    or a mapping of column names to lists. Columns are found as in files: `user_id`, `item_id`, `timestamp`, `title` and so
    on, or by option. Ids are text or whole numbers; a whole number is the same id as its digits.

    Args:
        interactions: a table; a list of dicts; a list of tuples, or a two-dimensional array, whose first two values are
            user and item and whose others options name by their place (`time="3"`); or a mapping of each user to
            the list of that user's items, oldest first.
        items: a table or a list as above; a mapping of each item to its title, or to a dict of its columns; or None.
        prepare: filters.
        options: fields of ColumnsConfig.

    Raises:
        ConfigError: an option is wrong, or an argument is nothing that can be read.
        DataError: a table lacks a column or holds a bad value; the message names the row, counted from 1.
    """
    config = parse_config(ColumnsConfig, options, "dataset")
    problems = config.problems()
    rows, headerless = _interaction_rows(interactions, config, problems)
    # Histories and tuples are in the order in which they are given.
    log = found_interactions(rows, config, headerless, problems, in_order=headerless)
    texts = None
    if items is not None:
        rows, headerless = _item_rows(items, config, problems)
        texts = found_items(rows, config, headerless, problems)
    raw = RawData.of(log, texts, (), problems)
    return build_dataset(raw, prepare or PrepareConfig(), options=config.model_dump(mode="json"))


def _interaction_rows(source: object, config: ColumnsConfig, problems: Problems) -> tuple[Rows, bool]:
    """Rows of interactions, and whether their columns are called by number."""
    wanted = partial(interactions_wanted, config, _INTERACTIONS)
    if isinstance(source, Mapping) and not _is_columns(source, config, ("user", "item"), _INTERACTIONS):
        pairs = [
            (id_text(user, "user"), item)
            for user, history in source.items()
            for item in id_texts(history, f"The history of user {shown(user)}")
        ]
        return rows_of_records(pairs, wanted, _INTERACTIONS, problems, _by_place), True
    rows, headerless = _rows(source, wanted, _INTERACTIONS, problems)
    if headerless and len(rows.names) > 2 and {config.rating, config.time, config.position} == {AUTO}:
        raise ConfigError(
            f"The tuples of interactions have {len(rows.names)} values; the first two are user and item. Say what the "
            "others are, such as time='3' or rating='3', or time=None to leave them out."
        )
    return rows, headerless


def _item_rows(source: object, config: ColumnsConfig, problems: Problems) -> tuple[Rows, bool]:
    """Rows of items, and whether their columns are called by number."""
    wanted = partial(items_wanted, config, _ITEMS)
    if isinstance(source, Mapping) and not _is_columns(source, config, ("item",), _ITEMS):
        key = config.item_in_items or ("item_id" if config.item == AUTO else config.item)
        # A title that is left out by option still needs a name that no column has.
        title = "title" if config.title == AUTO else config.title or ""
        records = [
            {**(about if isinstance(about, Mapping) else {title: about}), key: id_text(item)}
            for item, about in source.items()
        ]
        return rows_of_records(records, wanted, _ITEMS, problems, _by_name), False
    return _rows(source, wanted, _ITEMS, problems)


def _is_columns(source: Mapping[Any, Any], config: ColumnsConfig, needed: Sequence[str], path: Path) -> bool:
    """Whether a mapping holds columns: all that are needed, under their names or usual ones, and each a list."""
    in_items = path == _ITEMS
    for option in needed:
        name = config.item_in_items if in_items and config.item_in_items else getattr(config, option)
        if name == AUTO:
            names = [known for known in source if isinstance(known, str)]
            name = found_column(option, names, path, in_items)
        column = None if name is None else source.get(name)
        if column is None or isinstance(column, str | Mapping):
            return False
    return True


def _rows(source: object, wanted: Wanted, path: Path, problems: Problems) -> tuple[Rows, bool]:
    """Rows of a table or a list, and whether their columns are called by number."""
    if isinstance(source, str | Path):
        raise ConfigError(f"{shown(str(source))} is no table in memory; allmrec.read_table reads files.")
    table = _table(source, wanted, path)
    if table is not None:
        return table, False
    if isinstance(source, Mapping):
        columns = {str(name): plain_list(values, f"Column {name!r} of {path}") for name, values in source.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the columns are of different lengths {lengths}; expected one value a row", path)
        records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        records = plain_list(source, f"What is given as {path}")
    by_name = not records or isinstance(records[0], Mapping)
    return rows_of_records(records, wanted, path, problems, _by_name if by_name else _by_place), not by_name


def _table(source: Any, wanted: Wanted, path: Path) -> Rows | None:
    """The rows of what offers itself as a table, or None."""
    try:
        if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
            table = pa.table(source)
        elif hasattr(source, "__dataframe__"):
            from pyarrow.interchange import from_dataframe  # wanted only where a library offers nothing else

            table = from_dataframe(source)
        else:
            return None
        table.validate(full=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the {type(source).__name__} cannot be read as an Arrow table ({error})", path) from error
    return rows_of_table(table, wanted, path)


def _by_name(record: object) -> dict[str, Any]:
    """The values of a mapping."""
    if not isinstance(record, Mapping):
        raise UnusableError("unexpected record", f"found {shown(record)}; expected a dict of columns, as the first is")
    return {str(name): _value(value) for name, value in record.items()}


def _by_place(record: object) -> dict[str, Any]:
    """The values of a tuple, called by their places from 1."""
    if isinstance(record, str | bytes | Mapping) or not isinstance(record, Iterable):
        raise UnusableError("unexpected record", f"found {shown(record)}; expected a tuple of a user and an item")
    return {str(place): _value(value) for place, value in enumerate(record, start=1)}


def _value(value: Any) -> Any:
    """A plain value: NumPy's scalars as Python's, times as ISO 8601, NaN as missing."""
    if isinstance(value, np.datetime64):
        # In nanoseconds NumPy would give a bare number.
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple | np.ndarray):
        return [_value(part) for part in value]
    return value
