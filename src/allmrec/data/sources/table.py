"""The source "table": one file of interactions and one of items, columns mapped by option."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, OnError, Problems, Role, Rows, read_rows, shown
from allmrec.data.sources.base import (
    Checks,
    RawData,
    RawInteractions,
    RawItems,
    id_column,
    list_column,
    number_column,
    require_columns,
    text_column,
    time_column,
)

__all__ = [
    "AUTO",
    "ColumnsConfig",
    "TableConfig",
    "found_interactions",
    "found_items",
    "interactions_of",
    "interactions_wanted",
    "items_of",
    "items_wanted",
    "names_of",
    "read_table_files",
]

# An option with this value takes a well-known name where the file has it. None leaves the column out.
AUTO = "auto"

_KNOWN = {
    "user": ("user_id", "user"),
    "item": ("item_id", "item"),
    "rating": ("rating",),
    "time": ("timestamp", "time"),
    "position": ("position",),
    "title": ("title",),
    "description": ("description",),
    "categories": ("categories", "genres"),
}
_ROLES: dict[str, Role] = {
    "user": "id",
    "item": "id",
    "rating": "number",
    "time": "number",
    "position": "number",
    "title": "text",
    "description": "texts",
    "categories": "texts",
}
# Where a file has no header, its columns are called by number, and these are the first two.
_HEADERLESS = {"user": "1", "item": "2"}

_OF_INTERACTIONS = ("user", "item", "rating", "time", "position")
_OF_ITEMS = ("item", "title", "description", "categories")


class ColumnsConfig(Config):
    """What columns are called. "auto" is a well-known name where there is such a column."""

    user: str = Field(
        AUTO, description="Column of the user's id; auto: user_id or user, or the first without a header."
    )
    item: str = Field(AUTO, description="Column of the item's id, in both files; auto: item_id or item.")
    item_in_items: str | None = Field(None, description="The same in the items file, where it is called otherwise.")
    rating: str | None = Field(AUTO, description="Column of the rating; auto: rating.")
    time: str | None = Field(AUTO, description="Column of Unix seconds or ISO 8601 times; auto: timestamp or time.")
    position: str | None = Field(
        AUTO, description="Column of the place in the user's order; decides between equal times; auto: position."
    )
    title: str | None = Field(AUTO, description="Column of the title in the items file; auto: title.")
    description: str | None = Field(AUTO, description="Column of the description; auto: description.")
    categories: str | None = Field(AUTO, description="Column of the categories; auto: categories or genres.")
    category_separator: str = Field("|", min_length=1, description="Between categories, where they are one text.")
    duplicate_items: Literal["fail", "first", "last"] = Field(
        "fail", description="Which row counts where the items file has several for one item."
    )
    on_error: OnError = Field("fail", description="Whether a bad line fails, or is left out and counted.")


class TableConfig(ColumnsConfig):
    """Two files and what their columns are called. "auto" is a well-known name where the file has such a column."""

    interactions: Path = Field(description="One interaction a record.")
    items: Path | None = Field(None, description="One item a record; without it nothing is known of items but ids.")
    layout: FileLayout = Field(default_factory=FileLayout, description="How records lie in the interactions file.")
    items_layout: FileLayout | None = Field(None, description="The same for the items file; by default as above.")


def read_table_files(config: TableConfig) -> RawData:
    """Read the files of a table.

    Raises:
        DataError: a file is missing or damaged, or lacks a column.
    """
    problems = Problems(config.on_error)
    interactions = _read_interactions(config, problems)
    items = _read_items(config, config.items, problems) if config.items is not None else None
    files = (config.interactions,) if config.items is None else (config.interactions, config.items)
    return RawData(interactions, items, files, dict(problems.skipped))


def interactions_of(
    rows: Rows,
    problems: Problems,
    *,
    user: str,
    item: str,
    rating: str | None = None,
    time: str | None = None,
    position: str | None = None,
) -> RawInteractions:
    """Interactions from the named columns of any file.

    Raises:
        DataError: a column is missing, a value is bad where those fail, or no row is left.
    """
    options = {"user": user, "item": item, "rating": rating, "time": time, "position": position}
    require_columns(rows, [(option, name) for option, name in options.items() if name is not None])
    checks = Checks(rows, problems)
    user_ids = id_column(checks, user, "user")
    item_ids = id_column(checks, item, "item")
    ratings = None if rating is None else number_column(checks, rating, "rating")
    times = None if time is None else time_column(checks, time)
    positions = None if position is None else time_column(checks, position, "position")
    if not checks.good.any():
        skipped = f" ({sum(problems.skipped.values())} bad lines were left out)" if problems.skipped else ""
        raise DataError(f"no interactions; expected at least one record{skipped}", rows.path)
    return RawInteractions(
        checks.keep(user_ids),
        checks.keep(item_ids),
        None if ratings is None else ratings[checks.good],
        None if times is None else times[checks.good],
        None if positions is None else positions[checks.good],
    )


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
        DataError: a column is missing, or an item stands twice, or a value is bad, where those fail.
    """
    options = {"item": item, "title": title, "description": description, "categories": categories}
    require_columns(rows, [(option, name) for option, name in options.items() if name is not None])
    checks = Checks(rows, problems)
    ids = id_column(checks, item, "item")
    repeated = _repeated(ids, checks, keep_last=duplicates == "last")
    if duplicates == "fail":
        checks.reject(
            repeated,
            "duplicate item",
            lambda row: (
                f"item {shown(ids[row].as_py())} has a row already; expected one row for each item, or duplicate_items"
            ),
        )
    else:
        checks.good &= ~repeated
    return RawItems(
        tuple(checks.keep(ids).to_pylist()),
        tuple(text_column(checks, title)),
        tuple(text_column(checks, description)),
        tuple(list_column(checks, categories, category_separator)),
    )


