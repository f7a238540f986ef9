"""Options and output that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from allmrec.core.errors import ConfigError

__all__ = ["CONSOLE", "DeviceOption", "RunArgument", "SeedOption", "announce", "chosen_device"]

CONSOLE = Console()

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything drawn; none: the recipe's.")]


def announce(text: str) -> None:
    """Print a line about what has been done."""
    CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


def chosen_device(device: str) -> str:
    """The device to compute on.

    Raises:
        ConfigError: torch does not know it or cannot reach it.
    """
    import torch  # slow to import, and verbs that need no device use this file too

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The device {device!r} cannot be used here: {reason}. Try --device cpu.") from None
    return device
