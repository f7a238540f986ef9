"""A run on more data that goes on from an earlier one, and trains again only what its inputs give a reason for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from allmrec.core.artifacts import write_json
from allmrec.core.errors import ConfigError
from allmrec.data.growing import Growth, grown
from allmrec.data.interactions import InteractionDataset
from allmrec.data.sources.base import RawData
from allmrec.pipeline import schedule
from allmrec.pipeline.continuing import continued, with_kept
from allmrec.pipeline.run import Log, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.stages.align import ALIGN
from allmrec.stages.tune import TUNE, allmrec_stages
from allmrec.systems.movement import INPUTS, Inputs, read_inputs, write_inputs
from allmrec.systems.registry import system_kind, trained_systems
from allmrec.systems.towers import continuing_stages

__all__ = ["RECORD", "Updated", "update_run"]

# What an update wrote down, in the new run's folder.
RECORD = "update.json"

R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Updated:
    """What an update did.

    Attributes:
        run: the new run; None where there was nothing new, and so nothing was written.
        growth: what came to the data.
        moved: by stage, how far its inputs moved since it was trained: the larger of the mean cosine distances of item and user
            vectors.
        kept: stages whose earlier weights stayed as they were, and why.
    """

    run: Run | None
    growth: Growth
    moved: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def update_run(
    earlier: Run,
    raw: RawData,
    output: Path | str,
    *,
    config: RunConfig | None = None,
    keep_within: float = 0.05,
    save_every: float = 60.0,
    log: Log,
) -> Updated:
    """Join newer interactions, users and items to a run's data, and train a new run on it that goes on from the earlier one.

    What is trained in the earlier run is trained in the new one: its own stages, and the systems beside. Each goes on from its
    earlier weights where it can (`pipeline.continuing`). Stages 1 and 2 stay as they are where their inputs moved by `keep_within`
    at the most since they were trained, in however many runs before: stage 1's are the item and user vectors of the CF model, stage
    2's are the items' joint vectors and the same user vectors. The same call goes on where it was cut off.

    Args:
        earlier: stays as it is.
        raw: the newer table.
        output: the new run's folder.
        config: of the new run; None: the earlier one's.
        keep_within: mean cosine distance from 0 to 2; a negative number keeps nothing.
        save_every: seconds between two savings of a stage that is not finished.
        log: takes a line about each step.

    Raises:
        ConfigError: the earlier run is a saved recommender or has nothing trained, `keep_within` is no number, or `output` holds
            something else.
        DataError: the table does not fit the run's data.
        ArtifactError, ModelNotFoundError, RunInUseError, NoSpaceError: as of training.
    """
    earlier.check_unpublished()
    if math.isnan(keep_within):
        raise ConfigError(
            "keep_within is nan; expected a mean cosine distance from 0 to 2, or below 0 to keep nothing."
        )
    own, beside = _trained(earlier)
    data, growth = grown(earlier.dataset, raw)
    log(_joined(data, growth))
    if growth.is_nothing:
        return Updated(None, growth)
    chosen = earlier.config if config is None else config
    draft = Run.draft(Path(output), data, chosen, earlier.device, save_every)
    run = continued(draft, earlier, continuing_stages(earlier))
    if draft.start is not None and replace(draft.start, kept={}) == run.start:
        run = replace(run, start=draft.start)  # an earlier call's decisions, which are made again below
    log = _once(log)
    schedule.check_jobs(_jobs(run, own, beside))
    run.keep()
    # Vectors first: how far they moved decides about the rest.
    first = [kind for kind in own if kind not in (ALIGN, TUNE)]
    schedule.train([(run, first)], log)
    moved: dict[str, float] = {}
    trained_on: dict[str, Inputs] = {}
    for kind in (ALIGN, TUNE):
        if kind in own and run.start_key(kind) is not None:
            since = _inputs(earlier, kind, log)
            run, moved[kind.name] = _decided(run, kind, since, keep_within)
            run.keep()
            if run.keeps(kind):
                trained_on[kind.name] = since
            # Before the stage is there: whoever goes on from it finds what it was trained on.
            write_inputs(run.path, trained_on)
            schedule.train([(run, [kind])], log)
    schedule.train(_jobs(run, own, beside), log)
    kept = {} if run.start is None else run.start.kept
    about = {
        "from": str(earlier.path.resolve()),
        "joined": growth.as_dict(),
        "columns": raw.columns,
        "notes": list(raw.notes),
        "skipped": raw.skipped,
        "skipped_lines": raw.skipped_lines,
        "keep_within": keep_within,
        "moved": moved,
        "kept": dict(kept),
    }
    write_json(run.path / RECORD, about)
    return Updated(run, growth, moved, kept)


def _trained(earlier: Run) -> tuple[list[StageKind], list[str]]:
    """What the earlier run has: stages of its own, and systems beside."""
    own = [kind for kind in allmrec_stages(earlier.config) if earlier.has(kind)]
    beside, _ = trained_systems(earlier)
    if not own and not beside:
        raise ConfigError(
            f"Nothing is trained in {earlier.path}, so there is nothing to go on from: allmrec train {earlier.path}"
        )
    return own, beside


def _jobs(run: Run, own: Sequence[StageKind], beside: Sequence[str]) -> list[schedule.Job]:
    jobs: list[schedule.Job] = [(run, own)] if own else []
    return [*jobs, *(job for job in (system_kind(name).job(run) for name in beside) if job[1])]


def _decided(run: R, kind: StageKind, since: Inputs, limit: float) -> tuple[R, float]:
    """The run with a stage kept or not, and how far its inputs moved since they were trained on."""
    of_items, of_users = since.moved(run, kind)
    moved = max(of_items, of_users)
    what = "joint vectors" if kind is TUNE and run.config.tune.items == "joint" else "vectors"
    how = f"{what} of known items moved by {of_items:.4f} and vectors of known users by {of_users:.4f} since it was trained"
    reason = "" if moved > limit else f"{how} (mean cosine distance), at most {limit:g} is allowed"
    return with_kept(run, kind, reason), moved


def _inputs(earlier: Run, kind: StageKind, log: Log) -> Inputs:
    """What a stage of the earlier run was trained on, which is that run's own only where it was trained there."""
    if not earlier.keeps(kind):
        return Inputs.of(earlier, kind)
    kept = read_inputs(earlier.path, [kind.name])
    if not kept:
        log(
            f"{kind.name}: {earlier.path} keeps it from a run before and has no {INPUTS}, so movement is measured from {earlier.path}"
        )
        return Inputs.of(earlier, kind)
    return kept[kind.name]


def _once(log: Log) -> Log:
    """Leaves out that a stage is there already where this call has spoken of it before."""
    said: set[str] = set()

    def logged(line: str) -> None:
        stage, _, text = line.partition(": ")
        if stage not in said or not text.startswith("there already"):
            log(line)
        said.add(stage)

    return logged


def _joined(data: InteractionDataset, growth: Growth) -> str:
    """What came to the data, in words."""
    came = f"{growth.interactions:,} new interactions, {growth.users:,} new users, {growth.items:,} new items"
    now = f"{data.n_users:,} users, {data.n_items:,} items, {data.n_interactions:,} interactions"
    more = {
        "interactions were there already": growth.known,
        "interactions are below the rating that the data was prepared with": growth.low,
        "interactions are repeats, which the data was prepared without": growth.repeats,
        "interactions came late, before others of their user": growth.late,
        "known items have other texts": growth.texts,
        "items that nobody interacted with are left out, as when the data was prepared": growth.unmet,
        "new items have no title": growth.untitled,
    }
    return "\n".join(
        [f"{came}; the data has now {now}", *(f"  {count:,} {what}" for what, count in more.items() if count)]
    )
