"""Options and output that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from allmrec.core.devices import chosen_device
from allmrec.core.visible import visible

__all__ = [
    "CONSOLE",
    "ChangeOption",
    "DeviceOption",
    "RunArgument",
    "SaveEveryOption",
    "SeedOption",
    "announce",
    "chosen_device",
]

CONSOLE = Console()

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything drawn; none: the recipe's.")]
ChangeOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a field, e.g. tune.training.epochs=3; repeatable.")
]
SaveEveryOption = Annotated[
    float, typer.Option("--save-every", min=0, help="Seconds between two savings of a stage that is not finished.")
]


def announce(text: str) -> None:
    """Print a line about what has been done, or several; texts in it are shown as they are."""
    CONSOLE.print(visible(text, lines=True), highlight=False, markup=False, soft_wrap=True)
