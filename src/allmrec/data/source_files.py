"""The files that a source names: their paths, their hashes, and its options as a manifest keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from allmrec.core.config import Config

__all__ = ["hash_beside", "hashes_beside", "path_fields", "source_options", "source_paths"]


def hash_beside(path: Path) -> str:
    """`file_hash` for a thread beside a busy one: parts so large that the waits for the interpreter are few, and that a cache holds."""
    digest, part = hashlib.sha256(), bytearray(min(1 << 20, path.stat().st_size + 1))
    with open(path, "rb", buffering=0) as handle:
        while size := handle.readinto(part):
            digest.update(memoryview(part)[:size])
    return digest.hexdigest()


@contextmanager
def hashes_beside(source: Config) -> Iterator[Mapping[Path, Future[str]]]:
    """SHA-256 of a source's files, computed meanwhile: it takes a core about as long as reading does."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        yield {path: pool.submit(hash_beside, path) for path in source_paths(source) if path.is_file()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def path_fields(config: type[Config]) -> set[str]:
    """The names of a source's options that are paths."""
    return {name for name, info in config.model_fields.items() if Path in (info.annotation, *get_args(info.annotation))}


def source_paths(source: Config) -> list[Path]:
    """The paths among a source's options."""
    values = [getattr(source, name) for name in type(source).model_fields]
    return [value for value in values if isinstance(value, Path)]


def source_options(source: Config) -> dict[str, Any]:
    """A source's options for the provenance, files by name only, because folders differ between machines."""
    named = {
        name: value.name if isinstance(value := getattr(source, name), Path) else None
        for name in type(source).model_fields
    }
    dumped = source.model_dump(mode="json")
    return {name: named[name] if named[name] is not None else value for name, value in dumped.items()}
