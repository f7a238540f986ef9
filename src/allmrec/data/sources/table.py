"""The source "table": one file of interactions and one of items, columns mapped by option."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from allmrec.core.errors import DataError, NoRecordsError
from allmrec.data.files import FileLayout, Problems, Rows, read_rows, shown
from allmrec.data.sources.base import (
    Checks,
    Log,
    Numbers,
    RawData,
    RawInteractions,
    RawItems,
    ReadRows,
    list_column,
    number_column,
    require_columns,
    text_column,
)
from allmrec.data.sources.columns import (
    ColumnsConfig,
    chosen_columns,
    interactions_wanted,
    items_wanted,
    say_order,
)
from allmrec.data.sources.id_columns import id_column
from allmrec.data.sources.times import DateOrder, time_column

__all__ = [
    "TableConfig",
    "found_interactions",
    "found_items",
    "in_seconds",
    "interactions_of",
    "items_of",
    "note_columns",
    "read_interactions",
    "read_items",
    "read_table_files",
    "require_some",
]

# What messages call the options of an items file, on the command line as well.
_IN_ITEMS = {"item": "item_in_items"}


class TableConfig(ColumnsConfig):
    """Two files and what their columns are called. "auto" is a usual name where the file has such a column."""

    interactions: Path = Field(description="One interaction a record.")
    items: Path | None = Field(None, description="One item a record; without it nothing is known of items but ids.")
    layout: FileLayout = Field(default_factory=FileLayout, description="How records lie in the interactions file.")
    items_layout: FileLayout | None = Field(None, description="The same for the items file; by default as above.")


def read_table_files(config: TableConfig) -> RawData:
    """Read the files of a table.

    Raises:
        DataError: a file is missing or damaged, lacks a column, or has several for one meaning.
    """
    problems = config.problems()
    interactions = read_interactions(config, problems, read_rows, interactions_of)
    return RawData.of(interactions, *read_items(config, problems), problems)


def interactions_of(
    rows: Rows,
    problems: Problems,
    *,
    user: str,
    item: str,
    rating: str | None = None,
    time: str | None = None,
    position: str | None = None,
    date_order: DateOrder | None = None,
    unit: str | None = None,
    units_a_second: int = 1,
) -> RawInteractions:
    """Interactions from the named columns of any file.

    Args:
        rows: the columns.
        problems: what becomes of bad rows.
        user, item, rating, time, position: what the columns are called.
        date_order: which of day and month comes first.
        unit: the unit of Unix times where it is known; None: what their size tells.
        units_a_second: what times are divided by to be in that unit.

    Raises:
        DataError: a column is missing, a value is bad where those fail, no row is left, or too few are.
    """
    note_columns(rows, problems, user=user, item=item, rating=rating, time=time, position=position)
    checks = Checks(rows, problems)
    user_ids = id_column(checks, user, "user")
    item_ids = id_column(checks, item, "item")
    ratings = None if rating is None else number_column(checks, rating, "rating")
    times = None if time is None else time_column(checks, time, date_order=date_order, unit=unit)
    positions = None if position is None else time_column(checks, position, "position", unit="any").values
    require_some(int(checks.good.sum()), rows.path, problems)
    return RawInteractions(
        checks.keep(user_ids),
        checks.keep(item_ids),
        None if ratings is None else checks.keep_numbers(ratings),
        None if times is None else in_seconds(checks.keep_numbers(times.values), units_a_second),
        None if positions is None else checks.keep_numbers(positions),
        1 if times is None else times.ticks,
    )


def note_columns(rows: Rows, problems: Problems, **columns: str | None) -> None:
    """Check that columns are there, and note for the report which they are; None is none.

    Raises:
        DataError: one is missing.
    """
    named = {option: name for option, name in columns.items() if name is not None}
    require_columns(rows, list(named.items()))
    problems.columns.setdefault(rows.path.name, {}).update(named)


def in_seconds(times: Numbers, units: int) -> Numbers:
    """Times divided by the units that make a second; whole numbers stay whole where one does."""
    return times if units == 1 else times / units


def require_some(n_good: int, path: Path, problems: Problems) -> None:
    """Check that interactions remain, and enough of them.

    Raises:
        NoRecordsError: the file holds none.
        DataError: all were bad, or more were left out than may be.
    """
    if not n_good:
        kind = DataError if problems.lost(path) else NoRecordsError
        raise kind(f"no interactions; expected at least one record{_left_out(problems)}", path)
    problems.require_share(path, n_good)


def items_of(
    rows: Rows,
    problems: Problems,
    *,
    item: str,
    title: str | None,
    description: str | None = None,
    categories: str | None = None,
    category_separator: str | None = "|",
    duplicates: Literal["fail", "first", "last"] = "fail",
) -> RawItems:
    """Items from the named columns of any file.

    Raises:
        DataError: a column is missing, or an item stands twice, or a value is bad, where those fail; or too few rows
            are left.
    """
    options = {"item": item, "title": title, "description": description, "categories": categories}
    named = {option: name for option, name in options.items() if name is not None}
    require_columns(rows, [(_IN_ITEMS.get(option, option), name) for option, name in named.items()])
    problems.columns.setdefault(rows.path.name, {}).update(named)
    checks = Checks(rows, problems)
    ids = id_column(checks, item, "item")
    repeated = _repeated(ids, checks, keep_last=duplicates == "last")
    if duplicates == "fail":
        checks.reject(
            repeated,
            "duplicate item",
            lambda row: (
                f"item {shown(ids[row].as_py())} has a row already; expected one row for each item, or duplicate_items "
                "(--duplicate-items first or last)"
            ),
        )
    elif repeated.any():
        problems.note(
            f"{rows.path.name}: {int(repeated.sum()):,} rows of items that have another; the {duplicates} counts"
        )
        checks.good &= ~repeated
    if problems.skipped and not checks.good.any():
        raise DataError(f"no items; expected at least one record{_left_out(problems)}", rows.path)
    problems.require_share(rows.path, int(checks.good.sum()))
    return RawItems(
        tuple(checks.keep(ids).to_pylist()),
        tuple(text_column(checks, title)),
        tuple(text_column(checks, description)),
        tuple(list_column(checks, categories, category_separator)),
    )


def read_interactions(config: TableConfig, problems: Problems, read: ReadRows, take: Callable[..., Log]) -> Log:
    """The interactions.

    Args:
        config: names the file and its columns.
        problems: what becomes of bad rows.
        read: as `read_rows`.
        take: as `interactions_of`.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or has several for one meaning.
    """
    path = config.interactions
    rows = read(path, config.layout, partial(interactions_wanted, config, path), problems)
    return _take_found(rows, config, rows.headerless, problems, False, take)


def read_items(config: TableConfig, problems: Problems) -> tuple[RawItems | None, tuple[Path, ...]]:
    """The items, None where there is no file of them; and every file that the config names.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or has several for one meaning.
    """
    if config.items is None:
        return None, (config.interactions,)
    return _read_items(config, config.items, problems), (config.interactions, config.items)


def _read_items(config: TableConfig, path: Path, problems: Problems) -> RawItems:
    layout = config.items_layout or config.layout
    if config.items_layout is None and path.suffix != config.interactions.suffix:
        # A layout that follows from the other file's ending does not hold for this one.
        layout = FileLayout(encoding=layout.encoding) if layout == FileLayout(encoding=layout.encoding) else layout
    rows = read_rows(path, layout, partial(items_wanted, config, path), problems)
    return found_items(rows, config, rows.headerless, problems)


def found_interactions(
    rows: Rows, config: ColumnsConfig, headerless: bool, problems: Problems, in_order: bool = False
) -> RawInteractions:
    """Interactions from the columns that the options mean.

    Args:
        rows: the columns of `interactions_wanted` that exist.
        config: what they are called.
        headerless: whether columns are called by number.
        problems: what becomes of bad rows.
        in_order: whether the rows are in the order of time, as the caller gives them.

    Raises:
        DataError: a column is missing or may be one of several, a value is bad where those fail, or too few rows are
            left.
    """
    return _take_found(rows, config, headerless, problems, in_order, interactions_of)


def _take_found(
    rows: Rows,
    config: ColumnsConfig,
    headerless: bool,
    problems: Problems,
    in_order: bool,
    take: Callable[..., Log],
) -> Log:
    names = chosen_columns(config, rows.names, rows.path, headerless)
    log = take(
        rows,
        problems,
        user=names["user"] or "",
        item=names["item"] or "",
        rating=names["rating"],
        time=names["time"],
        position=names["position"],
        date_order=config.date_order,
    )
    say_order(rows, problems, None if in_order else config.time, names)
    return log


def found_items(rows: Rows, config: ColumnsConfig, headerless: bool, problems: Problems) -> RawItems:
    """Items from the columns that the options mean; arguments and errors as in `found_interactions`."""
    names = chosen_columns(config, rows.names, rows.path, headerless, in_items=True)
    return items_of(
        rows,
        problems,
        item=names["item"] or "",
        # A missing title column is a mistake more often than a wish, so it must be said with title=None.
        title=names["title"],
        description=names["description"],
        categories=names["categories"],
        category_separator=config.category_separator,
        duplicates=config.duplicate_items,
    )


def _left_out(problems: Problems) -> str:
    """What was left out, where nothing remains."""
    if not problems.skipped:
        return ""
    lines = problems.skipped_lines()
    kinds = ", ".join(f"{kind} in lines {lines[kind]}" if kind in lines else kind for kind in problems.skipped)
    return f" ({sum(problems.skipped.values())} bad lines were left out: {kinds})"


def _repeated(ids: pa.Array, checks: Checks, keep_last: bool) -> np.ndarray:
    """Which good rows have an id that another good row has, of which the first (or last) stays."""
    rows = np.flatnonzero(checks.good)
    rows = rows[::-1] if keep_last else rows
    codes = ids.dictionary_encode().indices.to_numpy()
    repeated = checks.good.copy()
    repeated[rows[np.unique(codes[rows], return_index=True)[1]]] = False
    return repeated
