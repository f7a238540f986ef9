"""Groups of options that the sub-verbs of `prepare` share."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.build import PrepareConfig

__all__ = [
    "Columns",
    "Layouts",
    "MaxSkippedOption",
    "OnErrorOption",
    "Shared",
    "SharedBesidePreset",
    "bytes_of",
    "named_columns",
    "said",
    "with_groups",
]

# What a shell has no easy way to write.
_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|"}

_Format = Literal["csv", "tsv", "plain", "jsonl", "literal", "parquet"]


OnErrorOption = Annotated[
    Literal["fail", "skip"],
    typer.Option("--on-error", help="Whether a bad line fails, or is left out and counted."),
]
MaxSkippedOption = Annotated[
    float | None,
    typer.Option(
        "--max-skipped",
        min=0,
        max=1,
        help="Share of a file's lines that may be left out. Default: 0.1, or ten lines.",
    ),
]


@dataclass(frozen=True)
class Shared:
    """Options that every source takes, in the order of the help; `with_groups` adds them to a verb."""

    min_rating: Annotated[
        float | None, typer.Option("--min-rating", help="An interaction counts from this rating on.")
    ] = None
    core: Annotated[
        int | None, typer.Option("--core", min=0, help="Remove users and items with fewer interactions.")
    ] = 0
    core_passes: Annotated[
        Literal["one", "all"] | None, typer.Option("--core-passes", help="Count once, or until nothing changes.")
    ] = "one"
    repeats: Annotated[
        Literal["keep", "first", "last"], typer.Option("--repeats", help="What stays where a user meets an item again.")
    ] = "keep"
    keep_items: Annotated[
        bool, typer.Option("--keep-items", help="Keep items of the items file that have no interactions.")
    ] = False
    on_error: OnErrorOption = "fail"
    max_skipped: MaxSkippedOption = None
    max_unpacked: Annotated[
        int | None,
        typer.Option(
            "--max-unpacked", min=1, help="MiB that gzip or Parquet may unpack to at over 100 times. Default: 512."
        ),
    ] = None
    engine: Annotated[
        Literal["auto", "memory", "duckdb"],
        typer.Option("--engine", help="What prepares; auto: DuckDB where the files need over half of the free memory."),
    ] = "auto"
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit",
            help="What DuckDB may take, such as 4GB; the rest goes to disk. Default: half of what is free.",
        ),
    ] = None

    def limit(self) -> int | None:
        """The memory limit in bytes, None where nothing was said.

        Raises:
            ConfigError: it cannot be read, or was said of the engine memory, which has none.
        """
        if self.memory_limit is not None and self.engine == "memory":
            raise ConfigError(
                "--memory-limit is DuckDB's, and --engine memory has none. Leave it out, or say --engine duckdb."
            )
        return None if self.memory_limit is None else bytes_of(self.memory_limit, "--memory-limit")

    def filters(self, preset: Mapping[str, Any] | None = None) -> PrepareConfig:
        """Which interactions and items remain. What was said outweighs the preset."""
        values = {"repeats": self.repeats, "keep_items_without_interactions": self.keep_items, **(preset or {})}
        values |= said(min_rating=self.min_rating, core=self.core, core_passes=self.core_passes)
        return parse_config(PrepareConfig, values, "The filters")

    def reading(self) -> dict[str, Any]:
        """What becomes of bad lines, as a source's options have it."""
        return {"on_error": self.on_error, **said(max_skipped=self.max_skipped, max_unpacked=self.max_unpacked)}


