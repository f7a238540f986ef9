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
        path: the config's field that holds the main path.
        about: one line for people.
    """

    config: type[Config]
    read: Callable[[Any], RawData]
    path: str
    about: str


_OURS = {
    "table": Source(
        TableConfig, read_table_files, "interactions", "CSV, TSV, Parquet, JSON lines or plain text, columns by option"
    ),
    "movielens": Source(
        MovieLensConfig, read_movielens_folder, "directory", "a MovieLens folder from GroupLens or from recbole"
    ),
    "amazon": Source(
        AmazonConfig, read_amazon_files, "reviews", "raw Amazon reviews and metadata as of 2014, 2018 or 2023"
    ),
    "movietweetings": Source(
        MovieTweetingsConfig, read_movietweetings_folder, "directory", "a snapshot of MovieTweetings"
    ),
    "recbole": Source(
        RecBoleConfig, read_recbole_folder, "directory", "RecBole's atomic files, NAME.inter and NAME.item"
    ),
}

SOURCES: Registry[Source] = Registry("allmrec.sources", Source, _OURS)
