"""`allmrec prepare SOURCE`: raw files to a data set, with what was left out on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from allmrec.cli.options import CONSOLE, announce
from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.build import PrepareConfig, prepare_source
from allmrec.data.interactions import InteractionDataset
from allmrec.data.sources.amazon import PRESETS

__all__ = ["register", "show_summary"]

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write the data set to.", show_default=False)]
OnError = Annotated[
    Literal["fail", "skip"], typer.Option("--on-error", help="Whether a bad line fails, or is left out and counted.")
]
MinRating = Annotated[float | None, typer.Option("--min-rating", help="An interaction counts from this rating on.")]
Core = Annotated[int, typer.Option("--core", min=0, help="Remove users and items with fewer interactions.")]
CorePasses = Annotated[
    Literal["one", "all"], typer.Option("--core-passes", help="Count once, or until nothing changes.")
]
Repeats = Annotated[
    Literal["keep", "first", "last"], typer.Option("--repeats", help="What stays where a user meets an item again.")
]
KeepItems = Annotated[
    bool, typer.Option("--keep-items", help="Keep items of the items file that have no interactions.")
]


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-verb a source."""
    verbs = typer.Typer(no_args_is_help=True, help="Make a data set of raw files.")
    app.add_typer(verbs, name="prepare")

    @verbs.command("table", help="A file of interactions and one of items: CSV, TSV, Parquet or JSON lines.")
    def table(
        interactions: Annotated[Path, typer.Option(help="One interaction a record.", show_default=False)],
        output: Output,
        items: Annotated[Path | None, typer.Option(help="One item a record.")] = None,
        user: Annotated[str, typer.Option(help="Column of the user's id.")] = "auto",
        item: Annotated[str, typer.Option(help="Column of the item's id.")] = "auto",
        rating: Annotated[str, typer.Option(help="Column of the rating, or none.")] = "auto",
        time: Annotated[str, typer.Option(help="Column of the time, or none: position or file order counts.")] = "auto",
        position: Annotated[str, typer.Option(help="Column of the place in the user's order, or none.")] = "auto",
        title: Annotated[str, typer.Option(help="Column of the title, or none.")] = "auto",
        description: Annotated[str, typer.Option(help="Column of the description, or none.")] = "auto",
        categories: Annotated[str, typer.Option(help="Column of the categories, or none.")] = "auto",
        min_rating: MinRating = None,
        core: Core = 0,
        core_passes: CorePasses = "one",
        repeats: Repeats = "keep",
        keep_items: KeepItems = False,
        on_error: OnError = "fail",
    ) -> None:
        columns = {
            "rating": rating, "time": time, "position": position,
            "title": title, "description": description, "categories": categories,
        }  # fmt: skip
        options: dict[str, Any] = {name: None if column == "none" else column for name, column in columns.items()}
        options |= {"interactions": interactions, "items": items, "user": user, "item": item, "on_error": on_error}
        _prepare("table", options, output, _filters(min_rating, core, core_passes, repeats, keep_items))

    @verbs.command("movielens", help="A MovieLens folder: 100K (GroupLens or RecBole), 1M, or the CSV of newer ones.")
    def movielens(
        directory: Annotated[Path, typer.Argument(help="The folder with ratings and films.", show_default=False)],
        output: Output,
        min_rating: MinRating = None,
        core: Core = 0,
        core_passes: CorePasses = "one",
        repeats: Repeats = "keep",
        keep_items: KeepItems = False,
        on_error: OnError = "fail",
    ) -> None:
        options = {"directory": directory, "on_error": on_error}
        _prepare("movielens", options, output, _filters(min_rating, core, core_passes, repeats, keep_items))

    @verbs.command("amazon", help="Raw Amazon reviews and metadata as published in 2014, 2018 or 2023.")
    def amazon(
        reviews: Annotated[Path, typer.Option(help="One review a line, plain or gzip.", show_default=False)],
        output: Output,
        metadata: Annotated[Path | None, typer.Option(help="One item a line, plain or gzip.")] = None,
        preset: Annotated[
            str | None, typer.Option(help=f"Filters and words of a set of the paper: {', '.join(PRESETS)}.")
        ] = None,
        form: Annotated[
            Literal["2014", "2018", "2023"] | None, typer.Option(help="Names of the fields; none: as the files tell.")
        ] = None,
        description: Annotated[
            Literal["joined", "first"] | None, typer.Option(help="Of several parts: all or the first. Default: joined.")
        ] = None,
        min_rating: MinRating = None,
        core: Annotated[
            int | None,
            typer.Option("--core", min=0, help="Remove users and items with fewer interactions. Default: 0."),
        ] = None,
        core_passes: Annotated[
            Literal["one", "all"] | None,
            typer.Option("--core-passes", help="Count once, or until nothing changes. Default: one."),
        ] = None,
        repeats: Repeats = "keep",
        keep_items: KeepItems = False,
        on_error: OnError = "fail",
    ) -> None:
        if preset is not None and preset not in PRESETS:
            raise ConfigError(f"There is no preset {preset!r}; known are {', '.join(PRESETS)}.")
        chosen = PRESETS[preset] if preset is not None else None
        options: dict[str, Any] = {"reviews": reviews, "metadata": metadata, "form": form, "on_error": on_error}
        filters: dict[str, Any] = {"repeats": repeats, "keep_items_without_interactions": keep_items}
        if chosen is not None:
            options |= chosen.source
            filters |= chosen.prepare
        # What was said outweighs the preset.
        options |= _said(description=description)
        filters |= _said(min_rating=min_rating, core=core, core_passes=core_passes)
        words = None if chosen is None else chosen.words
        _prepare("amazon", options, output, parse_config(PrepareConfig, filters, "The filters"), words)

    @verbs.command("movietweetings", help="A snapshot of MovieTweetings: ratings.dat and movies.dat.")
    def movietweetings(
        directory: Annotated[Path, typer.Argument(help="The folder with ratings and films.", show_default=False)],
        output: Output,
        min_rating: MinRating = None,
        core: Core = 0,
        core_passes: CorePasses = "one",
        repeats: Repeats = "keep",
        keep_items: KeepItems = False,
        on_error: OnError = "fail",
    ) -> None:
        options = {"directory": directory, "on_error": on_error}
        _prepare("movietweetings", options, output, _filters(min_rating, core, core_passes, repeats, keep_items))

    @verbs.command("recbole", help="RecBole's atomic files: NAME.inter and, where there is one, NAME.item.")
    def recbole(
        directory: Annotated[Path, typer.Argument(help="The folder with the files.", show_default=False)],
        output: Output,
        name: Annotated[str | None, typer.Option(help="Which data set, where the folder holds several.")] = None,
        user: Annotated[str, typer.Option(help="Column of the user's id, without its type.")] = "user_id",
        item: Annotated[str, typer.Option(help="Column of the item's id.")] = "item_id",
        rating: Annotated[str, typer.Option(help="Column of the rating, or none.")] = "auto",
        time: Annotated[str, typer.Option(help="Column of the time, or none: file order counts.")] = "auto",
        title: Annotated[str, typer.Option(help="Column of the title, or none.")] = "auto",
        description: Annotated[str, typer.Option(help="Column of the description, or none.")] = "auto",
        categories: Annotated[str, typer.Option(help="Column of the categories, or none.")] = "auto",
        min_rating: MinRating = None,
        core: Core = 0,
        core_passes: CorePasses = "one",
        repeats: Repeats = "keep",
        keep_items: KeepItems = False,
        on_error: OnError = "fail",
    ) -> None:
        columns = {
            "rating": rating, "time": time, "title": title, "description": description, "categories": categories,
        }  # fmt: skip
        options: dict[str, Any] = {key: None if column == "none" else column for key, column in columns.items()}
        options |= {"directory": directory, "name": name, "user": user, "item": item, "on_error": on_error}
        _prepare("recbole", options, output, _filters(min_rating, core, core_passes, repeats, keep_items))


