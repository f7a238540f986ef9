"""Writes docs/cli.md from the command line's own help; knows no verb by name.

    python docs/generate_cli.py

`tests/docs/test_cli_reference.py` fails when the file is not what this writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

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


def verbs(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The program and all its verbs, sub-verbs behind their verb."""
    found = [path]
    for name, child in getattr(command, "commands", {}).items():
        found += verbs(child, (*path, name))
    return found


def reference() -> str:
    """The whole page."""
    # A fixed width, so that the page does not depend on the terminal it was made in.
    runner, parts = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}), [_HEAD]
    for path in verbs(get_command(app)):
        name = " ".join(("allmrec", *path))
        result = runner.invoke(app, [*path, "--help"], prog_name="allmrec", terminal_width=100)
        if result.exit_code != 0:
            raise RuntimeError(f"{name} --help ended with status {result.exit_code}: {result.output}")
        lines = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## `{name}`\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
