"""Writes docs/cli.md from the command line's own help.

    python docs/generate_cli.py

`tests/docs/test_cli_reference.py` fails when the file is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from allmrec.cli.main import app

TARGET = Path(__file__).with_name("cli.md")

_HEAD = """\
# The command line

Written by `python docs/generate_cli.py` from the program's own help. Do not edit it by hand.

A mistake ends a command with one message and status 1. Ctrl-C ends it with status 130: finished stages and the state of
the unfinished one are kept, and the same command goes on from there.

`--set` names any field of a run's configuration: [configuration.md](configuration.md) lists them. [data.md](data.md) says what
`prepare` reads, [measuring.md](measuring.md) what `evaluate` prints.
"""


def loaded(group: Any, name: str) -> Any:
    """A verb of a group. What the group lists may be a stub until the verb is called."""
    return group.resolve_command(group.context_class(group), [name])[1]


def sections(command: Any, name: str = "allmrec", parent: Any = None) -> Iterator[str]:
    """The help of a command, then that of its verbs."""
    # A fixed width, so that the page does not depend on the terminal it was made in.
    settings = {**command.context_settings, "terminal_width": 100}
    context = command.context_class(command, info_name=name, parent=parent, **settings)
    lines = "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    yield f"## `{context.command_path}`\n\n```text\n{lines}\n```\n"
    for verb in getattr(command, "commands", {}):
        yield from sections(loaded(command, verb), verb, context)


def reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *sections(get_command(app))])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
