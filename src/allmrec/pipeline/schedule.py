"""Trains stages after their parents, each once per set of inputs; no particular stage or system is named here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from allmrec.core.artifacts import space_checked
from allmrec.core.callbacks import stage_named
from allmrec.core.distributed import Processes, processes
from allmrec.core.errors import DivergedError
from allmrec.pipeline.data_check import check_data, data_notes
from allmrec.pipeline.run import Log, Run, StageKind
from allmrec.pipeline.start import Start
from allmrec.recipes.config import RunConfig
from allmrec.store.stages import Stage, StageResult

__all__ = ["Job", "check_jobs", "check_models", "in_order", "train"]

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
        DataError: the data lacks what they need: users with enough interactions, negatives, texts.
    """
    check_jobs([(run, kinds)])


def check_jobs(jobs: Sequence[Job]) -> None:
    """The same for all jobs together: whether models are there is asked before any of them is loaded."""
    missing = [(run, _missing(run, kinds)) for run, kinds in jobs]
    for run, kinds in missing:
        check_data(run, kinds)
        for kind in kinds:
            kind.check(run)
    for run, kinds in missing:
        for kind in kinds:
            kind.load(run)


def _missing(run: Run, kinds: Sequence[StageKind]) -> list[StageKind]:
    return [kind for kind in in_order(run.config, kinds) if not run.has(kind)]


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
        for run, _ in jobs:
            run.check_unpublished()
        check_jobs(jobs)
        if here.count > 1:
            log(f"{here.count} processes train together.")
        if here.is_main:
            run.folder.add_fingerprints(run.fingerprints)
        for note in dict.fromkeys(note for run, kinds in jobs for note in data_notes(run, _missing(run, kinds))):
            log(note)
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
    if run.start is not None:
        log(f"{stage.label}: {_begins(run, run.start, kind)}")
    started = time.monotonic()
    with stage_named(stage.label) as called:
        if here.is_main:
            called.started()
        try:
            result = kind.train(run, stage)
        except DivergedError as error:
            raise DivergedError(f"{stage.label} diverged: {error} {_advice(kind, stage)}") from error
        if here.is_main:
            run.folder.write(stage, result, started)
            called.ended(result.log)
    how = "ended by a callback" if result.log.get("stopped") else "done"
    log(f"{stage.label}: {how} in {time.monotonic() - started:.0f} s{_best(result)}{_given_way(result)}")


def _begins(run: Run, start: Start, kind: StageKind) -> str:
    """What a stage of a run that goes on from an earlier one begins with, in words."""
    if run.keeps(kind):
        return f"kept as {start.run} has it: {start.kept[kind.name]}"
    if run.start_key(kind) is not None:
        despite = start.despite.get(kind.name)
        return f"goes on from {start.run}" + (f", although {despite}" if despite else "")
    return f"trained anew: {start.anew.get(kind.name, 'not a stage of A-LLMRec with the settings of the earlier one')}"


def _advice(kind: StageKind, stage: Stage) -> str:
    """The field to lower, as `--set` takes it."""
    if kind.system:
        return f"The field stands under systems ({kind.system})."
    name = {"reference": "pretrain"}.get(kind.name, kind.name)
    return f"The field: --set {name}.training.learning_rate=…"


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
