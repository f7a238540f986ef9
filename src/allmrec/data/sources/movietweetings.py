"""The source "movietweetings": ratings of films taken from tweets, `::` between fields, films numbered as in IMDb."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from allmrec.data.files import FileLayout, read_rows
from allmrec.data.sources.base import RawData
from allmrec.data.sources.columns import ReadingConfig
from allmrec.data.sources.table import interactions_of, items_of

__all__ = ["MovieTweetingsConfig", "read_movietweetings_folder"]

_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")


class MovieTweetingsConfig(ReadingConfig):
    """A snapshot of MovieTweetings."""

    directory: Path = Field(description="The folder with ratings.dat and movies.dat.")
    with_year: bool = Field(True, description="Whether titles end with the year.")
    encoding: str = Field("utf-8", description="Encoding of both files.")


def read_movietweetings_folder(config: MovieTweetingsConfig) -> RawData:
    """Read a snapshot: user, film, rating from 0 to 10 and Unix seconds; film, title with year, and genres.

    Raises:
        DataError: a file is missing or damaged.
    """
    problems = config.problems()
    layout = FileLayout(format="csv", delimiter="::", header=False, encoding=config.encoding)
    ratings, films = config.directory / "ratings.dat", config.directory / "movies.dat"
    rows = read_rows(ratings, layout, {"1": "id", "2": "id", "3": "number", "4": "time"}, problems)
    interactions = interactions_of(rows, problems, user="1", item="2", rating="3", time="4")
    rows = read_rows(films, layout, {"1": "id", "2": "text", "3": "text"}, problems)
    items = items_of(rows, problems, item="1", title="2", categories="3", category_separator="|")
    if not config.with_year:
        without = (None if title is None else _YEAR.sub("", title) or title for title in items.titles)
        items = replace(items, titles=tuple(without))
    return RawData.of(interactions, items, (ratings, films), problems)
