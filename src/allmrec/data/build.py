"""From raw files to an InteractionDataset: order, filters, numbers, texts; knows sources by name only."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int64

from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError, DataError
from allmrec.data.describing import describe, join_warnings, provenance_of
from allmrec.data.filtering import k_core, without_repeats
from allmrec.data.interactions import InteractionDataset
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import Step
from allmrec.data.source_files import hashes_beside, source_options
from allmrec.data.sources import SOURCES
from allmrec.data.sources.base import Numbers, RawData, RawInteractions
from allmrec.data.vocabulary import Vocabulary

__all__ = [
    "PrepareConfig",
    "build_dataset",
    "prepare",
    "prepare_source",
    "read_movielens",
    "read_table",
    "whole_seconds",
]


def read_table(
    interactions: Path | str,
    items: Path | str | None = None,
    prepare: PrepareConfig | None = None,
    **options: Any,
) -> InteractionDataset:
    """A data set from a file of interactions and one of items.

    Args:
        interactions: one interaction a record.
        items: one item a record, or None.
        prepare: filters.
        options: fields of TableConfig.

    Raises:
        ConfigError: an option is wrong.
        DataError: a file is; the message names file and line.
    """
    return prepare_source("table", {"interactions": interactions, "items": items, **options}, prepare)


def read_movielens(directory: Path | str, prepare: PrepareConfig | None = None, **options: Any) -> InteractionDataset:
    """A data set from a MovieLens folder; `options` are fields of MovieLensConfig. See `read_table`."""
    return prepare_source("movielens", {"directory": directory, **options}, prepare)


def prepare_source(
    source: str, options: Mapping[str, Any], prepare_config: PrepareConfig | None = None
) -> InteractionDataset:
    """A data set from the source of that name.

    Raises:
        ConfigError: there is no such source, or an option is wrong.
        DataError: a file is.
    """
    if source not in SOURCES:
        raise ConfigError(f"There is no source {source!r}; sources are {', '.join(SOURCES)}.")
    return prepare(parse_config(SOURCES[source].config, options, f"source {source}"), prepare_config)


def prepare(source: Config, config: PrepareConfig | None = None) -> InteractionDataset:
    """A data set from what a source's config names.

    Raises:
        ConfigError: no source has such a config.
        DataError: a file cannot be used, or nothing remains after the filters.
    """
    config = config or PrepareConfig()
    for name, known in SOURCES.items():
        if type(source) is known.config:
            with hashes_beside(source) as hashes:
                return build_dataset(known.read(source), config, name, source_options(source), hashes)
    raise ConfigError(f"{type(source).__name__} is no source's config; sources are {', '.join(SOURCES)}.")


def build_dataset(
    raw: RawData,
    config: PrepareConfig,
    source: str = "memory",
    options: Mapping[str, Any] | None = None,
    hashes: Mapping[Path, Future[str]] | None = None,
) -> InteractionDataset:
    """Filter, order and number raw interactions, and put texts beside the items.

    Within a user, order is by time, then by position, then as in the file. Users and items are numbered in the order of
    their ids, so the order of lines decides nothing but ties.

    Args:
        raw: what a source read.
        config: which interactions and items remain.
        source, options: what the provenance says of the source.
        hashes: SHA-256 of files, where somebody is computing them already.

    Raises:
        DataError: ratings are needed and missing, no item has a row in the items file, or nothing remains.
    """
    log = raw.interactions
    user_ids, item_ids = log.user_ids.dictionary_encode(), log.item_ids.dictionary_encode()
    users, items = user_ids.indices.to_numpy(), item_ids.indices.to_numpy()
    few_join = join_warnings(raw, item_ids.dictionary, np.bincount(items, minlength=len(item_ids.dictionary)))
    kept, steps = _filtered(users, items, log, config, raw.files[0] if raw.files else None)
    rows = np.flatnonzero(kept)
    # NumPy and Arrow let go of the interpreter.
    with ThreadPoolExecutor() as pool:
        of_users = pool.submit(_numbered, user_ids.dictionary, users[rows])
        ids, items = _numbered(item_ids.dictionary, items[rows])
        user_names, users = of_users.result()
    order = _time_order(users, log, rows)
    rows, users, items = rows[order], users[order], items[order]
    described = describe(ids, raw.items, config)
    lengths = np.bincount(users, minlength=len(user_names))
    return InteractionDataset(
        users=Vocabulary(tuple(user_names), first=0, kind="user"),
        items=Vocabulary(tuple(described.ids), first=1, kind="item"),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_numbers=(items + 1).astype(np.int32),
        times=None if log.times is None else whole_seconds(log.times[rows], log.ticks),
        catalogue=described.catalogue,
        provenance=provenance_of(raw, config, source, options, hashes, steps, few_join, described),
    )


def _filtered(
    users: Int[np.ndarray, " interactions"],
    items: Int[np.ndarray, " interactions"],
    log: RawInteractions,
    config: PrepareConfig,
    path: Path | None,
) -> tuple[Bool[np.ndarray, " interactions"], list[Step]]:
    """Which interactions remain, in the order of the file, and what each step dropped."""
    kept = np.ones(len(users), dtype=bool)
    steps = [_step("read", users, items, kept, None)]
    counted = kept
    if config.min_rating is not None:
        if log.ratings is None:
            raise DataError(
                f"min_rating is {config.min_rating:g} and there are no ratings; name their column with rating, or leave "
                "min_rating out",
                path,
            )
        counted = log.ratings >= config.min_rating
        if config.rating_scope == "interactions":
            kept = counted
            steps.append(_step(f"rating at least {config.min_rating:g}", users, items, kept, steps[-1]))
    if config.repeats != "keep":
        # Which of several is the first or the last shows in time order only.
        rows = np.flatnonzero(kept)
        rows = rows[_time_order(users[rows], log, rows)]
        rows = rows[without_repeats(users[rows], items[rows], config.repeats)]
        kept = np.zeros(len(users), dtype=bool)
        kept[rows] = True
        steps.append(_step(f"{config.repeats} of repeats", users, items, kept, steps[-1]))
    user_core, item_core = config.cores()
    if user_core > 1 or item_core > 1 or config.rating_scope == "counts":
        core = k_core(users[kept], items[kept], user_core, item_core, config.core_passes, counted[kept])
        kept = _within(kept, core)
        name = f"{user_core}-core" if user_core == item_core else f"core of {user_core} per user, {item_core} per item"
        steps.append(
            _step(
                f"{name}, {config.core_passes} pass{'es' * (config.core_passes == 'all')}",
                users,
                items,
                kept,
                steps[-1],
            )
        )
    if not kept.any():
        history = "; ".join(map(str, steps))
        raise DataError(f"nothing remains after the filters ({history}); loosen them", path)
    return kept, steps


def _time_order(
    users: Int[np.ndarray, " rows"], log: RawInteractions, rows: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, " rows"]:
    """The order of rows by user, then time, then position, then place in the file, where they stand in its order."""
    keys = [key[rows] for key in (log.positions, log.times) if key is not None]
    if len(keys) == 1 and len(rows) and keys[0].dtype == np.int64:
        # Each user's rows behind one another first: a sort by user and time in one number makes use of what is nearly in order.
        earliest, span = int(keys[0].min()), int(keys[0].max()) - int(keys[0].min()) + 1
        if (int(users.max()) + 1) * span < 2**63:
            grouped = by_number(users)
            together = users[grouped].astype(np.int64) * span
            together += keys[0][grouped] - earliest
            return grouped[np.argsort(together, kind="stable")]
    # The last key of lexsort comes first; it is stable, so the place in the file decides what is left.
    order: Int64[np.ndarray, " rows"] = np.lexsort([*keys, users])
    return order


def by_number(numbers: Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """The order of rows by a number of 0 or more, where rows of the same number stay in their order.

    NumPy sorts 16 bits at a time by counting, which takes a third of the time that it compares them for.
    """
    order: Int64[np.ndarray, " rows"] = np.argsort((numbers & 0xFFFF).astype(np.uint16), kind="stable")
    left = int(numbers.max(initial=0)) >> 16
    shift = 16
    while left:
        order = order[np.argsort((numbers[order] >> shift & 0xFFFF).astype(np.uint16), kind="stable")]
        left, shift = left >> 16, shift + 16
    return order


def _within(
    kept: Bool[np.ndarray, " interactions"], remains: Bool[np.ndarray, " kept"]
) -> Bool[np.ndarray, " interactions"]:
    """A mask over all interactions from one over the kept ones."""
    result = kept.copy()
    result[kept] = remains
    return result


def _step(
    name: str,
    users: Int[np.ndarray, " interactions"],
    items: Int[np.ndarray, " interactions"],
    kept: Bool[np.ndarray, " interactions"],
    before: Step | None,
) -> Step:
    """Counts after a step, and what it dropped."""
    return Step.after(before, name, _distinct(users[kept]), _distinct(items[kept]), int(kept.sum()))


def whole_seconds(times: Numbers, ticks: int) -> Int64[np.ndarray, " interactions"]:
    """Times in seconds without fractions. Whole numbers do not pass through floating point, which would round large ones."""
    return times // ticks if times.dtype == np.int64 else np.floor(times / ticks).astype(np.int64)


def _distinct(codes: Int[np.ndarray, " rows"]) -> int:
    """How many different codes there are."""
    return int(np.count_nonzero(np.bincount(codes)))


def _numbered(names: pa.Array, codes: Int[np.ndarray, " rows"]) -> tuple[list[str], Int64[np.ndarray, " rows"]]:
    """The ids that rows have, in their order, and for each row the place of its id.

    Args:
        names: every id once.
        codes: the place in `names` of each row's id.
    """
    used = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    known = names.take(pa.array(used))
    # Arrow compares bytes, and UTF-8's are in the order of the characters, as Python's are.
    order = pc.sort_indices(known).to_numpy()
    place = np.empty(len(names), dtype=np.int64)
    place[used[order]] = np.arange(len(used))
    return known.take(pa.array(order)).to_pylist(), place[codes]
