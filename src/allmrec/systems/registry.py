"""The table of systems: what can be trained, evaluated and asked to recommend, by name.

Another package adds one by an entry point of the group `allmrec.systems` that names a `SystemKind`; `trained_system` makes
one of a function that trains and a function that loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from allmrec.core.errors import ConfigError
from allmrec.core.log import logger
from allmrec.core.places import with_whole_places
from allmrec.core.registry import Registry
from allmrec.pipeline import schedule
from allmrec.pipeline.run import Log, Run
from allmrec.pipeline.schedule import Job
from allmrec.recipes.config import RunConfig
from allmrec.stages.cf import PRETRAIN
from allmrec.stages.tune import TUNE, allmrec_stages
from allmrec.store.stages import SYSTEMS_FOLDER
from allmrec.systems.baselines import BASELINES, TRAINED_BASELINES
from allmrec.systems.kinds import AbsentError, System, SystemKind, stages_of
from allmrec.systems.llm_srec import LLM_SREC
from allmrec.systems.own import OWN
from allmrec.systems.towers import TOWER_SYSTEMS
from allmrec.systems.trained import CF_SYSTEMS
from allmrec.systems.variants import VARIANT_SYSTEMS

__all__ = [
    "SYSTEMS",
    "all_there",
    "check_trainable",
    "checked_settings",
    "everything_of",
    "open_systems",
    "system_kind",
    "train_systems",
    "trained_systems",
]

# In the order of a report.
SYSTEMS: Registry[SystemKind] = Registry(
    "allmrec.systems",
    SystemKind,
    {
        kind.name: kind
        for kind in (
            *OWN,
            *VARIANT_SYSTEMS,
            *TOWER_SYSTEMS,
            *BASELINES,
            *CF_SYSTEMS,
            *TRAINED_BASELINES,
            LLM_SREC,
        )
    },
)


def system_kind(name: str) -> SystemKind:
    """Look a system up.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SYSTEMS:
        raise ConfigError(f"There is no system {name!r}; known are {', '.join(SYSTEMS)}.")
    return SYSTEMS[name]


def checked_settings(config: RunConfig) -> RunConfig:
    """The configuration with its groups `systems.NAME` checked, each by the class of its system, and paths in them written out whole.

    Raises:
        ConfigError: no system has settings of that name, or a group has an unknown field or a value that does not fit.
    """
    whole: dict[str, dict[str, Any]] = {}
    for name, given in config.systems.items():
        # Only what is named is looked up, so that a broken package harms nobody who does not use it.
        settings = SYSTEMS[name].settings if name in SYSTEMS else None
        if settings is None or settings.name != name:
            near = get_close_matches(name, SYSTEMS, n=1)
            hint = f" Did you mean systems.{near[0]}?" if near else ""
            raise ConfigError(
                f"systems.{name}: no system has settings of that name.{hint} docs/configuration.md has all."
            )
        whole[name] = _as_given(given, with_whole_places(settings.of(config)).model_dump(mode="json"))
    return config.model_copy(update={"systems": whole})