def _said(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _filters(min_rating: float | None, core: int, core_passes: str, repeats: str, keep: bool) -> PrepareConfig:
    values = {
        "min_rating": min_rating,
        "core": core,
        "core_passes": core_passes,
        "repeats": repeats,
        "keep_items_without_interactions": keep,
    }
    return parse_config(PrepareConfig, values, "The filters")


def _prepare(
    source: str,
    options: Mapping[str, Any],
    output: Path,
    filters: PrepareConfig,
    words: tuple[str, str, str] | None = None,
) -> None:
    if output.exists() and not (output / "manifest.json").is_file() and any(output.iterdir()):
        raise ConfigError(f"{output} exists and is no data set of allmrec. Give another folder with -o.")
    with CONSOLE.status("Reading …"):
        dataset = prepare_source(source, options, filters)
        dataset.save(output)
    show_summary(dataset)
    asked = "" if words is None else f" --words {','.join(words)}"
    train = f"allmrec train {output} -o runs/{output.name}{asked}"
    announce(f"Written: {output}\nNext: {train}   # without a GPU: --recipe cpu")


def show_summary(dataset: InteractionDataset) -> None:
    """Print the data set's size as the paper's Table 2 does, and what was left out."""
    summary = dataset.summary()
    table = Table("users", "items", "interactions", "per user", "density", "no title", "no description")
    table.add_row(
        f"{summary.users:,}",
        f"{summary.items:,}",
        f"{summary.interactions:,}",
        f"{summary.average_length:.2f}",
        f"{summary.density:.3%}",
        f"{summary.items_without_title:,}",
        f"{summary.items_without_description:,}",
    )
    CONSOLE.print(table)
    about = dataset.provenance
    for step in about.steps[1:]:
        announce(f"  {step}")
    for kind, count in about.skipped.items():
        announce(f"  skipped {count:,} lines: {kind}")
    if about.items_without_interactions and not about.kept_items_without_interactions:
        announce(f"  left out {about.items_without_interactions:,} items that nobody interacted with (--keep-items)")
