"""Which column of a table means what: named by an option, or found among the names that such columns usually have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import DataError
from allmrec.data.files import MAX_SKIPPED, MAX_UNPACKED, OnError, Problems, Role, Rows, shown

__all__ = [
    "AUTO",
    "ColumnsConfig",
    "ReadingConfig",
    "chosen_columns",
    "found_column",
    "interactions_wanted",
    "items_wanted",
    "plain_name",
    "say_order",
]

# An option with this value takes a usual name where the file has it. None leaves the column out.
AUTO = "auto"

_KINDS = (
    *("item", "movie", "film", "product", "book", "song", "track", "game", "app", "artist", "article", "video", "show"),
    *("business", "recipe", "anime", "course", "job", "news", "content", "goods", "venue", "poi"),
)

# Usual names as `plain_name` has them, in groups. The first group that a file has decides; where two of its names are
# there, the user has to say which.
_USUAL: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        (
            *("userid", "uid", "customerid", "reviewerid", "accountid", "memberid", "buyerid", "visitorid", "clientid"),
            *("personid", "playerid", "profileid", "readerid", "listenerid", "viewerid"),
        ),
        ("user", "customer", "reviewer", "member", "buyer", "visitor", "client", "reader", "listener", "viewer"),
        ("username", "sessionid", "session"),
    ),
    "item": (
        (*(f"{kind}id" for kind in _KINDS), "iid", "parentasin", "isbn", "sku", "stockcode", "productcode", "itemcode"),
        # Reviews of 2023 have both, and the parent is what the metadata are about.
        ("asin",),
        _KINDS,
    ),
    "rating": (("rating", "ratings", "stars", "starrating", "overall", "score", "userrating", "reviewrating"),),
    "time": (
        (
            *(
                "timestamp",
                "time",
                "date",
                "datetime",
                "ts",
                "unixtime",
                "epoch",
                "unixreviewtime",
                "createdat",
                "created",
            ),
            *("eventtime", "eventtimestamp", "eventdate", "boughtat", "purchasedat", "purchasedate", "purchasetime"),
            *("orderdate", "ordertime", "orderedat", "reviewdate", "reviewedat", "watchedat", "viewedat", "clickedat"),
            *("ratedat", "ratingtimestamp", "ratingtime", "ratingdate", "interactiontime", "visitedat", "playedat"),
            *(
                "listenedat",
                "readat",
                "addedat",
                "utctime",
                "invoicedate",
                "transactiondate",
                "transactiontime",
                "tdat",
            ),
            *("createtime", "createdate", "creationdate", "timecreated", "datecreated", "timems", "timestampms"),
        ),
        # Of the 2014 and 2018 reviews, beside the same in Unix seconds.
        ("reviewtime",),
    ),
    "position": (("position",),),
    "title": (
        (
            *("title", "titles", "itemtitle", "movietitle", "producttitle", "productname", "itemname", "booktitle"),
            *("gametitle", "songtitle", "trackname", "moviename", "filmtitle", "prodname", "articlename"),
        ),
        ("name",),
    ),
    # Texts that add to the title; the first that is there counts.
    "description": tuple(
        (name,)
        for name in (
            *("description", "descriptions", "itemdescription", "productdescription", "desc", "overview", "plot"),
            *("synopsis", "abstract"),
        )
    ),
    "categories": tuple(
        (name,) for name in ("categories", "genres", "category", "genre", "itemcategory", "tags", "maincategory")
    ),
}
# Of a file of items, whose own number it is.
_USUAL_IN_ITEMS = {"item": (*_USUAL["item"], ("id",))}

_ROLES: dict[str, Role] = {
    "user": "id",
    "item": "id",
    "rating": "number",
    "time": "time",
    "position": "time",
    "title": "text",
    "description": "texts",
    "categories": "texts",
}
# What a message calls a column that is nowhere.
_FIRST = {"user": "user_id", "item": "item_id", "title": "title"}
# Where a file has no header, its columns are called by number, and these are the first two.
_HEADERLESS = {"user": "1", "item": "2"}

_OF_INTERACTIONS = ("user", "item", "rating", "time", "position")
_OF_ITEMS = ("item", "title", "description", "categories")

_TYPE = re.compile(r":(token|float)(_seq)?$")
_TIME_WORDS = {
    "time",
    "times",
    "date",
    "datetime",
    "timestamp",
    "stamp",
    "ts",
    "dt",
    "at",
    "on",
    "when",
    "day",
    "month",
    "year",
    "epoch",
}
_LIKE_A_TIME = re.compile(
    r"(timestamp|date32|date64)\b.*"  # a type of Arrow's
    r"|\d{4}-\d{2}-\d{2}([ T].*)?"
    r"|\d{1,2}[/.]\d{1,2}[/.]\d{4}\b.*"
    r"|\d{4}/\d{1,2}/\d{1,2}\b.*"
    r"|(9[4-9]\d{7}|1\d{9})(\d{3}|\d{6}|\d{9})?(\.\d*)?"  # Unix time since 2000
)


class ReadingConfig(Config):
    """What every source does with lines that cannot be used."""

    on_error: OnError = Field("fail", description="Whether a bad line fails, or is left out and counted.")
    max_skipped: float | None = Field(
        None,
        ge=0,
        le=1,
        description=f"The share of a file's lines that may be left out; by default {MAX_SKIPPED:g}, and ten lines of any file.",
    )
    max_unpacked: int = Field(
        MAX_UNPACKED,
        gt=0,
        description="What a gzip or Parquet file may unpack to, in MiB, where that is more than 100 times its size.",
    )

    def problems(self) -> Problems:
        """What becomes of bad lines, as the options say."""
        return Problems(self.on_error, self.max_skipped, self.max_unpacked)


class ColumnsConfig(ReadingConfig):
    """What columns are called. "auto" is a usual name where there is such a column."""

    user: str = Field(
        AUTO,
        description="Column of the user's id; auto: user_id, customer_id and the like, or the first without a header.",
    )
    item: str = Field(AUTO, description="Column of the item's id, in both files; auto: item_id, movieId and the like.")
    item_in_items: str | None = Field(None, description="The same in the items file, where it is called otherwise.")
    rating: str | None = Field(AUTO, description="Column of the rating; auto: rating, stars, overall and the like.")
    time: str | None = Field(
        AUTO, description="Column of Unix times or dates; auto: timestamp, time, date, created_at and the like."
    )
    position: str | None = Field(
        AUTO, description="Column of the place in the user's order; decides between equal times; auto: position."
    )
    title: str | None = Field(
        AUTO, description="Column of the title in the items file; auto: title, name and the like."
    )
    description: str | None = Field(AUTO, description="Column of the description; auto: description and the like.")
    categories: str | None = Field(
        AUTO, description="Column of the categories; auto: categories, genres, category and the like."
    )
    category_separator: str = Field("|", min_length=1, description="Between categories, where they are one text.")
    date_order: Literal["day-first", "month-first"] | None = Field(
        None,
        description="What 03/04/2021 is; by default what the column's other dates tell, and an error where none does.",
    )
    duplicate_items: Literal["fail", "first", "last"] = Field(
        "fail", description="Which row counts where the items file has several for one item."
    )


def plain_name(name: str) -> str:
    """A column's name without case, blanks, `_`, `-`, points and RecBole's type: the same for userId and USER_ID."""
    return re.sub(r"[\s_.\-]+", "", _TYPE.sub("", name.strip())).casefold()


def found_column(option: str, names: Iterable[str], path: Path, in_items: bool = False) -> str | None:
    """The column that usually has that meaning, or None.

    Args:
        option: what it means.
        names: the columns that there are.
        path: the file.
        in_items: whether it is the file of items.

    Raises:
        DataError: two columns may be meant.
    """
    usual = _USUAL_IN_ITEMS.get(option, _USUAL[option]) if in_items else _USUAL[option]
    known = {name: plain_name(name) for name in names}
    for group in usual:
        found = [name for name, plain in known.items() if plain in group]
        if len(found) > 1:
            by_option = "item_in_items (--items-item)" if in_items and option == "item" else f"{option} (--{option})"
            raise DataError(
                f"{len(found)} columns may be the {option}: {', '.join(map(shown, found))}. Say which with {by_option}",
                path,
            )
        if found:
            return found[0]
    return None


def chosen_columns(
    config: ColumnsConfig, names: Iterable[str], path: Path, headerless: bool, in_items: bool = False
) -> dict[str, str | None]:
    """The column of each option in a file; None where it has none or is to have none.

    User, item and title have the usual name where they are missing, so that the error names it.

    Args:
        config: the options.
        names: the columns that there are.
        path: the file.
        headerless: whether they are called by number.
        in_items: whether it is the file of items.

    Raises:
        DataError: two columns may be meant.
    """
    names = tuple(names)
    chosen: dict[str, str | None] = {}
    for option in _OF_ITEMS if in_items else _OF_INTERACTIONS:
        named: str | None = getattr(config, option)
        if in_items and option == "item":
            # What the interactions call it need not hold here.
            named = config.item_in_items or (named if named in names else AUTO)
        if named != AUTO:
            chosen[option] = named
        elif headerless:
            chosen[option] = ("1" if in_items else _HEADERLESS[option]) if option in _HEADERLESS else _FIRST.get(option)
        else:
            missing = config.item if in_items and option == "item" and config.item != AUTO else _FIRST.get(option)
            chosen[option] = found_column(option, names, path, in_items) or missing
    return chosen


def interactions_wanted(config: ColumnsConfig, path: Path, names: tuple[str, ...]) -> dict[str, Role]:
    """Columns of interactions to read."""
    return _wanted(config, path, names, in_items=False)


def items_wanted(config: ColumnsConfig, path: Path, names: tuple[str, ...]) -> dict[str, Role]:
    """Columns of items to read."""
    return _wanted(config, path, names, in_items=True)


def say_order(rows: Rows, problems: Problems, time: str | None, chosen: Mapping[str, str | None]) -> None:
    """Say what the order is taken from where no column tells the time.

    Args:
        rows: the interactions.
        problems: takes the note, or the warning.
        time: the option: "auto", a name, or None where time is to be left out.
        chosen: the columns in use, by option.
    """
    if chosen.get("time") is not None:
        return
    name = rows.path.name
    if time is None or chosen.get("position") is not None:
        by = "the order of lines" if chosen.get("position") is None else "the position"
        problems.note(f"{name}: no time; {by} is the order of each user's interactions")
        return
    used = set(chosen.values())
    like = [column for column in rows.names if column not in used and _like_a_time(column, rows.example.get(column))]
    hint = f"{', '.join(map(shown, like[:5]))} may be one (--time {like[0]}); " if like else ""
    problems.warn(
        f"{name}: no time column found, so the order of lines is taken as the order of time; {hint}name it with time "
        "(--time COLUMN), or say that the lines are in order (--time none)"
    )


def _wanted(config: ColumnsConfig, path: Path, names: tuple[str, ...], in_items: bool) -> dict[str, Role]:
    chosen = chosen_columns(config, names, path, headerless=False, in_items=in_items)
    wanted = {name: _ROLES[option] for option, name in chosen.items() if name is not None}
    # Whether there is a header shows when the file is read.
    numbered = chosen_columns(config, names, path, headerless=True, in_items=in_items)
    return {name: _ROLES[option] for option, name in numbered.items() if name is not None} | wanted


def _like_a_time(name: str, value: Any) -> bool:
    """Whether a name or a value looks like a time."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return (
        any(word.lower() in _TIME_WORDS for word in words)
        or plain_name(name).endswith(("timestamp", "datetime"))
        or (isinstance(value, str | int | float) and _LIKE_A_TIME.fullmatch(str(value).strip()) is not None)
    )