def _as_given(given: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a whole group for those fields alone that were given."""
    return {
        name: _as_given(value, whole[name])
        if isinstance(value, Mapping) and isinstance(whole[name], Mapping)
        else whole[name]
        for name, value in given.items()
    }


def everything_of(run: Run) -> list[Job]:
    """A-LLMRec and what the run trains beside it (`beside`): what is cheap first, what asks the language model last.

    Args:
        run: the run, there or not yet.

    Raises:
        ConfigError: `beside` names an unknown system, or one that the run's configuration has no room for.
        ModelNotFoundError, DataError: a model or a text that one of them needs is not there.
    """
    own: Job = (run, allmrec_stages(run.config))
    names = run.config.beside
    jobs = {name: system_kind(name).job(run) for name in names}
    schedule.check_jobs([own, *jobs.values()])
    cheap = [job for name, job in jobs.items() if not system_kind(name).prompted]
    return [job for job in (*cheap, own, *(job for job in jobs.values() if job not in cheap)) if job[1]]


def check_trainable(run: Run, names: Sequence[str]) -> list[Job]:
    """Refuse what cannot be trained before anything is written: a run may be a `draft`.

    Args:
        run: the run, there or not yet.
        names: of SYSTEMS.

    Returns:
        What is to be trained.

    Raises:
        ConfigError: an unknown system, or one that the run's configuration has no room for.
        ModelNotFoundError, DataError: a model or a text that one of them needs is not there.
    """
    jobs = [kind.job(run) for kind in [system_kind(name) for name in names]]
    schedule.check_jobs(jobs)
    return jobs


def train_systems(run: Run, names: Sequence[str], log: Log) -> None:
    """Train systems into a run, each with the stages that it reads, where they are not there already.

    Args:
        run: the run.
        names: of SYSTEMS.
        log: takes a line about each stage.

    Raises:
        ConfigError: an unknown system, or one that the run's configuration has no room for.
        ModelNotFoundError, MissingExtraError: what one of them needs is not there.
        RunInUseError: another process is training the run.
        NoSpaceError: the disk is full; what is finished is kept.
    """
    jobs = check_trainable(run, names)
    for name, (_, stages) in zip(names, jobs, strict=True):
        if not stages:
            log(f"{name}: nothing to train")
    schedule.train([job for job in jobs if job[1]], log)


def open_systems(run: Run, names: Sequence[str] | None, log: Log = logger.info) -> dict[str, System]:
    """Systems of a run, ready to rank, in the order of the table.

    Args:
        run: the run.
        names: of SYSTEMS; none: all that the run has.
        log: takes a line about systems that are left out where none are named.

    Raises:
        ConfigError: an unknown system, or one that this run cannot have.
        ArtifactError: a stage that a system needs is missing, of other inputs, or damaged.
    """
    for name in names or ():
        system_kind(name)
    # The run's own CF model by its own name.
    named = [("backbone" if name == run.config.pretrain.backbone else name) for name in names or ()]
    chosen = all_there(run, log) if names is None else [name for name in SYSTEMS if name in named]
    made_of = {name: stages_of(run, SYSTEMS[name]) for name in chosen}
    # Before a large language model is loaded for nothing.
    for stage in {stage.place: stage for stages in made_of.values() for stage in stages}.values():
        run.folder.check(stage)
    opened: dict[str, System] = {}
    for name in chosen:
        kind = SYSTEMS[name]
        try:
            opened[name] = replace(kind.open(run), stages=made_of[name])
        except AbsentError as error:
            if names is not None:
                raise ConfigError(f"{run.path} has no system {name!r}: {error}.") from None
    return opened


def trained_systems(run: Run) -> tuple[list[str], list[str]]:
    """Systems beside the run's own that stand there: those made of what the run has now, and the others."""
    current: list[str] = []
    stale: list[str] = []
    for name in SYSTEMS:
        # A CF model that has become the run's own is in the table already.
        if name != run.config.pretrain.backbone and (run.path / SYSTEMS_FOLDER / name).is_dir():
            of, stages = SYSTEMS[name].job(run)
            (current if of.has(stages[-1]) else stale).append(name)
    return current, stale


def all_there(run: Run, log: Log) -> list[str]:
    """Names of the systems that a run has. Its own stand there as soon as stage 2 does, or nothing else."""
    others, stale = trained_systems(run)
    if stale:
        again = " ".join(f"--system {name}" for name in stale)
        log(
            f"Left out, trained on other inputs than the run now has: {', '.join(stale)}. allmrec train {run.path} {again}"
        )
    pretrained = (run.path / PRETRAIN.name).is_dir()
    if (run.path / TUNE.name).is_dir() or not (others or pretrained):
        return [*(kind.name for kind in OWN), *others]
    if not others:
        log(f"A-LLMRec itself is not trained in {run.path}, so it is left out. allmrec train {run.path}")
    cheap = [kind.name for kind in OWN if not kind.prompted and (pretrained or not kind.stages(run.config))]
    return [*cheap, *others]
