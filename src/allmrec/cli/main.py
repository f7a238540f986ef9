"""Puts the verbs together and turns our errors into messages."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from allmrec.cli.output import lasting_output
from allmrec.core.errors import AllmrecError, AllmrecWarning
from allmrec.core.log import shown_on_stderr
from allmrec.core.visible import as_terminal

__all__ = ["app", "main"]

# What `allmrec --help` lists: a verb, its file here, and a line about it. The file is imported when the verb is called:
# torch and transformers take seconds to import, and neither help nor a typing error should wait for them.
_VERBS = {
    "prepare": ("prepare", "Make a data set of raw files."),
    "import-backbone": ("import_backbone", "Take the vectors of a recommender that you already have."),
    "train": ("train", "Train every stage that is not there yet."),
    "pretrain": ("train", "Train the collaborative-filtering (CF) model only."),
    "align": ("train", "Stage 1: align the CF item space with the text space."),
    "tune": ("train", "Stage 2: put users and items into the LLM's token space."),
    "update": ("update", "Go on from a run with newer interactions and items."),
    "evaluate": ("evaluate", "Rank frozen users and candidates with every system."),
    "experiment": ("experiment", "Measure a plan, the paper's or your own."),
    "compare": ("compare", "Compare two runs or experiments, user by user."),
    "recommend": ("recommend", "Recommend from the whole catalogue, by title."),
    "attention": ("attention", "Draw where the answer attends, before and after training."),
    "serve": ("serve", "Serve a trained run: an HTTP API and a page."),
    "demo": ("demo", "Train, evaluate and recommend on MovieLens-100K."),
    "plan": ("plan", "Compute what a size costs, from measured rates."),
    "doctor": ("doctor", "Show what is installed and which models can be reached."),
}
_SETTINGS: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "rich_markup_mode": None}


class _Verbs(TyperGroup):
    """Loads a verb when it is called, and ends our errors with a message and status 1, Ctrl-C with 130."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, stub if name is None else _load(name), rest

    def invoke(self, ctx: Any) -> Any:
        errors = Console(stderr=True, soft_wrap=True)
        try:
            with shown_on_stderr(), _warnings_shown_by(errors):
                return super().invoke(ctx)
        except AllmrecError as error:
            _show(errors, "error", "red", str(error))
            raise typer.Exit(1) from None
        except OSError as error:
            # A full disk or a folder that may not be written to is nothing that a traceback would explain.
            if error.filename is None:
                raise
            _show(errors, "error", "red", f"{error.filename}: {error.strerror}.")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            again = shlex.join(["allmrec", *sys.argv[1:]])
            errors.print(as_terminal(f"\nStopped. What is finished is kept; to go on: {again}", lines=True))
            raise typer.Exit(130) from None


def _show(console: Console, kind: str, colour: str, message: str) -> None:
    """A message of ours; what it quotes of a file is shown as it is."""
    console.print(Text.assemble((f"{kind}:", f"bold {colour}"), " ", as_terminal(message, lines=True)))


@contextmanager
def _warnings_shown_by(console: Console) -> Iterator[None]:
    """Our own warnings as a line; other libraries' stay as they are."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, AllmrecWarning):
                _show(console, "warning", "yellow", str(message))
            else:
                show(message, category, *rest, **named)

        warnings.showwarning = shown
        yield


def _load(name: str) -> Any:
    """The command itself, from its file."""
    verbs = typer.Typer(**_SETTINGS)
    importlib.import_module(f"allmrec.cli.{_VERBS[name][0]}").register(verbs)
    return typer.main.get_group(verbs).commands[name]


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"allmrec {metadata.version('allmrec')}")
        raise typer.Exit
    return wanted


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


app = typer.Typer(
    name="allmrec",
    cls=_Verbs,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    **_SETTINGS,
)
app.callback(help="Give an existing recommender a language model (A-LLMRec, KDD 2024).")(_options)
for _name, (_, _help) in _VERBS.items():
    app.command(_name, help=_help)(lambda: None)


def main() -> None:
    """Run the command line."""
    # Loaders of other libraries draw bars of their own, one a file; ours say what matters. Each library reads these when
    # it is imported, and no verb has been so far.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with lasting_output():
        app()
