"""Which engine prepares: DuckDB where what is read would hardly fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from allmrec.core.errors import ConfigError
from allmrec.core.memory import available_memory

__all__ = ["ENGINES", "SUPPORTED", "Engine", "chosen_engine", "default_limit", "needed_in_memory"]

Engine: TypeAlias = Literal["auto", "memory", "duckdb"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# The sources whose files DuckDB can take part by part; the others are folders of known data sets, which are small.
SUPPORTED = ("amazon", "table")

# What the reader in memory takes at its peak for each byte of a file, by ending. Records of JSON leave out most of their
# bytes: about half of a file of reviews was measured (benchmarks/results/prepare-speed.json). The others are estimates: a
# delimited file lies in memory twice beside its columns, and Parquet unpacks.
_TIMES = {".csv": 4.0, ".tsv": 4.0, ".tab": 4.0, ".txt": 4.0, ".parquet": 8.0, ".pq": 8.0}
_TIMES_RECORDS = 1.0
# A log packs to a tenth or so.
_UNPACKED = 8.0
# The share of the available memory that the reader in memory may need; more is DuckDB's.
_SHARE = 0.5


def chosen_engine(engine: Engine, source: str, paths: Sequence[Path]) -> Literal["memory", "duckdb"]:
    """The engine that prepares files.

    "auto" is DuckDB where the source is one that it can take and the reader in memory would need more than half of the
    memory that is available now.

    Args:
        engine: what was asked for.
        source: the name of the source.
        paths: its files.

    Raises:
        ConfigError: DuckDB was asked for and cannot take the source.
    """
    if source not in SUPPORTED:
        if engine == "duckdb":
            raise ConfigError(
                f"The source {source!r} is prepared in memory only; the engine duckdb takes {' and '.join(SUPPORTED)}. "
                "Leave --engine out."
            )
        return "memory"
    if engine != "auto":
        return engine
    return "duckdb" if needed_in_memory(paths) > _SHARE * available_memory() else "memory"


def needed_in_memory(paths: Sequence[Path]) -> float:
    """About how many bytes the reader in memory takes at its peak; missing files count for nothing."""
    total = 0.0
    for path in paths:
        if path.is_file():
            packed = path.suffix.lower() == ".gz"
            ending = Path(path.name.removesuffix(".gz")).suffix.lower()
            total += path.stat().st_size * _TIMES.get(ending, _TIMES_RECORDS) * (_UNPACKED if packed else 1.0)
    return total


def default_limit() -> int:
    """What DuckDB may take where nothing is said: half of the memory that is available now, 256 MiB at least."""
    return max(available_memory() // 2, 256 << 20)
