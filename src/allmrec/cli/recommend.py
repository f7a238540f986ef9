"""`allmrec recommend`: items by title for a user or a history; for many users as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from allmrec.cli.options import CONSOLE, DeviceOption, RunArgument, announce, chosen_device
from allmrec.cli.prepare_options import with_groups
from allmrec.cli.recommend_bulk import Bulk, recommend_in_bulk
from allmrec.core.errors import ConfigError
from allmrec.core.visible import as_terminal, json_text, visible
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.run import Run
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.request import Recommendations, Request, resolve
from allmrec.systems.recommending import known_items, recommender

__all__ = ["register", "show_history", "show_recommendations"]


class About(StrEnum):
    """What the language model is asked about a recommended item."""

    genres = "genres"
    reason = "reason"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("recommend", help="Recommend from the whole catalogue, by title; for many users as Parquet files.")
    @with_groups
    def recommend(
        run: RunArgument,
        user: Annotated[str | None, typer.Option("--user", help="A user id of the data.")] = None,
        history: Annotated[
            str | None, typer.Option("--history", help='Item ids, oldest first: "id,id,…"; "": none yet.')
        ] = None,
        k: Annotated[int, typer.Option("--k", min=1, help="How many to recommend.")] = 10,
        candidates: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Items that are retrieved for ranking; many go in rounds. Default: answer.retrieve.items, or k.",
            ),
        ] = None,
        allow: Annotated[str | None, typer.Option("--allow", help='Item ids that alone may come: "id,id,…"')] = None,
        deny: Annotated[str | None, typer.Option("--deny", help='Item ids that may not come: "id,id,…"')] = None,
        skip_unknown: Annotated[
            bool, typer.Option("--skip-unknown", help="Leave out ids that the catalogue does not hold.")
        ] = False,
        seen: Annotated[bool, typer.Option("--seen", help="Allow what the history holds.")] = False,
        explain: Annotated[
            bool, typer.Option("--explain", help="Let the language model speak about the first few, as it decodes.")
        ] = False,
        about: Annotated[About, typer.Option(help="What it is asked: genres, or a reason.")] = About.genres,
        explained: Annotated[int, typer.Option(min=1, help="How many of the first are explained.")] = 3,
        profile: Annotated[
            bool,
            typer.Option("--profile", help="Let the language model say which genres this user likes, as it decodes."),
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        system: Annotated[
            str | None, typer.Option(help="Which system of the run recommends; default: A-LLMRec, or the only one.")
        ] = None,
        device: DeviceOption = "auto",
        *,
        bulk: Bulk,
    ) -> None:
        if bulk.users is None:
            bulk.check_unused()
            if (user is None) == (history is None):
                raise ConfigError(
                    "Give either --user ID or --history ID,ID,…; --history '' is for somebody new, --users for many."
                )
        elif user is not None or history is not None or explain or profile or as_json:
            raise ConfigError(
                "--users writes a row a user, without --user, --history, --explain, --profile and --json; leave these out."
            )
        request = Request(
            history=() if bulk.users is not None else None if history is None else _ids(history),
            user=user,
            k=k,
            candidates=candidates,
            allow=None if allow is None else _ids(allow),
            deny=_ids(deny or ""),
            exclude_seen=not seen,
            unknown="skip" if skip_unknown else "fail",
        )
        opened = Run.open(run, chosen_device(device))
        if bulk.users is not None:
            recommend_in_bulk(opened, bulk, request, system)
            return
        data = known_items(opened)
        # Looked up before the language model is loaded: a wrong id is reported at once.
        resolved = resolve(data, request)
        log = (lambda text: None) if as_json else announce
        if resolved.skipped:
            log(f"Left out, not in the catalogue: {', '.join(resolved.skipped)}")
        if resolved.possible(data.n_items) == 0:
            raise ConfigError(
                "No item is left to recommend: the history holds every one that may come. Allow the history's items with "
                "--seen, or change --allow and --deny."
            )
        model = recommender(opened, system, log)
        if (explain or profile) and not isinstance(model, ALLMRec):
            raise ConfigError(
                f"--{'explain' if explain else 'profile'} asks the language model of A-LLMRec; another system has nothing "
                "to say."
            )
        found = model.answer([resolved])[0]
        speeches: list[Iterator[str]] = []
        of_user: Iterator[str] | None = None
        if isinstance(model, ALLMRec):
            query, how = resolved.query, opened.config.answer.explain
            if explain:
                question = how.genres if about is About.genres else how.reason
                speeches = [model.explain(query, item.item_id, question, how) for item in found[:explained]]
            if profile:
                of_user = model.profile(query, config=how)
        if as_json:
            rows: list[dict[str, Any]] = [item._asdict() for item in found]
            for row, pieces in zip(rows, speeches, strict=False):
                row[str(about)] = "".join(pieces)
            about_user = {} if of_user is None else {"profile": "".join(of_user)}
            answer = {"answered_by": found.answered_by, "note": found.note, "skipped": list(found.skipped)}
            typer.echo(json_text(answer | about_user | {"recommendations": rows}))
            return
        show_history(data, resolved.query.history.tolist())
        show_recommendations(found)
        if explain:
            CONSOLE.print(f"In the language model's words ({about}; it may be wrong, and it is not the cause):")
            for item, pieces in zip(found, speeches, strict=False):
                _speak(f"  {visible(item.title or '(no title)')}: ", pieces)
        if of_user is not None:
            announce(
                "This user's genres in the language model's words (it was not taught to say them, and may be wrong):"
            )
            _speak("  ", of_user)


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _speak(start: str, pieces: Iterator[str]) -> None:
    """Print what is said while it is decoded."""
    CONSOLE.print(start, end="", markup=False, highlight=False)
    for piece in pieces:
        CONSOLE.file.write(visible(piece, lines=True))
        CONSOLE.file.flush()
    CONSOLE.print()


def show_history(data: InteractionDataset, items: list[int], latest: int = 5) -> None:
    """Print the end of a history by title."""
    hidden = len(items) - latest
    CONSOLE.print(f"History ({len(items)} items)" + (f", the latest {latest}:" if hidden > 0 else ":"), highlight=False)
    for item in items[-latest:]:
        title = data.catalogue.titles[item] or "(no title)"
        announce(f"  {visible(title)}  [{visible(data.items.id(item))}]")


def show_recommendations(found: Recommendations) -> None:
    """Print recommendations as a table, and what answered."""
    table = Table("", "title", "item", "score")
    for place, item in enumerate(found, start=1):
        title = as_terminal(item.title or "(no title)")
        table.add_row(str(place), title, as_terminal(item.item_id), f"{item.score:.3f}")
    CONSOLE.print(table)
    by = f"Answered by {found.answered_by}. " if found.answered_by else ""
    announce(visible(by + found.note).rstrip())
