"""`allmrec attention`: a figure of where the answer's attention goes, before and after stage 2's training."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from allmrec.cli.attention_figure import attention_figure, check_figure, save_figure
from allmrec.cli.options import CONSOLE, DeviceOption, RunArgument, announce, chosen_device
from allmrec.core.artifacts import write_json
from allmrec.pipeline.run import Run
from allmrec.systems.attention import AttentionChange, attention_change

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(
        "attention", help="Draw where the answer's attention goes, before and after stage 2's training (extra plots)."
    )
    def attention(
        run: RunArgument,
        output: Annotated[
            Path | None,
            typer.Option(
                "-o",
                "--output",
                help="Figure to write, .png or .svg; the numbers go beside it as .json. Default: attention.png in the run.",
                show_default=False,
            ),
        ] = None,
        users: Annotated[int, typer.Option(min=1, help="Test users to average over.")] = 32,
        gains: Annotated[int, typer.Option(min=1, help="Heads to list, those with the largest gain.")] = 10,
        layer_by_head: Annotated[
            bool,
            typer.Option(
                "--layer-by-head", help="Write every group's share by layer and head, not only of titles' first tokens."
            ),
        ] = False,
        device: DeviceOption = "auto",
    ) -> None:
        path = run / "attention.png" if output is None else output
        check_figure(path)
        opened = Run.open(run, chosen_device(device))
        change = attention_change(opened, users, shlex.join(["allmrec", *sys.argv[1:]]))
        show_gains(change, gains)
        if opened.config.tune.title_weight == 0:
            announce("This run was trained for the pointer head alone (tune.title_weight = 0), not to predict titles.")
        numbers = path.with_suffix(".json")
        write_json(numbers, change.as_json(gains, layer_by_head))
        save_figure(attention_figure(change), path)
        announce(f"Written: {path} and {numbers}")


def show_gains(change: AttentionChange, count: int) -> None:
    """Print the heads with the largest gain of attention to the first token of the target's title."""
    table = Table(
        "layer",
        "head",
        "target, before",
        "target, after",
        "other candidates, before",
        "other candidates, after",
        title="Attention from the answer's place to the first token of a title",
        caption=f"Mean over {change.after.users} test users; other candidates: mean per candidate. Layers and heads count from 1.",
        title_justify="left",
        caption_justify="left",
    )
    for gain in change.gains(count):
        shares = (gain.before, gain.after, gain.others_before, gain.others_after)
        table.add_row(str(gain.layer), str(gain.head), *(f"{share:.4f}" for share in shares))
    CONSOLE.print(table)
