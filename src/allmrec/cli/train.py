"""`allmrec train`, and its stages singly: `pretrain`, `align`, `tune`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from allmrec.cli.options import ChangeOption, DeviceOption, SaveEveryOption, SeedOption, announce, chosen_device
from allmrec.core.artifacts import recover
from allmrec.core.distributed import processes
from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.continuing import continued
from allmrec.pipeline.run import Run
from allmrec.pipeline.schedule import Job, check_models, train
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe, parse_changes, recipe_names
from allmrec.stages.tune import stages_until
from allmrec.systems.registry import SYSTEMS, check_trainable, checked_settings, everything_of, train_systems
from allmrec.systems.towers import continuing_stages

__all__ = ["register"]

_HELP = {
    "train": "Run every stage that is not there already: CF model, alignment, prompts, and the systems that `beside` names.",
    "pretrain": "Train the collaborative-filtering model only.",
    "align": "Stage 1: align the CF item space with the text space.",
    "tune": "Stage 2: put users and items into the language model's token space.",
}


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb, text in _HELP.items():
        until = {"train": "tune"}.get(verb, verb)
        app.command(verb, help=text)(_command(verb, until))


def _command(verb: str, until: str):  # type: ignore[no-untyped-def]  # typer reads the inner function's signature
    def command(
        source: Annotated[
            Path, typer.Argument(help="Prepared data to make a run of, or a run to go on with.", show_default=False)
        ],
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="The run's folder; needed with prepared data.")
        ] = None,
        recipe: Annotated[
            str | None, typer.Option("--recipe", help=f"{', '.join(recipe_names())}, or a TOML file. Default: paper.")
        ] = None,
        start: Annotated[
            Path | None,
            typer.Option("--from", help="An earlier run, on data before more came, to go on from; it stays as it is."),
        ] = None,
        llm: Annotated[str | None, typer.Option("--llm", help="Causal language model, by name or folder.")] = None,
        encoder: Annotated[str | None, typer.Option("--encoder", help="Sentence encoder, by name or folder.")] = None,
        backbone: Annotated[str | None, typer.Option("--backbone", help="CF model, e.g. sasrec.")] = None,
        words: Annotated[
            str | None, typer.Option("--words", help="verb,participle,noun of the prompt, e.g. watch,watched,movie.")
        ] = None,
        change: ChangeOption = None,
        seed: SeedOption = None,
        system: Annotated[
            list[str] | None,
            typer.Option(
                "--system",
                help=f"With `train`: this instead of A-LLMRec; repeatable: {', '.join(SYSTEMS)}.",
            ),
        ] = None,
        device: DeviceOption = "auto",
        save_every: SaveEveryOption = 60.0,
        share_llm: Annotated[
            bool,
            typer.Option(
                "--share-llm",
                help="Each of several processes holds a part of the language model's layers: for one that does not fit one GPU.",
            ),
        ] = False,
    ) -> None:
        if system and verb != "train":
            raise ConfigError(f"--system goes with `allmrec train`; {verb} is a stage of A-LLMRec itself.")
        named = {"llm.name": llm, "encoder.name": encoder, "pretrain.backbone": backbone, "seed": seed}
        changes = {name: value for name, value in named.items() if value is not None}
        changes |= _words(words) | parse_changes(change or [])
        here = processes(chosen_device(device))
        place = here.device(chosen_device(device))
        if here.is_main:
            recover(source)  # `prepare` may have been killed while it put new data in the place of old
        here.wait()
        if (source / "run.json").is_file():
            run = Run.open(source, place, save_every)
            if output is not None:
                raise ConfigError(f"{source} is a run already; leave -o out to go on with it.")
            if start is not None:
                raise ConfigError(
                    f"--from goes with prepared data and -o: {source} is a run, which has begun somewhere."
                )
            if recipe is not None or changes:
                run.check_unpublished()
                run = run.with_config(checked_settings(_config(run, recipe, changes)))
        elif not source.exists():
            raise ConfigError(f"{source} does not exist; expected prepared data (allmrec prepare) or a run.")
        elif output is None:
            raise ConfigError(f"Where to? {source} is no run. Give the run's folder: -o runs/NAME")
        else:
            data = InteractionDataset.load(source)
            earlier = None if start is None else Run.open(start, place)
            config = checked_settings(_first_config(output, recipe, changes, earlier))
            run = Run.draft(output, data, config, place, save_every)
            if earlier is not None:
                run = continued(run, earlier, continuing_stages(earlier))
        if share_llm:
            run = run.sharing_llm()
        jobs: list[Job] = [(run, stages_until(run.config, until))]
        if system:
            check_trainable(run, system)
        elif verb == "train":
            jobs = everything_of(run)
        else:
            check_models(*jobs[0])
        run.keep()
        report = announce if here.is_main else lambda text: None
        if system:
            train_systems(run, system, report)
        else:
            train(jobs, report)
        after = {"pretrain": "align", "align": "tune"}.get(until)
        report(f"Next: allmrec {after or 'evaluate'} {run.path}")

    return command


def _first_config(output: Path, recipe: str | None, changes: Mapping[str, Any], earlier: Run | None) -> RunConfig:
    """A recipe's configuration; where none is named, that of the run in the folder, or of the run to go on from."""
    if recipe is None and (output / "run.json").is_file():
        return Run.open(output).config.changed(changes)
    if recipe is None and earlier is not None:
        return earlier.config.changed(changes)
    return load_recipe(recipe or "paper", changes)


def _config(run: Run, recipe: str | None, changes: Mapping[str, Any]) -> RunConfig:
    """The run's own configuration with changes, or another recipe's."""
    if recipe is not None:
        return load_recipe(recipe, changes)
    return run.config.changed(changes)


def _words(words: str | None) -> dict[str, str]:
    if words is None:
        return {}
    parts = [part.strip() for part in words.split(",")]
    if len(parts) != 3 or not all(parts):
        raise ConfigError(f"--words is {words!r}; expected verb,participle,noun such as watch,watched,movie.")
    names = ("verb", "past", "noun")
    return {f"tune.prompt.template.words.{name}": part for name, part in zip(names, parts, strict=True)}
