"""Trains stages after their parents, each once per set of inputs; no particular stage or system is named here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from allmrec.core.artifacts import space_checked
from allmrec.core.distributed import Processes, processes
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.run import Log, Run, StageKind
from allmrec.store.stages import Stage, StageResult

__all__ = ["Job", "check_models", "in_order", "train"]

# A run, or a variant of it, and the stages that are wanted of it.
Job = tuple[Run, Sequence[StageKind]]


def in_order(config: RunConfig, kinds: Sequence[StageKind]) -> list[StageKind]:
    """Stages and all that must be trained before them, each once, parents first."""
    found: dict[StageKind, None] = {}

    def visit(kind: StageKind) -> None:
        for earlier in (*kind.before(config), *kind.parents(config)):
            visit(earlier)
        found.setdefault(kind)

    for kind in kinds:
        visit(kind)
    return list(found)


def check_models(run: Run, kinds: Sequence[StageKind]) -> None:
    """Whether what the training needs is there, before hours are spent on the first of the stages.

    Raises:
        ModelNotFoundError: a model is not, or not whole.
        ArtifactError: a frozen model is another than the one that the run was trained with.
        DataError: a stage needs texts and no item has one.
    """
    wanted = [kind for kind in in_order(run.config, kinds) if not run.has(kind)]
    for kind in wanted:
        kind.check(run)
    for kind in wanted:
        kind.load(run)


def train(jobs: Sequence[Job], log: Log) -> None:
    """Train stages, and what they need, where they are not there already; all jobs are of one folder.

    Args:
        jobs: what is wanted.
        log: takes a line about each stage.

    Raises:
        ConfigError: a saved recommender is not trained further.
        ModelNotFoundError, MissingExtraError: what one of them needs is not there, before anything is trained.
        RunInUseError: another process is training the run.
        NoSpaceError: the disk is full; what is finished is kept.
        ArtifactError: a stage has another format.
    """
    if not jobs:
        return
    run = jobs[0][0]
    here = processes(run.device)
    with space_checked(run.path), run.folder.held(here):
        for run, kinds in jobs:
            run.check_unpublished()
            check_models(run, kinds)
        if here.is_main:
            run.folder.add_fingerprints(run.fingerprints)
        done: set[Path] = set()
        for run, kinds in jobs:
            for kind in in_order(run.config, kinds):
                stage = run.stage(kind)
                if stage.place not in done:
                    _complete(run, kind, stage, log, here)
                    done.add(stage.place)
        here.wait()


def _complete(run: Run, kind: StageKind, stage: Stage, log: Log, here: Processes) -> None:
    """Train one stage, unless it is there already; the run is held."""
    # The others wait here until the main process has written the stage before.
    current, damaged = here.from_main(_state(run, stage))
    if current and not damaged:
        log(f"{stage.label}: there already, made of the same inputs")
        return
    if damaged:
        log(f"{stage.label}: {damaged[0]} is missing or damaged; training it again")
    started = time.monotonic()
    result = kind.train(run, stage)
    if here.is_main:
        run.folder.write(stage, result, started)
    log(f"{stage.label}: done in {time.monotonic() - started:.0f} s{_best(result)}{_given_way(result)}")


def _state(run: Run, stage: Stage) -> tuple[bool, list[Path]]:
    """Whether a stage stands there, made of these inputs, and which of its files are damaged."""
    current = run.folder.has(stage)
    return current, run.folder.damaged(stage) if current else []


def _given_way(result: StageResult) -> str:
    """What the prompt's budget had no room for, in words."""
    budget = result.log.get("budget", {})
    parts = []
    if budget.get("cut_titles"):
        parts.append(f"{budget['cut_titles']:,} titles cut to {budget['title_tokens']} tokens")
    if budget.get("dropped_history"):
        parts.append(f"{budget['dropped_history']:,} history items dropped")
    return f"; prompts: {', '.join(parts)}" if parts else ""


def _best(result: StageResult) -> str:
    """The best validation figure of a stage, in words."""
    value, records = result.log.get("best_value"), result.log.get("records")
    if value is None or not records:
        return ""
    names = [name for name in records[-1] if name not in ("step", "epoch") and not name.startswith("loss/")]
    return (
        f", best {names[0].removeprefix('validation/')} {value:.4f} at step {result.log['best_step']}" if names else ""
    )
