"""The source "recbole": atomic files, tables whose header says each column's name and type, `item_id:token`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
from pydantic import Field

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, Role, Rows, read_rows, shown
from allmrec.data.sources.base import RawData, RawItems
from allmrec.data.sources.columns import AUTO, ReadingConfig, say_order
from allmrec.data.sources.table import interactions_of, items_of

__all__ = ["RecBoleConfig", "read_atomic_file", "read_recbole_folder"]

# What a column of each type may serve as. A token may be a number that is written out; a sequence of numbers is a
# vector, which nobody here reads.
_ROLES: Mapping[str, tuple[Role, ...]] = {
    "token": ("id", "number", "time", "text", "texts"),
    "float": ("number", "time", "text"),
    "token_seq": ("text", "texts"),
    "float_seq": (),
}
_KNOWN = {
    "rating": ("rating",),
    "time": ("timestamp",),
    "title": ("title", "item_title", "movie_title", "item_name", "name"),
    "description": ("description",),
    "categories": ("categories", "category", "genres", "genre", "class"),
}


class RecBoleConfig(ReadingConfig):
    """A folder of atomic files and what their columns are called, without types. "auto" is a usual name, if there."""

    directory: Path = Field(description="The folder with NAME.inter and, where there is one, NAME.item.")
    name: str | None = Field(None, description="Which data set of the folder, where it holds several.")
    user: str = Field("user_id", description="Column of the user's id.")
    item: str = Field("item_id", description="Column of the item's id, in both files.")
    rating: str | None = Field(AUTO, description="Column of the rating; auto: rating.")
    time: str | None = Field(AUTO, description="Column of Unix seconds; auto: timestamp.")
    title: str | None = Field(AUTO, description=f"Column of the title; auto: {', '.join(_KNOWN['title'])}.")
    description: str | None = Field(AUTO, description="Column of the description; auto: description.")
    categories: str | None = Field(
        AUTO, description=f"Column of the categories; auto: {', '.join(_KNOWN['categories'])}."
    )
    sequence_separator: str = Field(" ", min_length=1, description="Between categories, where they are a token_seq.")
    encoding: str = Field("utf-8", description="Encoding of the files.")


def read_recbole_folder(config: RecBoleConfig) -> RawData:
    """Read a folder of atomic files.

    Raises:
        DataError: the folder holds no data set or several, or a file is damaged.
    """
    log, items = _find(config)
    problems = config.problems()
    roles: dict[str, Role] = {config.user: "id", config.item: "id"}
    roles |= dict.fromkeys(_names(config, ("rating",)), "number")
    roles |= dict.fromkeys(_names(config, ("time",)), "time")
    rows = read_atomic_file(log, roles, problems, config.encoding)
    chosen = {option: _chosen(config, option, rows) for option in ("rating", "time")}
    interactions = interactions_of(
        rows, problems, user=config.user, item=config.item, rating=chosen["rating"], time=chosen["time"]
    )
    say_order(rows, problems, config.time, {"user": config.user, "item": config.item, **chosen})
    files = (log,) if items is None else (log, items)
    catalogue = None if items is None else _read_items(items, config, problems)
    return RawData.of(interactions, catalogue, files, problems)


def read_atomic_file(
    path: Path, wanted: Mapping[str, Role], problems: Problems, encoding: str = "utf-8", separator: str = " "
) -> Rows:
    """Read columns of one atomic file, by their names without types.

    A column in the role of "texts" becomes lists: one text where it is a token, split at the separator where it is a
    sequence of them.

    Raises:
        DataError: the file is missing or damaged, a column has no known type, or one that does not suit its role.
    """
    typed = {f"{name}:{kind}": role for name, role in wanted.items() for kind in _ROLES}
    rows = read_rows(path, FileLayout(format="tsv", encoding=encoding), typed, problems)
    kinds: dict[str, str] = {}
    for column in rows.names:
        name, _, kind = column.rpartition(":")
        if not name or kind not in _ROLES:
            raise DataError(
                f"column {shown(column)} has no type; expected a header of name:type such as user_id:token, with "
                f"{', '.join(_ROLES)}. Read a file without types with the source table",
                path,
            )
        if name in kinds:
            raise DataError(f"two columns are called {shown(name)}; expected different names in the header", path)
        kinds[name] = kind
        if name in wanted and wanted[name] not in _ROLES[kind]:
            fitting = [known for known, roles in _ROLES.items() if wanted[name] in roles]
            raise DataError(f"column {name!r} has type {kind}; expected {' or '.join(fitting)}", path)
    columns = {}
    for name, kind in kinds.items():
        if name in wanted:
            values = rows.columns[f"{name}:{kind}"]
            if wanted[name] == "texts":
                # No token holds the end of its line.
                values = pc.split_pattern(values, separator if kind == "token_seq" else "\n")
            columns[name] = values
    return replace(rows, names=tuple(kinds), columns=columns, example={})


def _read_items(path: Path, config: RecBoleConfig, problems: Problems) -> RawItems:
    roles: dict[str, Role] = {config.item: "id"}
    roles |= dict.fromkeys(_names(config, ("title", "description")), "text")
    roles |= dict.fromkeys(_names(config, ("categories",)), "texts")
    rows = read_atomic_file(path, roles, problems, config.encoding, config.sequence_separator)
    return items_of(
        rows,
        problems,
        item=config.item,
        title=_chosen(config, "title", rows),
        description=_chosen(config, "description", rows),
        categories=_chosen(config, "categories", rows),
        category_separator=None,
    )


def _names(config: RecBoleConfig, options: tuple[str, ...]) -> list[str]:
    """Columns that options name, or may mean by "auto"."""
    named = [(option, getattr(config, option)) for option in options]
    return [name for option, value in named if value for name in (_KNOWN[option] if value == AUTO else (value,))]


def _chosen(config: RecBoleConfig, option: str, rows: Rows) -> str | None:
    """The column that an option means in a file."""
    name: str | None = getattr(config, option)
    return next((known for known in _KNOWN[option] if known in rows.columns), None) if name == AUTO else name


def _find(config: RecBoleConfig) -> tuple[Path, Path | None]:
    """The files of interactions and of items."""
    folder = config.directory
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"this folder cannot be read ({error.strerror}); check the path", folder) from error
    found = [name.removesuffix(".inter") for name in names if name.endswith(".inter")]
    wanted = found if config.name is None else [name for name in found if name == config.name]
    if len(wanted) > 1:
        raise DataError(f"holds several data sets ({', '.join(wanted)}); say which with name", folder)
    if not wanted:
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "nothing"
        raise DataError(f"found {shown}; expected {config.name or 'NAME'}.inter and perhaps an .item beside it", folder)
    items = folder / f"{wanted[0]}.item"
    return folder / f"{wanted[0]}.inter", items if items.name in names else None
