"""`allmrec experiment`: a plan's cells as resumable jobs, then tables and a report."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from allmrec.cli.options import CONSOLE, DeviceOption, announce, chosen_device
from allmrec.core.artifacts import recover
from allmrec.core.checkout import code_commit
from allmrec.core.errors import ConfigError
from allmrec.core.locking import held
from allmrec.core.places import check_folder
from allmrec.experiments.costs import plan_costs
from allmrec.experiments.plan import NAME, Plan, load_plan, only, plan_names, plan_text
from allmrec.experiments.record import FILE, Record, check_free, record_before
from allmrec.experiments.results import Results
from allmrec.experiments.scheduler import all_cells, data_folders, run_cells, with_nearest
from allmrec.experiments.writing import write_report
from allmrec.recipes.files import parse_changes

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(
        "experiment", help="Measure a plan: every cell a job that goes on after a kill; then tables and a report."
    )
    def experiment(
        plan: Annotated[
            str | None, typer.Argument(help="A plan's name (--list), or a TOML file. None: the plan of the folder.")
        ] = None,
        output: Annotated[Path | None, typer.Option("-o", "--output", help="The experiment's folder.")] = None,
        data: Annotated[
            list[Path] | None,
            typer.Option(
                "--data", help="Prepared data, instead of the plan's; repeatable. Its folder's name is its name."
            ),
        ] = None,
        recipe: Annotated[str | None, typer.Option("--recipe", help="A recipe instead of the plan's.")] = None,
        change: Annotated[
            list[str] | None, typer.Option("--set", help="Change a field of the recipe; repeatable.")
        ] = None,
        systems: Annotated[str | None, typer.Option(help="Some of the plan's systems, by their rows.")] = None,
        without: Annotated[
            str | None, typer.Option(help="Rows of the plan that are not measured; the report names them.")
        ] = None,
        seeds: Annotated[str | None, typer.Option(help='Seeds instead of the plan\'s: "0,1,2".')] = None,
        users: Annotated[int | None, typer.Option(min=0, help="Test users instead of the plan's; 0: all.")] = None,
        title_users: Annotated[
            int | None, typer.Option("--title-users", min=1, help="Fewer users for systems that score titles.")
        ] = None,
        users_of: Annotated[
            list[str] | None,
            typer.Option("--users-of", help="Fewer users for one system: llm-only=200; repeatable."),
        ] = None,
        seeds_of: Annotated[
            list[str] | None,
            typer.Option("--seeds-of", help="The first so many seeds for one system: allmrec=1; repeatable."),
        ] = None,
        stages: Annotated[
            Path | None,
            typer.Option(
                help="Folder of trained stages; experiments that name the same one train each once. Default: one of the experiment's own."
            ),
        ] = None,
        results: Annotated[
            Path | None,
            typer.Option(
                help="Folder of results; experiments that name the same one measure once what they both ask. Default: the experiment's own."
            ),
        ] = None,
        jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cells at a time, each a process of its own.")] = 1,
        device: DeviceOption = "auto",
        listed: Annotated[bool, typer.Option("--list", help="Show the plans that come with the package.")] = False,
        show: Annotated[
            bool, typer.Option("--show", help="Check the plan, yours or the package's, and print it as TOML.")
        ] = False,
        report_only: Annotated[
            bool,
            typer.Option(
                "--report",
                help="Measure nothing; write tables and report of what is done; of a folder of experiments, one report of all.",
            ),
        ] = False,
    ) -> None:
        if listed:
            _show_plans()
            return
        if show:
            if plan is None:
                raise ConfigError(f"Which plan? --show needs its name or file: {', '.join(plan_names())}.")
            load_plan(plan)
            CONSOLE.print(plan_text(plan), markup=False, highlight=False, soft_wrap=True, end="")
            return
        if output is None:
            raise ConfigError(
                "Where to? Give the experiment's folder: -o experiments/NAME. Plans: allmrec experiment --list"
            )
        changes = _changes(data, recipe, change, seeds, users, title_users)
        for name, options in (("users_of", users_of), ("seeds_of", seeds_of)):
            if options:
                changes[name] = dict(_number_of(name, one) for one in options)
        if without is not None:
            if systems is not None:
                raise ConfigError("--systems and --without both choose rows of the plan. Give one of them.")
            changes["without"] = [name.strip() for name in without.split(",")]
        check_folder(output)
        folder = output.resolve()
        if report_only and plan is None and not changes and not systems:
            announce(f"Written: {', '.join(map(str, write_report(folder, CONSOLE)))}")
            return
        if plan is None:
            if not (output / FILE).is_file():
                raise ConfigError(
                    f"{output} is no experiment yet. Name a plan: {', '.join(plan_names())}, or a TOML file."
                )
            if changes or systems:
                raise ConfigError(f"Name the plan too: {output} goes on as it is only where nothing is changed.")
            wanted = Record.read(output).plan
        else:
            wanted = load_plan(plan, changes)
            if systems is not None:
                wanted = only(wanted, [name.strip() for name in systems.split(",")])
        wanted.check_measurable()
        places = [None if path is None else path.resolve() for path in (stages, results)]
        _measure(wanted, folder, places[0], places[1], jobs, chosen_device(device), report_only)


def _changes(
    data: list[Path] | None,
    recipe: str | None,
    change: list[str] | None,
    seeds: str | None,
    users: int | None,
    title_users: int | None,
) -> dict[str, Any]:
    """What the options change of a plan."""
    found: dict[str, Any] = {}
    if data:
        # Not of what a link leads to: the link's own name is the one that was given.
        names = [Path(os.path.abspath(path)).name for path in data]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"Two data folders have the same name ({', '.join(names)}), and that is how they are called."
            )
        for path, name in zip(data, names, strict=True):
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{path} gives the data set its name, and {name!r} cannot be one: expected letters of English, digits, '-' and '_'. "
                    "Rename the folder, link to it under another name (ln -s), or name it in a plan of your own: "
                    f'[data.NAME] path = "{path}"'
                )
            recover(path)
            if not (path / "manifest.json").is_file():
                raise ConfigError(f"{path} is no prepared data. Make some: allmrec prepare … -o {path}")
        found["data"] = {name: {"path": str(path.resolve())} for name, path in zip(names, data, strict=True)}
    if recipe is not None:
        found["recipe"] = str(Path(recipe).resolve()) if Path(recipe).is_file() else recipe
    if change:
        found["changes"] = parse_changes(change)
    if seeds is not None:
        try:
            found["seeds"] = [int(seed) for seed in seeds.split(",")]
        except ValueError:
            raise ConfigError(f"--seeds is {seeds!r}; expected whole numbers with commas between: 0,1,2.") from None
    if users is not None:
        found["users"] = users or None
    if title_users is not None:
        found["title_users"] = title_users
    return found


def _number_of(field: str, option: str) -> tuple[str, int]:
    """A system and a number."""
    system, _, number = option.partition("=")
    if not system or not number.isdecimal():
        name = field.replace("_", "-")
        raise ConfigError(f"--{name} is {option!r}; expected a system and a number: llm-only=2.")
    return system, int(number)


def _measure(
    plan: Plan, folder: Path, stages: Path | None, results: Path | None, jobs: int, device: str, report_only: bool
) -> None:
    """Do what is not done, then write the tables; status 1 where a cell failed."""
    failed = []
    command = shlex.join(["allmrec", *sys.argv[1:]])
    if not report_only:
        check_free(folder)
        with held(folder):
            before = record_before(folder, announce)
            places = data_folders(plan, folder, announce)
            cells = all_cells(plan, places)
            if before is not None:
                stages, results = stages or before.stages, results or before.results
                if results != before.results:
                    announce(f"Results of before stay in {before.results_in(folder)}; these are kept in {results}.")
            check_folder(stages or folder, "--stages")
            _make_folder(results or folder)
            keys = {one.cell.id: one.key for one in cells}
            record = Record(with_nearest(plan, places), places, keys, command, code_commit(), stages, results)
            record.write(folder)
            there = Results(record.results_in(folder))
            waiting = [one for one in cells if not there.has(one.key)]
            done = len(cells) - len(waiting)
            announce(f"{len(cells)} cells, {done} done already")
            failed = run_cells(folder, waiting, done, announce, jobs, device)
    written = write_report(folder, CONSOLE)
    announce(f"Written: {', '.join(map(str, written))}")
    if failed:
        again = f"allmrec experiment -o {folder}"
        announce(f"{len(failed)} cells failed, see {folder / 'logs'}; the report says why. To try these again: {again}")
        raise typer.Exit(1)


def _make_folder(results: Path) -> None:
    """What cannot be written is said before anything is trained.

    Raises:
        ConfigError: it is no folder, or cannot be made.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Results cannot be kept in {results} ({error.strerror}). Give another place with --results."
        ) from None


def _show_plans() -> None:
    table = Table("plan", Column("cells", justify="right"), "what, and what runs of it took", box=None, pad_edge=False)
    for name in plan_names():
        costs = plan_costs(name)
        lines = (load_plan(name).title, *(costs.runs or ("not measured",)))
        table.add_row(name, str(costs.cells), Text("\n  ".join(lines)))
    CONSOLE.print(table)
    announce(
        "cells: for each data set. Of a run: cells that were measured, on which data, and the minutes that it takes to train each stage once "
        "and to ask, one cell after the other. cut: with fewer rows, samples, epochs, users or seeds (benchmarks/experiments.toml), so all of it takes "
        "longer."
    )
