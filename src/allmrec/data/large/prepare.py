"""From raw files to a data set on disk by DuckDB, in a stated memory; the same folder as `data.build` and `save` make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from allmrec.core.artifacts import atomic_directory, write_json
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.build import prepare_source
from allmrec.data.describing import describe, join_warnings, provenance_of
from allmrec.data.files import FileLayout, Problems, Rows, Wanted, read_rows
from allmrec.data.files.rows import wanted_of
from allmrec.data.interactions import manifest_of
from allmrec.data.large.choice import SUPPORTED, Engine, chosen_engine, default_limit
from allmrec.data.large.clean import StoredLog, take_stored
from allmrec.data.large.filters import filtered, numbered
from allmrec.data.large.store import Store, StoredColumns, duckdb_errors
from allmrec.data.large.write import kept_items, write_parts
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import Provenance, Step, Summary
from allmrec.data.source_files import hashes_beside, source_options, source_paths
from allmrec.data.sources import SOURCES, AmazonConfig, TableConfig
from allmrec.data.sources.amazon import read_metadata, read_reviews
from allmrec.data.sources.base import RawData, RawInteractions, RawItems
from allmrec.data.sources.table import read_interactions, read_items

__all__ = ["Prepared", "prepare_to"]

# DuckDB keeps some memory beyond its limit, and each of its threads needs a little.
_LEAST = 64 << 20


@dataclass(frozen=True)
class Prepared:
    """A data set that was written to a folder.

    Attributes:
        folder: where it is.
        engine: what prepared it.
        summary: its size.
        provenance: how it was made.
    """

    folder: Path
    engine: str
    summary: Summary
    provenance: Provenance


def prepare_to(
    folder: Path | str,
    source: str,
    options: Mapping[str, Any],
    config: PrepareConfig | None = None,
    engine: Engine = "auto",
    memory_limit: int | None = None,
    threads: int | None = None,
) -> Prepared:
    """Prepare a source and write the data set to a folder, whole or not at all.

    Both engines give the same data set, counts, notes and errors.

    Args:
        folder: where to.
        source: the name of the source.
        options: its options.
        config: which interactions and items remain.
        engine: "memory", "duckdb", or "auto", see `chosen_engine`.
        memory_limit: bytes that DuckDB may take; None: half of the memory that is available.
        threads: cores that DuckDB may use; None: all.

    Raises:
        ConfigError: there is no such source, an option is wrong, the engine cannot take the source, or the memory limit is
            too small.
        DataError: a file cannot be used, or nothing remains after the filters.
        MissingExtraError: duckdb is needed and not installed.
        NoSpaceError: the disk is full.
    """
    folder, config = Path(folder), config or PrepareConfig()
    if source not in SOURCES:
        raise ConfigError(f"There is no source {source!r}; sources are {', '.join(SOURCES)}.")
    if memory_limit is not None and memory_limit < _LEAST:
        raise ConfigError(
            f"A memory limit (--memory-limit) of {memory_limit:,} bytes is too little; expected {_LEAST >> 20} MiB or more."
        )
    known = parse_config(SOURCES[source].config, options, f"source {source}")
    chosen = chosen_engine(engine, source, source_paths(known))
    if chosen == "memory":
        dataset = prepare_source(source, options, config)
        dataset.save(folder)
        return Prepared(folder, chosen, dataset.summary(), dataset.provenance)
    limit = memory_limit or default_limit()
    threads = threads or _cores()
    with atomic_directory(folder) as new:
        work = new / "work"
        work.mkdir()
        store = Store(work, limit, threads)
        try:
            with duckdb_errors(folder, limit), hashes_beside(known) as hashes:
                raw, log = _read(known, store)
                steps, few_join = _kept(raw, log, config)
                described = describe(kept_items(store), raw.items, config)
                content, summary = write_parts(log, described, steps[-1], new)
                provenance = provenance_of(
                    raw, config, source, source_options(known), hashes, steps, few_join, described
                )
        finally:
            store.close()
        shutil.rmtree(work)
        write_json(new / "manifest.json", manifest_of(content, summary, provenance))
    return Prepared(folder, chosen, summary, provenance)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kept(raw: RawData, log: StoredLog, config: PrepareConfig) -> tuple[list[Step], tuple[str, ...]]:
    """What each step left, and what there is to say of items without a row."""
    few_join: tuple[str, ...] = ()
    if raw.items is not None:
        query = "SELECT item, count(*) FILTER (good) FROM clean GROUP BY item ORDER BY min(row)"
        table = pa.Table.from_batches(list(log.store.batches(query)))
        names = table.column(0).cast(pa.large_string()).combine_chunks()
        few_join = join_warnings(raw, names, table.column(1).to_numpy().astype(np.int64))
    read = numbered(log, config)
    return filtered(log, config, raw.files[0] if raw.files else None, read), few_join


def _read(config: Config, store: Store) -> tuple[RawData, StoredLog]:
    """Interactions in the store, and all else that a source gives."""
    read = partial(_read_stored, store)
    items: RawItems | None
    if isinstance(config, AmazonConfig):
        problems = config.problems()
        log = read_reviews(config, problems, read, take_stored)
        items, files = read_metadata(config, problems)
    elif isinstance(config, TableConfig):
        problems = config.problems()
        log = read_interactions(config, problems, read, take_stored)
        items, files = read_items(config, problems)
    else:
        raise ConfigError(
            f"The engine duckdb takes the sources {' and '.join(SUPPORTED)}; found {type(config).__name__}."
        )
    nothing = pa.array([], pa.large_string())
    return RawData.of(RawInteractions(nothing, nothing), items, files, problems), log


def _read_stored(store: Store, path: Path, layout: FileLayout, wanted: Wanted, problems: Problems) -> Rows:
    """As `read_rows`, with the columns in a store; what cannot be read part by part is read in memory first."""
    rows = read_rows(path, layout, wanted, problems, store.collect)
    if isinstance(rows.columns, StoredColumns):
        return rows
    roles = wanted_of(wanted, rows.names)
    return replace(rows, columns=store.take(rows, {name: roles[name] for name in rows.columns}))
