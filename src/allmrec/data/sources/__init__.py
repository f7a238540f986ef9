"""Sources: one raw format a file. A new source is a config, a function that reads it, and a line in SOURCES.

Another package adds one by an entry point of the group `allmrec.sources` that names a `Source`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allmrec.core.config import Config
from allmrec.core.registry import Registry
from allmrec.data.sources.amazon import AmazonConfig, read_amazon_files
from allmrec.data.sources.base import RawData
from allmrec.data.sources.movielens import MovieLensConfig, read_movielens_folder
from allmrec.data.sources.movietweetings import MovieTweetingsConfig, read_movietweetings_folder
from allmrec.data.sources.recbole import RecBoleConfig, read_recbole_folder
from allmrec.data.sources.table import TableConfig, read_table_files

__all__ = [
    "SOURCES",
    "AmazonConfig",
    "MovieLensConfig",
    "MovieTweetingsConfig",
    "RawData",
    "RecBoleConfig",
    "Source",
    "TableConfig",
]


@dataclass(frozen=True)
class Source:
    """One raw format.

    Attributes:
        config: what can be set; the paths are among it.
        read: reads what a config of that class names.
    """

    config: type[Config]
    read: Callable[[Any], RawData]


_OURS = {
    "table": Source(TableConfig, read_table_files),
    "movielens": Source(MovieLensConfig, read_movielens_folder),
    "amazon": Source(AmazonConfig, read_amazon_files),
    "movietweetings": Source(MovieTweetingsConfig, read_movietweetings_folder),
    "recbole": Source(RecBoleConfig, read_recbole_folder),
}

SOURCES: Registry[Source] = Registry("allmrec.sources", Source, _OURS)
