"""`allmrec demo`: films in, trained, evaluated, recommended by title, with models and data from installed packages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from allmrec.cli.evaluate import show_evaluation
from allmrec.cli.options import CONSOLE, DeviceOption, SeedOption, announce, chosen_device
from allmrec.cli.prepare import show_summary
from allmrec.cli.recommend import show_history, show_recommendations
from allmrec.core.packaged import packaged_path
from allmrec.data.build import prepare_source
from allmrec.library import Run
from allmrec.recipes.files import load_recipe, parse_changes
from allmrec.systems.evaluating import run_protocol
from allmrec.systems.registry import checked_settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(
        "demo",
        help="Train on MovieLens-100K, evaluate, and recommend by title: about a quarter of an hour on two cores.",
    )
    def demo(
        output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")] = Path("runs/demo"),
        data: Annotated[Path, typer.Option("--data", help="Folder of the data set.")] = Path("data/demo"),
        change: Annotated[list[str] | None, typer.Option("--set", help="Change a field of the recipe.")] = None,
        seed: SeedOption = None,
        device: DeviceOption = "auto",
    ) -> None:
        started = time.monotonic()
        changes = ({} if seed is None else {"seed": seed}) | parse_changes(change or [])
        CONSOLE.rule("Data: MovieLens-100K")
        dataset = prepare_source("movielens", {"directory": packaged_path("movielens-100k")})
        dataset.save(data)
        show_summary(dataset.summary(), dataset.provenance)
        CONSOLE.rule("Training")
        config = checked_settings(load_recipe("demo", changes))
        run = Run.create(output, dataset, config, chosen_device(device))
        run.train(announce)
        CONSOLE.rule("Evaluation")
        show_evaluation(run)
        CONSOLE.rule("One user")
        user = int(run_protocol(run).users[0])
        show_history(dataset, dataset.sequence(user).tolist())
        show_recommendations(run.recommender().recommend(user=dataset.users.id(user), k=5))
        history = ",".join(dataset.items.id(int(i)) for i in dataset.sequence(user)[-3:])
        announce(
            f"Done in {(time.monotonic() - started) / 60:.1f} minutes. What to try next:\n"
            f'  allmrec recommend {output} --history "{history}" --k 10\n'
            f"  allmrec serve {output}                      # an HTTP API, and a page to try it on\n"
            f"  allmrec evaluate {output} --catalogue       # among all films instead of 20\n"
            f"  allmrec experiment table1 --data {data} --recipe demo -o experiments/table1   # the paper's Table 1 on the same films\n"
            "  allmrec prepare table --interactions YOURS.csv --items TITLES.csv -o data/mine"
        )