def _read_interactions(config: TableConfig, problems: Problems) -> RawInteractions:
    rows = read_rows(config.interactions, config.layout, interactions_wanted(config), problems)
    return found_interactions(rows, config, not config.layout.has_header(config.interactions), problems)


def _read_items(config: TableConfig, path: Path, problems: Problems) -> RawItems:
    layout = config.items_layout or config.layout
    if config.items_layout is None and path.suffix != config.interactions.suffix:
        # A layout that follows from the other file's ending does not hold for this one.
        layout = FileLayout(encoding=layout.encoding) if layout == FileLayout(encoding=layout.encoding) else layout
    return found_items(
        read_rows(path, layout, items_wanted(config), problems), config, not layout.has_header(path), problems
    )


def interactions_wanted(config: ColumnsConfig) -> dict[str, Role]:
    """Columns of interactions that the options name, or may mean by "auto"."""
    return _wanted(config, _OF_INTERACTIONS)


def items_wanted(config: ColumnsConfig) -> dict[str, Role]:
    """Columns of items that the options name, or may mean by "auto"."""
    wanted = _wanted(config, _OF_ITEMS)
    if config.item_in_items is not None:
        wanted[config.item_in_items] = "id"
    return wanted


def found_interactions(rows: Rows, config: ColumnsConfig, headerless: bool, problems: Problems) -> RawInteractions:
    """Interactions from the columns that the options mean.

    Args:
        rows: the columns of `interactions_wanted` that exist.
        config: what they are called.
        headerless: whether columns are called by number.
        problems: what becomes of bad rows.

    Raises:
        DataError: a column is missing, a value is bad where those fail, or no row is left.
    """
    names = {option: _name(config, option, rows, headerless) for option in _OF_INTERACTIONS}
    return interactions_of(
        rows,
        problems,
        user=names["user"] or _KNOWN["user"][0],
        item=names["item"] or _KNOWN["item"][0],
        rating=names["rating"],
        time=names["time"],
        position=names["position"],
    )


def found_items(rows: Rows, config: ColumnsConfig, headerless: bool, problems: Problems) -> RawItems:
    """Items from the columns that the options mean; arguments and errors as in `found_interactions`."""
    names = {option: _name(config, option, rows, headerless) for option in _OF_ITEMS}
    if config.item_in_items is not None:
        item = config.item_in_items
    else:
        item = "1" if headerless and config.item == AUTO else names["item"] or _KNOWN["item"][0]
    return items_of(
        rows,
        problems,
        item=item,
        # A missing title column is a mistake more often than a wish, so it must be said with title=None.
        title=names["title"] or (None if config.title is None else _KNOWN["title"][0]),
        description=names["description"],
        categories=names["categories"],
        category_separator=config.category_separator,
        duplicates=config.duplicate_items,
    )


def names_of(config: ColumnsConfig, option: str) -> tuple[str, ...]:
    """The columns that an option may mean where columns have names."""
    name: str | None = getattr(config, option)
    return _KNOWN[option] if name == AUTO else () if name is None else (name,)


def _wanted(config: ColumnsConfig, options: tuple[str, ...]) -> dict[str, Role]:
    """Columns that options name, or may mean by "auto"."""
    wanted: dict[str, Role] = {}
    for option in options:
        wanted.update(dict.fromkeys(names_of(config, option), _ROLES[option]))
        if option in _HEADERLESS and getattr(config, option) == AUTO:
            wanted.update(dict.fromkeys(_HEADERLESS.values(), "id"))
    return wanted


def _name(config: ColumnsConfig, option: str, rows: Rows, headerless: bool) -> str | None:
    """The column that an option means in a file."""
    name: str | None = getattr(config, option)
    if name != AUTO:
        return name
    if headerless and option in _HEADERLESS:
        return _HEADERLESS[option]
    return next((known for known in _KNOWN[option] if known in rows.columns), None)


def _repeated(ids: pa.Array, checks: Checks, keep_last: bool) -> np.ndarray:
    """Which good rows have an id that another good row has, of which the first (or last) stays."""
    rows = np.flatnonzero(checks.good)
    rows = rows[::-1] if keep_last else rows
    codes = ids.dictionary_encode().indices.to_numpy()
    repeated = checks.good.copy()
    repeated[rows[np.unique(codes[rows], return_index=True)[1]]] = False
    return repeated
