"""Puts the verbs together and turns our errors into messages; knows no verb's inside."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from allmrec.cli import demo, doctor, evaluate, prepare, recommend, train
from allmrec.core.errors import AllmrecError

__all__ = ["app", "main"]

app = typer.Typer(
    name="allmrec",
    help="Give an existing recommender a language model (A-LLMRec, KDD 2024).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
prepare.register(app)
train.register(app)
evaluate.register(app)
recommend.register(app)
doctor.register(app)
demo.register(app)


def main() -> None:
    """Run the command line. Our errors end it with a message and status 1, Ctrl-C with 130."""
    # Loaders of other libraries draw bars of their own, one a file; ours say what matters.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    errors = Console(stderr=True, soft_wrap=True)
    try:
        app()
    except AllmrecError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        again = " ".join(["allmrec", *sys.argv[1:]])
        errors.print(f"\nStopped. Finished stages and the resume state are kept; to go on: {escape(again)}")
        sys.exit(130)
