"""Hashes of files, arrays and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ContentDigest", "content_hash", "file_hash"]


def content_hash(*parts: bytes | str | np.ndarray) -> str:
    """SHA-256, in hex, over parts in order. Each part's kind, shape and length count, so parts cannot run together."""
    digest = ContentDigest()
    for part in parts:
        if isinstance(part, np.ndarray):
            # A view, not a copy: an array may lie in a file that is larger than memory.
            digest.array(part.dtype, part.shape, [np.ascontiguousarray(part).data.cast("B")] if part.size else [])
        elif isinstance(part, str):
            data = part.encode()
            digest.text(len(data), [data])
        else:
            digest.data(part)
    return digest.hexdigest()


class ContentDigest:
    """The same hash for parts that come in pieces, because they are too large for memory."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[bytes | memoryview]) -> None:
        """Add an array of that type and shape, whose bytes are these pieces."""
        self._part(f"array {dtype.str} {shape} ", pieces)

    def text(self, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Add a text of so many bytes in UTF-8."""
        self._part(f"str {size} ", pieces)

    def data(self, data: bytes) -> None:
        """Add bytes."""
        self._part(f"{type(data).__name__} {len(data)} ", [data])

    def hexdigest(self) -> str:
        """The hash of all parts so far."""
        return self._digest.hexdigest()

    def _part(self, head: str, pieces: Iterable[bytes | memoryview]) -> None:
        self._digest.update(head.encode())
        for piece in pieces:
            self._digest.update(piece)


def file_hash(path: Path | str) -> str:
    """SHA-256, in hex, of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
