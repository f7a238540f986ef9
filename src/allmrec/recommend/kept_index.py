"""An index of item vectors on disk: written whole or not at all, checked, and opened by memory map."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from allmrec.core.artifacts import atomic_directory, read_json, sweep, write_json
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.hashing import file_hash
from allmrec.core.log import logger
from allmrec.recommend.approximate_index import ApproximateIndex, IndexKind, Recall, load_faiss
from allmrec.recommend.item_index import ItemIndex

__all__ = ["FORMAT", "IndexRecord", "read", "remove_others", "write"]

FORMAT = 1

_RECORD, _INDEX, _VECTORS = "about.json", "index.faiss", "vectors.npy"

# Fields that stand in the folder's name, by their hash.
_MADE_BY = ("format", "kind", "items", "dim", "aim", "count")


class IndexRecord(Config):
    """What an index is, and what was measured when it was made."""

    format: int = FORMAT
    kind: IndexKind
    items: int
    dim: int
    aim: float = Field(description="The share of the exact answer that was to be found.")
    count: int = Field(description="Of how many of the best items of each query.")
    queries: int = 0
    drawn: bool = Field(False, description="The queries' histories were drawn, for want of users.")
    cells: int = 0
    searched: int = 0
    recall: float = 0.0
    index_hash: str = ""

    def measured(self, recall: Recall, queries: int, drawn: bool) -> Self:
        """With what was measured."""
        found = {"searched": recall.searched, "cells": recall.cells, "recall": recall.found}
        return self.model_copy(update={**found, "queries": queries, "drawn": drawn})

    @property
    def is_enough(self) -> bool:
        """Whether the index finds what it should; else the exact search stays."""
        return self.recall >= self.aim

    @property
    def in_words(self) -> str:
        """One sentence for the log."""
        whose = "drawn histories" if self.drawn else "users"
        found = (
            f"searching {self.searched:,} of {self.cells:,} cells finds {self.recall:.4f} of the exact best {self.count} of "
            f"{self.queries:,} {whose}"
        )
        if self.is_enough:
            return f"{self.kind} index of {self.items:,} items: {found} (at least {self.aim:g} is wanted)"
        return (
            f"{self.kind} index of {self.items:,} items: {found}, and answer.retrieve.recall wants {self.aim:g}. So every search is "
            "exact, and takes longer. A lower answer.retrieve.recall allows the index."
        )


def write(place: Path, vectors: Float32[np.ndarray, "rows dim"], index: ItemIndex, record: IndexRecord) -> None:
    """Keep an index and its vectors under a name; of an exact one the vectors alone.

    Raises:
        NoSpaceError: the disk is full.
        OSError: the folder cannot be written.
    """
    sweep(place.parent)
    with atomic_directory(place) as new:
        np.save(new / _VECTORS, vectors, allow_pickle=False)
        if isinstance(index, ApproximateIndex):
            load_faiss().write_index(index.faiss_index, str(new / _INDEX))
            record = record.model_copy(update={"index_hash": file_hash(new / _INDEX)})
        write_json(new / _RECORD, record.model_dump(mode="json"))


def read(
    place: Path, vectors: Float32[np.ndarray, "rows dim"], wanted: IndexRecord
) -> tuple[Float32[np.ndarray, "rows dim"], ApproximateIndex | None, IndexRecord] | None:
    """Open what `write` kept; None where there is nothing, or something damaged, which is logged.

    Args:
        place: the folder.
        vectors: that it should be of; they are compared.
        wanted: what the record has to say of how the index was made.

    Returns:
        The vectors, and the index where it finds enough, both mapped into memory and shared with other processes that do the same;
        and what was measured.

    Raises:
        MissingExtraError: faiss is needed and not installed.
    """
    if not place.is_dir():
        return None
    faiss = load_faiss()
    try:
        record = parse_config(IndexRecord, read_json(place / _RECORD), str(place / _RECORD))
        if any(getattr(record, name) != getattr(wanted, name) for name in _MADE_BY):
            raise ArtifactError(f"{place / _RECORD} says something else than its folder's name.")
        # Private, as torch warns of memory that cannot be written; pages that nobody writes are shared.
        mapped = np.load(place / _VECTORS, mmap_mode="c", allow_pickle=False)
        if not np.array_equal(mapped, vectors):
            raise ArtifactError(f"{place / _VECTORS} holds other vectors.")
        if not record.is_enough:
            return mapped, None, record
        if file_hash(place / _INDEX) != record.index_hash:
            raise ArtifactError(f"{place / _INDEX} is not the file that was written.")
        index = ApproximateIndex.of(mapped, faiss.read_index(str(place / _INDEX), faiss.IO_FLAG_MMAP_IFC), record.kind)
        index.faiss_index.nprobe = record.searched
    except (ArtifactError, ConfigError, OSError, EOFError, ValueError, RuntimeError) as error:
        logger.warning(f"The index that is kept in {place} is damaged, and is made again: {error}")
        return None
    return mapped, index, record


def remove_others(place: Path, name: str) -> None:
    """Remove indices of the same name and of other vectors; processes that have mapped them keep them."""
    for other in place.parent.glob(f"{name}-*"):
        if other != place and len(other.name) == len(place.name):
            shutil.rmtree(other, ignore_errors=True)
