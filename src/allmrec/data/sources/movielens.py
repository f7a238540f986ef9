"""The source "movielens": a folder as GroupLens ships it (100K, 1M, 10M, latest) or as the recbole package does."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, Role, Rows, read_rows, shown_all
from allmrec.data.sources.base import RawData, RawInteractions
from allmrec.data.sources.columns import ReadingConfig
from allmrec.data.sources.recbole import read_atomic_file
from allmrec.data.sources.table import interactions_of, items_of

__all__ = ["ARTICLES", "MovieLensConfig", "MovieLensLayout", "article_first", "read_movielens_folder"]

MovieLensLayout = Literal["100k", "1m", "latest", "recbole"]

# Articles that MovieLens puts behind a title. "I" and "O" are none here: they end titles of their own.
ARTICLES = (
    *("The", "A", "An"),
    *("Le", "La", "Les", "L'", "Un", "Une"),
    *("Il", "Lo", "Gli", "Der", "Die", "Das", "Det", "Den", "De", "Het"),
    *("El", "Los", "Las"),
)

_YEAR = re.compile(r"\s*\((?:19|20)\d\d\)\s*$")

# The order of the flags in 100K's u.item, from its README.
_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_NO_GENRES = {"unknown", "(no genres listed)"}


class MovieLensConfig(ReadingConfig):
    """A MovieLens folder and what becomes of its titles."""

    directory: Path = Field(description="The folder with the ratings and the films.")
    files: MovieLensLayout | None = Field(None, description="Which layout; by default what the folder's files tell.")
    move_article: bool = Field(True, description='"Matrix, The (1999)" becomes "The Matrix (1999)".')
    with_year: bool = Field(True, description="Whether titles end with the year; recbole keeps it in a column.")
    missing_titles: tuple[str, ...] = Field(
        ("unknown", "unkonwn"), description="Titles that stand for none (100K's film 267; recbole misspells it)."
    )
    encoding: str | None = Field(None, description="By default UTF-8 if the film file is that, else latin-1.")


@dataclass(frozen=True)
class _Layout:
    """One layout: the two files' name patterns, how records lie, which columns there are, and what they mean.

    A layout of None stands for RecBole's atomic files.
    """

    ratings: str
    films: str
    ratings_layout: FileLayout | None
    films_layout: FileLayout | None
    rating_columns: tuple[str, str, str, str]
    film_columns: Mapping[str, Role]
    item: str
    title: str
    genres: str
    separator: str
    derive: Callable[[Rows], Rows]


def _genres_of_flags(rows: Rows) -> Rows:
    """100K marks each genre in a column of its own."""
    flags = [rows.columns[str(_FLAGS_FROM + place)].to_pylist() for place in range(len(_GENRES_100K))]
    genres = [
        "|".join(genre for genre, flag in zip(_GENRES_100K, row, strict=True) if flag == "1")
        for row in zip(*flags, strict=True)
    ]
    return replace(
        rows,
        names=(*rows.names, "genres"),
        columns={**rows.columns, "genres": pa.array(genres, pa.large_string())},
    )


def _year_into_title(rows: Rows) -> Rows:
    """recbole keeps the year in a column of its own; it goes behind the title, where GroupLens has it."""
    titles = rows.columns["movie_title"].to_pylist()
    years = rows.columns["release_year"].to_pylist()
    # One film has "V" (video) for a year and the year in its title.
    dated = [
        f"{title} ({year})" if re.fullmatch(r"\d{4}", year) else title
        for title, year in zip(titles, years, strict=True)
    ]
    return replace(rows, columns={**rows.columns, "movie_title": pa.array(dated, pa.large_string())})


def _as_it_is(rows: Rows) -> Rows:
    return rows


_FLAGS_FROM = 6
_DAT = FileLayout(format="csv", delimiter="::", header=False)
_NUMBERED = ("1", "2", "3", "4")
_LAYOUTS: dict[MovieLensLayout, _Layout] = {
    "100k": _Layout(
        ratings="u.data",
        films="u.item",
        ratings_layout=FileLayout(format="tsv", header=False),
        films_layout=FileLayout(format="csv", delimiter="|", header=False, quoting=False),
        rating_columns=_NUMBERED,
        film_columns=dict.fromkeys(map(str, range(1, _FLAGS_FROM + len(_GENRES_100K))), "text"),
        item="1",
        title="2",
        genres="genres",
        separator="|",
        derive=_genres_of_flags,
    ),
    "1m": _Layout(
        ratings="ratings.dat",
        films="movies.dat",
        ratings_layout=_DAT,
        films_layout=_DAT,
        rating_columns=_NUMBERED,
        film_columns={"1": "id", "2": "text", "3": "text"},
        item="1",
        title="2",
        genres="3",
        separator="|",
        derive=_as_it_is,
    ),
    "latest": _Layout(
        ratings="ratings.csv",
        films="movies.csv",
        ratings_layout=FileLayout(format="csv"),
        films_layout=FileLayout(format="csv"),
        rating_columns=("userId", "movieId", "rating", "timestamp"),
        film_columns={"movieId": "id", "title": "text", "genres": "text"},
        item="movieId",
        title="title",
        genres="genres",
        separator="|",
        derive=_as_it_is,
    ),
    "recbole": _Layout(
        ratings="*.inter",
        films="*.item",
        ratings_layout=None,
        films_layout=None,
        rating_columns=("user_id", "item_id", "rating", "timestamp"),
        film_columns={
            "item_id": "id",
            "movie_title": "text",
            "release_year": "text",
            "class": "text",
        },
        item="item_id",
        title="movie_title",
        genres="class",
        separator=" ",
        derive=_year_into_title,
    ),
}


def read_movielens_folder(config: MovieLensConfig) -> RawData:
    """Read a MovieLens folder.

    Raises:
        DataError: the folder holds no known layout or several, or a file is damaged.
    """
    kind, ratings, films = _find(config)
    layout = _LAYOUTS[kind]
    problems = config.problems()
    interactions = _read_ratings(ratings, layout, problems)
    encoding = config.encoding or _encoding(films)
    rows = _read(films, layout.films_layout, layout.film_columns, problems, encoding)
    _expect(rows, layout.film_columns)
    items = items_of(
        layout.derive(rows),
        problems,
        item=layout.item,
        title=layout.title,
        categories=layout.genres,
        category_separator=layout.separator,
    )
    items = replace(
        items,
        titles=tuple(_title(title, config) for title in items.titles),
        categories=tuple(tuple(genre for genre in genres if genre not in _NO_GENRES) for genres in items.categories),
    )
    return RawData.of(interactions, items, (ratings, films), problems)


def article_first(title: str, articles: Sequence[str] = ARTICLES) -> str:
    """Put an article behind a title before it, also within parentheses.

    "Matrix, The (1999)" becomes "The Matrix (1999)", and "Tin Drum, The (Blechtrommel, Die) (1979)" becomes
    "The Tin Drum (Die Blechtrommel) (1979)". An apostrophe takes no blank: "America, L'" becomes "L'America".
    """
    pattern = re.compile(rf"^(\s*)(\S.*), ({'|'.join(map(re.escape, articles))})(\s*)$")

    def move(part: str) -> str:
        found = pattern.match(part)
        if not found:
            return part
        before, words, article, after = found.groups()
        return f"{before}{article}{'' if article.endswith(chr(39)) else ' '}{words}{after}"

    return "".join(part if part in ("(", ")") else move(part) for part in re.split(r"([()])", title))


def _title(title: str | None, config: MovieLensConfig) -> str | None:
    """A title as the options want it."""
    if title is None or _YEAR.sub("", title).strip() in config.missing_titles:
        return None
    if not config.with_year:
        title = _YEAR.sub("", title) or title
    return article_first(title) if config.move_article else title


def _read_ratings(path: Path, layout: _Layout, problems: Problems) -> RawInteractions:
    """The ratings file of a layout."""
    user, item, rating, time = layout.rating_columns
    roles: dict[str, Role] = {user: "id", item: "id", rating: "number", time: "time"}
    rows = _read(path, layout.ratings_layout, roles, problems)
    _expect(rows, roles)
    return interactions_of(rows, problems, user=user, item=item, rating=rating, time=time)


def _read(
    path: Path, layout: FileLayout | None, columns: Mapping[str, Role], problems: Problems, encoding: str = "utf-8"
) -> Rows:
    """A file of either kind."""
    if layout is None:
        return read_atomic_file(path, columns, problems, encoding)
    return read_rows(path, layout.model_copy(update={"encoding": encoding}), columns, problems)


def _expect(rows: Rows, columns: Iterable[str]) -> None:
    """Check that a file has a layout's columns."""
    expected = list(columns)
    missing = [name for name in expected if name not in rows.names]
    if missing:
        raise DataError(
            f"no column {missing[0]!r}; found {shown_all(rows.names)}; MovieLens has {', '.join(map(repr, expected))} here. "
            "Read other files with the source table",
            rows.path,
        )


def _find(config: MovieLensConfig) -> tuple[MovieLensLayout, Path, Path]:
    """The layout of a folder and its two files."""
    folder = config.directory
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"this folder cannot be read ({error.strerror}); check the path", folder) from error
    layouts = {kind: layout for kind, layout in _LAYOUTS.items() if config.files in (None, kind)}
    found = [
        (kind, folder / ratings, folder / films)
        for kind, layout in layouts.items()
        for ratings in fnmatch.filter(names, layout.ratings)
        for films in fnmatch.filter(names, layout.films)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(path.name for _, path, _ in found)
        raise DataError(f"holds several data sets ({several}); set files, or give each its own folder", folder)
    known = "; ".join(f"{layout.ratings} and {layout.films} ({kind})" for kind, layout in layouts.items())
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "nothing"
    raise DataError(f"found {shown}; expected {known}", folder)


def _encoding(path: Path) -> str:
    """UTF-8 if the file is that. Older MovieLens sets are latin-1, which any file is."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", path) from error
    return "utf-8"