@dataclass(frozen=True)
class SharedBesidePreset(Shared):
    """The same where a preset may say what the command does not."""

    core: Annotated[
        int | None, typer.Option("--core", min=0, help="Remove users and items with fewer interactions. Default: 0.")
    ] = None
    core_passes: Annotated[
        Literal["one", "all"] | None,
        typer.Option("--core-passes", help="Count once, or until nothing changes. Default: one."),
    ] = None


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called, and how their values are read."""

    user: Annotated[str, typer.Option("--user", help="Column of the user's id.")] = "auto"
    item: Annotated[str, typer.Option("--item", help="Column of the item's id.")] = "auto"
    items_item: Annotated[
        str | None, typer.Option("--items-item", help="The same in the items file, where it is called otherwise.")
    ] = None
    rating: Annotated[str, typer.Option("--rating", help="Column of the rating, or none.")] = "auto"
    time: Annotated[str, typer.Option("--time", help="Column of the time, or none: position or file order counts.")] = (
        "auto"
    )
    position: Annotated[str, typer.Option("--position", help="Column of the place in the user's order, or none.")] = (
        "auto"
    )
    title: Annotated[str, typer.Option("--title", help="Column of the title, or none.")] = "auto"
    description: Annotated[str, typer.Option("--description", help="Column of the description, or none.")] = "auto"
    categories: Annotated[str, typer.Option("--categories", help="Column of the categories, or none.")] = "auto"
    category_separator: Annotated[
        str, typer.Option("--category-separator", help="Between categories that are one text.")
    ] = "|"
    date_order: Annotated[
        Literal["day-first", "month-first"] | None,
        typer.Option("--date-order", help="What 03/04/2021 is; none: what the other dates tell."),
    ] = None
    duplicate_items: Annotated[
        Literal["fail", "first", "last"],
        typer.Option("--duplicate-items", help="Which row counts where an item has several."),
    ] = "fail"

    def options(self) -> dict[str, Any]:
        """The options of a table."""
        asked = {"user": self.user, "item": self.item, "item_in_items": self.items_item}
        asked |= {"category_separator": self.category_separator, "date_order": self.date_order}
        asked |= {"duplicate_items": self.duplicate_items}
        names = ("rating", "time", "position", "title", "description", "categories")
        return asked | named_columns(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Layouts:
    """How records lie in the files of a table, where it is not as they show."""

    encoding: Annotated[str | None, typer.Option("--encoding", help="Such as cp1252; none: as the bytes tell.")] = None
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between columns, such as ';' or tab; none: as the lines show.")
    ] = None
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first line names the columns.")
    ] = None
    quoting: Annotated[
        bool | None, typer.Option("--quoting/--no-quoting", help="Whether double quotes enclose fields.")
    ] = None
    format: Annotated[_Format | None, typer.Option("--format", help="None: as the file's ending tells.")] = None
    items_encoding: Annotated[
        str | None, typer.Option("--items-encoding", help="The same five of the items file; none: as above.")
    ] = None
    items_delimiter: Annotated[str | None, typer.Option("--items-delimiter")] = None
    items_header: Annotated[bool | None, typer.Option("--items-header/--items-no-header")] = None
    items_quoting: Annotated[bool | None, typer.Option("--items-quoting/--items-no-quoting")] = None
    items_format: Annotated[_Format | None, typer.Option("--items-format")] = None

    def options(self) -> dict[str, Any]:
        """The options `layout` and `items_layout` of a table, as far as something was said."""
        fields = ("encoding", "delimiter", "header", "quoting", "format")
        layout = said(**{name: getattr(self, name) for name in fields})
        items = said(**{name: getattr(self, f"items_{name}") for name in fields})
        for given in (layout, items):
            if "delimiter" in given:
                given["delimiter"] = _DELIMITERS.get(given["delimiter"], given["delimiter"])
        return {"layout": layout, **({"items_layout": layout | items} if items else {})}


def bytes_of(text: str, option: str) -> int:
    """A size such as 4GB or 512MiB in bytes; without a unit it is in bytes.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    if found is None:
        raise ConfigError(f"{option} is {text!r}; expected a size such as 4GB or 512MiB.")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " KMGT".index(found[2] or " "))


def named_columns(**columns: str) -> dict[str, str | None]:
    """Columns of the options, where "none" is no column."""
    return {name: None if column == "none" else column for name, column in columns.items()}


def said(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def with_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """Typer reads a function's signature: put the fields of each argument that is a group in that argument's place."""
    own = dict(inspect.signature(verb, eval_str=True).parameters)
    groups = {name: own.pop(name).annotation for name in list(own) if dataclasses.is_dataclass(own[name].annotation)}
    fields = {name: inspect.signature(kind, eval_str=True).parameters for name, kind in groups.items()}

    def command(**given: Any) -> None:
        made = {name: kind(**{field: given.pop(field) for field in fields[name]}) for name, kind in groups.items()}
        verb(**given, **made)

    every = [*own.values(), *(parameter for group in fields.values() for parameter in group.values())]
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]  # no attribute until it is set
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    return command
