"""`allmrec plan`: what a shop of a size would need, from rates that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.padding import Padding
from rich.table import Table

from allmrec.cli.options import CONSOLE, announce
from allmrec.core.errors import ConfigError
from allmrec.core.visible import as_terminal, json_text
from allmrec.planning import Rate, Row, Size, plan_rows, read_rates

__all__ = ["register"]

_DAY, _HOUR, _MINUTE = 86400, 3600, 60

# Columns of a terminal below which a table would stack its formulas a word a line.
_WIDE = 120


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("plan", help="What data, training, retrieval, scoring and serving would cost at a size.")
    def plan(
        users: Annotated[float, typer.Option(help="How many users, such as 1e8.", show_default=False)],
        items: Annotated[float, typer.Option(help="How many items, such as 1e7.", show_default=False)],
        interactions: Annotated[
            float | None, typer.Option(help="Of all users together; none: ten a user.", show_default=False)
        ] = None,
        llm: Annotated[str, typer.Option(help="The language model.")] = "facebook/opt-6.7b",
        requests: Annotated[float, typer.Option(help="Requests a second.")] = 100,
        dim: Annotated[int, typer.Option(help="Length of item and user vectors.")] = 64,
        cf_epochs: Annotated[int, typer.Option("--cf-epochs", min=1, help="Epochs of the CF model.")] = 10,
        cf_batch: Annotated[
            int,
            typer.Option("--cf-batch", min=1, help="Users of one step of it, each of which moves the table of items."),
        ] = 128,
        align_epochs: Annotated[int, typer.Option("--align-epochs", min=1, help="Epochs of stage 1.")] = 1,
        tune_epochs: Annotated[int, typer.Option("--tune-epochs", min=1, help="Epochs of stage 2.")] = 1,
        tune_users: Annotated[
            float | None, typer.Option("--tune-users", help="Users that stage 2 learns from; none: a million, or all.")
        ] = None,
        cores: Annotated[int, typer.Option(min=1, help="CPU cores that share each piece of work.")] = 1,
        cards: Annotated[int, typer.Option(min=1, help="GPUs that share each piece of work.")] = 1,
        as_json: Annotated[bool, typer.Option("--json", help="Print the rows and their rates as JSON.")] = False,
    ) -> None:
        if tune_users is not None and tune_users > users:
            raise ConfigError(f"--tune-users is {tune_users:g}; expected at most the {users:g} users that there are.")
        size = Size(
            users=users,
            items=items,
            interactions=10 * users if interactions is None else interactions,
            requests=requests,
            llm=llm,
            dim=dim,
            cf_epochs=cf_epochs,
            cf_batch=cf_batch,
            align_epochs=align_epochs,
            tune_epochs=tune_epochs,
            tuned_users=min(1e6, users) if tune_users is None else tune_users,
            cores=cores,
            cards=cards,
        )
        rates = read_rates()
        rows = plan_rows(size, rates)
        if as_json:
            used = {name: rates[name].model_dump(mode="json") for name in _used(rows)}
            typer.echo(json_text({"size": asdict(size), "rows": [asdict(row) for row in rows], "rates": used}))
        else:
            _show(rows, rates, size)


def _show(rows: list[Row], known: Mapping[str, Rate], size: Size) -> None:
    """The rows with their formulas, then each rate that they use with where it comes from."""
    _print(
        f"{size.users:,.0f} users, {size.items:,.0f} items, {size.interactions:,.0f} interactions, {size.llm}. "
        "Computed, not run: each time is the work by a rate that was measured at a smaller size."
    )
    in_table = CONSOLE.is_terminal and CONSOLE.width >= _WIDE
    for when, title in (
        ("once", "Offline, once for a catalogue"),
        ("each time", "Offline, each time it is done anew"),
        ("online", "Online"),
    ):
        (_table if in_table else _lines)(title, [row for row in rows if row.when == when], known)
    _print("\nWhere the rates come from:")
    for name in _used(rows):
        rate = known[name]
        _print(
            f"{rate.value:,.4g} {rate.unit}: {rate.what}; {rate.machine}, {rate.date[:10]}, commit {rate.commit[:7]}, "
            f"{rate.command} (benchmarks/results/{rate.file})",
            indent=2,
        )


def _table(title: str, rows: list[Row], known: Mapping[str, Rate]) -> None:
    """Rows as those of a table."""
    names = ("part", "work", "machine", "time or machines", "memory or disk", "formula")
    table = Table(*names, title=title, title_justify="left")
    for row in rows:
        rate = None if row.rate is None else known[row.rate]
        table.add_row(
            row.part,
            as_terminal(row.what),
            "" if rate is None else rate.machine,
            _cost(row, rate),
            "" if row.bytes is None else _bytes(row.bytes),
            as_terminal(row.formula),
        )
    CONSOLE.print(table)


def _lines(title: str, rows: list[Row], known: Mapping[str, Rate]) -> None:
    """Each row as lines of its own: what, where, how much, and the formula."""
    _print(f"\n{title}")
    for row in rows:
        rate = None if row.rate is None else known[row.rate]
        size = "" if row.bytes is None else f"{_bytes(row.bytes)} of memory or disk"
        _print(f"{row.part}: {row.what}", indent=2)
        if rate is not None:
            _print(f"on {rate.machine}", indent=4)
        cost = _cost(row, rate)
        # A formula that says that nothing was measured says it once.
        found = [part for part in ("" if row.formula.startswith(cost) else cost, size) if part]
        if found:
            _print(", ".join(found), indent=4)
        _print(row.formula, indent=4)


def _print(text: str, indent: int = 0) -> None:
    """Print a line: broken between words on a terminal, whole in a file."""
    if CONSOLE.is_terminal:
        CONSOLE.print(Padding(as_terminal(text, lines=True), (0, 0, 0, indent), expand=False))
    else:
        announce(" " * indent + text)


def _used(rows: list[Row]) -> list[str]:
    """The rates that rows use, each once."""
    return list(dict.fromkeys(row.rate for row in rows if row.rate is not None))


def _cost(row: Row, rate: Rate | None) -> str:
    """Time of offline work, or how many machines are busy."""
    if row.machines is not None and rate is not None:
        return f"{row.machines:,.3g} {'cores' if 'CPU' in rate.machine else 'cards'}"
    if row.seconds is not None:
        return _time(row.seconds)
    return "" if row.bytes is not None and not row.formula.startswith("no measured") else "no measured rate"


def _time(seconds: float) -> str:
    """Seconds for people."""
    for unit, size in (("days", _DAY), ("hours", _HOUR), ("minutes", _MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def _bytes(size: float) -> str:
    """Bytes for people."""
    for unit, much in (("TB", 1e12), ("GB", 1e9)):
        if size >= much:
            return f"{size / much:,.1f} {unit}"
    return f"{size / 1e6:,.1f} MB"
