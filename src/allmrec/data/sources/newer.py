"""Newer files of a table for data that is there already: either file may be missing, or hold no record."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError, NoRecordsError
from allmrec.data.files import FileLayout, Problems, read_rows
from allmrec.data.sources.base import RawData, RawInteractions, RawItems
from allmrec.data.sources.columns import ColumnsConfig, items_wanted
from allmrec.data.sources.table import TableConfig, found_items, interactions_of, read_interactions, read_items

__all__ = ["NewerConfig", "read_newer_files"]


class NewerConfig(ColumnsConfig):
    """As `TableConfig`, but interactions are not needed where there are items."""

    interactions: Path | None = Field(None, description="One interaction a record; none: items alone.")
    items: Path | None = Field(None, description="One item a record; none: nothing newer is known of items.")
    layout: FileLayout = Field(default_factory=FileLayout, description="How records lie in the interactions file.")
    items_layout: FileLayout | None = Field(None, description="The same for the items file; by default as above.")


def read_newer_files(config: NewerConfig) -> RawData:
    """Read the files that there are. One without a record is as good as none.

    Raises:
        ConfigError: neither file is given.
        DataError: a file is missing or damaged, lacks a column, or has several for one meaning; or all its records are bad.
    """
    problems = config.problems()
    if config.interactions is None:
        if config.items is None:
            raise ConfigError(
                "Neither interactions nor items are given; expected a file of newer ones: --interactions, --items, or both."
            )
        return RawData.of(_no_interactions(), _items_alone(config, config.items, problems), (config.items,), problems)
    table = parse_config(TableConfig, config.model_dump(), "The table")
    try:
        interactions = read_interactions(table, problems, read_rows, interactions_of)
    except NoRecordsError:
        problems.note(f"{config.interactions.name}: no interactions")
        interactions = _no_interactions()
    try:
        items, files = read_items(table, problems)
    except NoRecordsError as error:
        items, files = _no_items(error, problems), (config.interactions, *([config.items] if config.items else []))
    return RawData.of(interactions, items, files, problems)


def _items_alone(config: NewerConfig, path: Path, problems: Problems) -> RawItems:
    layout = config.items_layout or config.layout
    try:
        rows = read_rows(path, layout, partial(items_wanted, config, path), problems)
        return found_items(rows, config, rows.headerless, problems)
    except NoRecordsError as error:
        return _no_items(error, problems)


def _no_interactions() -> RawInteractions:
    """None, with times, so that they join data with times and without."""
    nothing = pa.array([], pa.large_string())
    return RawInteractions(nothing, nothing, times=np.empty(0, dtype=np.int64))


def _no_items(error: NoRecordsError, problems: Problems) -> RawItems:
    problems.note(f"{error.path.name if error.path else 'items'}: no items")
    return RawItems((), (), (), ())
