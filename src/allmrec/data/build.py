"""From raw files to an InteractionDataset: order, filters, numbers, texts; knows sources by name only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64
from pydantic import Field, model_validator

from allmrec.core.artifacts import file_hash
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError, DataError
from allmrec.data.catalogue import Catalogue
from allmrec.data.filtering import CorePasses, Repeats, k_core, without_repeats
from allmrec.data.interactions import InteractionDataset
from allmrec.data.provenance import Provenance, SourceFile, Step
from allmrec.data.sources import SOURCES
from allmrec.data.sources.base import Numbers, RawData, RawItems
from allmrec.data.texts import clean_text
from allmrec.data.vocabulary import Vocabulary

__all__ = ["PrepareConfig", "build_dataset", "prepare", "prepare_source", "read_movielens", "read_table"]


class PrepareConfig(Config):
    """Which interactions and items remain. Steps run in this order: rating, repeats, core."""

    min_rating: float | None = Field(None, description="An interaction counts from this rating on, itself included.")
    rating_scope: Literal["interactions", "counts"] = Field(
        "interactions",
        description="interactions: lower ratings are dropped. counts: they only do not count toward the core, and stay "
        "with users and items that pass it, as in the released program.",
    )
    repeats: Repeats = Field("keep", description="Which interactions stay where a user meets an item again.")
    core: int = Field(0, ge=0, description="Users and items with fewer interactions are removed; 0 removes none.")
    user_core: int | None = Field(None, ge=0, description="The same for users only, where it differs.")
    item_core: int | None = Field(None, ge=0, description="The same for items only, where it differs.")
    core_passes: CorePasses = Field(
        "one", description="one: counted once, as in the released program. all: repeated until nothing changes."
    )
    keep_items_without_interactions: bool = Field(
        False, description="Whether items of the items file without a remaining interaction get a number."
    )
    clean_texts: bool = Field(True, description="Unescape HTML entities, drop HTML tags, fold white space.")

    @model_validator(mode="after")
    def _counts_need_a_core(self) -> Self:
        if self.rating_scope == "counts" and (self.min_rating is None or not max(self.cores())):
            raise ValueError("rating_scope='counts' does nothing without min_rating and core")
        return self

    def cores(self) -> tuple[int, int]:
        """The least interactions of a user and of an item."""
        return (
            self.core if self.user_core is None else self.user_core,
            self.core if self.item_core is None else self.item_core,
        )


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
            return build_dataset(known.read(source), config, name, _options(source))
    raise ConfigError(f"{type(source).__name__} is no source's config; sources are {', '.join(SOURCES)}.")


def build_dataset(
    raw: RawData, config: PrepareConfig, source: str = "memory", options: Mapping[str, Any] | None = None
) -> InteractionDataset:
    """Order, filter and number raw interactions, and put texts beside the items.

    Within a user, order is by time, then by position, then as in the file. Users and items are numbered in the order of
    their ids, so the order of lines decides nothing but ties.

    Raises:
        DataError: ratings are needed and missing, or nothing remains.
    """
    user_names, users = _codes(raw.interactions.user_ids)
    item_names, items = _codes(raw.interactions.item_ids)
    times, positions = raw.interactions.times, raw.interactions.positions
    # The last key of lexsort comes first; it is stable, so file order decides what is left.
    order = np.lexsort([key for key in (positions, times, users) if key is not None])
    users, items = users[order], items[order]
    ratings = None if raw.interactions.ratings is None else raw.interactions.ratings[order]

    kept, steps = _filtered(users, items, ratings, config, raw.files[0] if raw.files else None)
    users, items = users[kept], items[kept]
    user_numbers, users = np.unique(users, return_inverse=True)
    item_numbers, items = np.unique(items, return_inverse=True)
    ids = [item_names[number] for number in item_numbers]
    n_met = len(ids)
    rows = {} if raw.items is None else {name: row for row, name in enumerate(raw.items.ids)}
    unmet = sorted(rows.keys() - set(ids))
    if config.keep_items_without_interactions:
        ids.extend(unmet)
    lengths = np.bincount(users, minlength=len(user_numbers))
    return InteractionDataset(
        users=Vocabulary(tuple(user_names[number] for number in user_numbers), first=0, kind="user"),
        items=Vocabulary(tuple(ids), first=1, kind="item"),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_numbers=(items + 1).astype(np.int32),
        times=None if times is None else _whole_seconds(times[order][kept]),
        catalogue=_catalogue(ids, rows, raw.items, config.clean_texts),
        provenance=Provenance(
            source=source,
            files=tuple(SourceFile(name=path.name, sha256=file_hash(path)) for path in raw.files),
            options={"source": dict(options or {}), "prepare": config.model_dump(mode="json")},
            steps=tuple(steps),
            skipped=raw.skipped,
            items_without_row=sum(name not in rows for name in ids[:n_met]) if raw.items is not None else n_met,
            items_without_interactions=len(unmet),
            kept_items_without_interactions=config.keep_items_without_interactions,
        ),
    )


def _filtered(
    users: Int64[np.ndarray, " interactions"],
    items: Int64[np.ndarray, " interactions"],
    ratings: np.ndarray | None,
    config: PrepareConfig,
    path: Path | None,
) -> tuple[Bool[np.ndarray, " interactions"], list[Step]]:
    """Which interactions remain, and what each step dropped."""
    kept = np.ones(len(users), dtype=bool)
    steps = [_step("read", users, items, kept, None)]
    counted = kept
    if config.min_rating is not None:
        if ratings is None:
            raise DataError(
                f"min_rating is {config.min_rating:g} and there are no ratings; name their column with rating, or leave "
                "min_rating out",
                path,
            )
        counted = ratings >= config.min_rating
        if config.rating_scope == "interactions":
            kept = counted
            steps.append(_step(f"rating at least {config.min_rating:g}", users, items, kept, steps[-1]))
    if config.repeats != "keep":
        kept = _within(kept, without_repeats(users[kept], items[kept], config.repeats))
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


def _within(
    kept: Bool[np.ndarray, " interactions"], remains: Bool[np.ndarray, " kept"]
) -> Bool[np.ndarray, " interactions"]:
    """A mask over all interactions from one over the kept ones."""
    result = kept.copy()
    result[kept] = remains
    return result


def _step(
    name: str,
    users: Int64[np.ndarray, " interactions"],
    items: Int64[np.ndarray, " interactions"],
    kept: Bool[np.ndarray, " interactions"],
    before: Step | None,
) -> Step:
    """Counts after a step, and what it dropped."""
    n_users, n_items, n = len(np.unique(users[kept])), len(np.unique(items[kept])), int(kept.sum())
    if before is None:
        return Step(name=name, users=n_users, items=n_items, interactions=n)
    return Step(
        name=name,
        users=n_users,
        items=n_items,
        interactions=n,
        dropped_users=before.users - n_users,
        dropped_items=before.items - n_items,
        dropped_interactions=before.interactions - n,
    )


def _whole_seconds(times: Numbers) -> Int64[np.ndarray, " interactions"]:
    """Times without fractions. Whole numbers do not pass through floating point, which would round large ones."""
    return times if times.dtype == np.int64 else np.floor(times).astype(np.int64)


def _codes(ids: pa.Array) -> tuple[list[str], Int64[np.ndarray, " interactions"]]:
    """Distinct ids in their order, and for each entry the place of its id."""
    encoded = ids.dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return [names[number] for number in order], place[encoded.indices.to_numpy()]


def _catalogue(ids: list[str], rows: Mapping[str, int], items: RawItems | None, clean: bool) -> Catalogue:
    """Texts of the numbered items; None where the items file has no row or no text."""
    if items is None:
        return Catalogue.without_texts(len(ids))

    def text(raw: str | None) -> str | None:
        return (clean_text(raw) if clean else raw) or None if raw is not None else None

    places = [rows.get(name) for name in ids]
    return Catalogue(
        (None, *(None if row is None else text(items.titles[row]) for row in places)),
        (None, *(None if row is None else text(items.descriptions[row]) for row in places)),
        (
            (),
            *(
                () if row is None else tuple(word for raw in items.categories[row] if (word := text(raw)) is not None)
                for row in places
            ),
        ),
    )


def _options(source: Config) -> dict[str, Any]:
    """A source's options for the provenance, files by name only, because folders differ between machines."""
    named = {
        name: value.name if isinstance(value := getattr(source, name), Path) else None
        for name in type(source).model_fields
    }
    dumped = source.model_dump(mode="json")
    return {name: named[name] if named[name] is not None else value for name, value in dumped.items()}
