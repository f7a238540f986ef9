"""What is known of a data set's items in words, and where all of it came from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from allmrec.core.errors import AllmrecWarning, DataError
from allmrec.core.hashing import file_hash
from allmrec.data.catalogue import Catalogue
from allmrec.data.joining import require_joined
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import Provenance, SourceFile, Step
from allmrec.data.sources.base import RawData, RawItems
from allmrec.data.texts import clean_text

__all__ = ["Described", "describe", "join_warnings", "provenance_of"]


@dataclass(frozen=True)
class Described:
    """The items of a data set in the order of their numbers.

    Attributes:
        ids: those with interactions, then those without that are kept.
        catalogue: their texts.
        without_row: how many of the former have no row in the items file.
        without_interactions: how many rows of the items file no remaining interaction mentions.
    """

    ids: list[str]
    catalogue: Catalogue
    without_row: int
    without_interactions: int


def describe(ids: Sequence[str], items: RawItems | None, config: PrepareConfig) -> Described:
    """Put texts beside items.

    Args:
        ids: the items with interactions, in the order of their numbers.
        items: the items file, or None.
        config: whether items without interactions are kept, and texts cleaned.
    """
    every = list(ids)
    rows = {} if items is None else {name: row for row, name in enumerate(items.ids)}
    unmet = sorted(rows.keys() - set(ids))
    if config.keep_items_without_interactions:
        every.extend(unmet)
    without_row = len(ids) if items is None else sum(name not in rows for name in ids)
    return Described(every, _catalogue(every, rows, items, config.clean_texts), without_row, len(unmet))


def join_warnings(raw: RawData, names: pa.Array, counts: Int[np.ndarray, " names"]) -> tuple[str, ...]:
    """What to say of items without a row in the items file, which is warned of.

    Args:
        raw: the items file, and the files.
        names: every item of the interactions once, as they come there.
        counts: how many interactions each has.

    Raises:
        DataError: not a single one has a row.
    """
    if raw.items is None:
        return ()
    path = raw.files[0] if raw.files else None
    try:
        message = require_joined(names, counts, raw.items.ids)
    except DataError as error:
        raise DataError(str(error), path) from None
    if message is None:
        return ()
    warnings.warn(message, AllmrecWarning, stacklevel=4)
    return (message,)


def provenance_of(
    raw: RawData,
    config: PrepareConfig,
    source: str,
    options: Mapping[str, Any] | None,
    hashes: Mapping[Path, Future[str]] | None,
    steps: Sequence[Step],
    few_join: tuple[str, ...],
    described: Described,
) -> Provenance:
    """How a data set was made.

    Args:
        raw: what a source read.
        config: the filters.
        source, options: what the source is called, and its options.
        hashes: SHA-256 of files, where somebody is computing them already.
        steps: what each step left.
        few_join: what was warned of, see `join_warnings`.
        described: the items.
    """
    return Provenance(
        source=source,
        files=tuple(
            SourceFile(name=path.name, sha256=hashes[path].result() if hashes and path in hashes else file_hash(path))
            for path in raw.files
        ),
        options={"source": dict(options or {}), "prepare": config.model_dump(mode="json")},
        steps=tuple(steps),
        skipped=raw.skipped,
        skipped_lines=raw.skipped_lines,
        columns=raw.columns,
        notes=raw.notes,
        warnings=(*raw.warnings, *few_join),
        items_without_row=described.without_row,
        items_without_interactions=described.without_interactions,
        kept_items_without_interactions=config.keep_items_without_interactions,
    )


def _catalogue(ids: Sequence[str], rows: Mapping[str, int], items: RawItems | None, clean: bool) -> Catalogue:
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
