"""A run on newer data that goes on from an earlier run: which stages can, and what they take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from allmrec.cf.continuing import EarlierWeights, earlier_numbers
from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError
from allmrec.pipeline.run import Run, StageKind
from allmrec.pipeline.start import Start, shape_hash

__all__ = ["continued", "earlier_run", "earlier_tensors", "earlier_weights", "training_of", "with_kept"]

# Share of the users with a validation item of whom the earlier model may have trained on what now validates or is held out. It
# chooses when a training stops, and so few do not move that; test items are never among them.
_TOLERATED = 0.01

R = TypeVar("R", bound=Run)
T = TypeVar("T", bound=Config)


def continued(run: R, earlier: Run, kinds: Sequence[StageKind]) -> R:
    """The run with its stages set to go on from those of an earlier run; nothing is read of these yet.

    A stage goes on where the earlier run has it, whole; the settings that its weights depend on are the same; every stage
    that it reads goes on too, since vectors of a CF model that is trained anew have nothing in common with the earlier
    ones; and the earlier one has not trained on what now tests, nor, but for 1 % of users, on what now validates or is held out.
    Those few are users of too few interactions to be validated before.

    Args:
        run: on the newer data.
        earlier: a run on earlier data; ids say which items and users are the same.
        kinds: stages to look at, parents first.

    Raises:
        ConfigError: the earlier run is a saved recommender, which has no interactions.
    """
    earlier.check_unpublished()
    keys: dict[str, str] = {}
    shapes: dict[str, str] = {}
    anew: dict[str, str] = {}
    despite: dict[str, str] = {}
    for kind in kinds:
        reason, knows = _why_anew(run, earlier, kind, anew)
        if reason:
            anew[kind.name] = reason
        elif kind.continuation is not None and (shape := kind.continuation.shape(run.config)) is not None:
            keys[kind.name], shapes[kind.name] = earlier.stage(kind).key, shape_hash(shape)
            if knows:
                despite[kind.name] = knows
    return replace(run, start=Start(str(earlier.path.resolve()), keys, shapes, anew, despite=despite))


def with_kept(run: R, kind: StageKind, reason: str) -> R:
    """The run with a stage that takes the earlier weights as they are, or does not.

    Args:
        run: one that `continued` gave.
        kind: a stage that goes on.
        reason: why it is not trained, in words; empty: it is trained.
    """
    if run.start is None:
        return run
    kept = {name: why for name, why in {**run.start.kept, kind.name: reason}.items() if why}
    return replace(run, start=replace(run.start, kept=kept))


def training_of(run: Run, kind: StageKind, training: T) -> T:
    """How a stage is trained: as its configuration says, or in no epoch where it is kept, so that it is validated only."""
    return training.model_copy(update={"epochs": 0}) if run.keeps(kind) else training


def _why_anew(run: Run, earlier: Run, kind: StageKind, anew: dict[str, str]) -> tuple[str, str]:
    """Why a stage cannot go on, empty where it can; and what it knows that it should not, where that is tolerated."""
    found = kind.continuation
    shape = None if found is None else found.shape(run.config)
    if found is None or shape is None:
        return ("nothing of it is trained" if found is not None else "it always is"), ""
    for parent in kind.parents(run.config):
        if parent.name in anew:
            return f"{parent.name}, which it reads, is another one", ""
    if not earlier.has(kind):
        return f"{earlier.path} has none that fits its own configuration", ""
    if earlier.folder.damaged(earlier.stage(kind)):
        return f"that of {earlier.path} is damaged", ""
    if found.shape(earlier.config) != shape:
        return "settings that its weights depend on have changed", ""
    if found.seen is None:
        return "", ""
    tested, others = _knowing_answers(run, earlier, found.seen(run), found.seen(earlier))
    validated = len(run.split.validated())
    if tested:
        return f"the earlier one trained on items of {tested:,} users that now test", ""
    if others > _TOLERATED * validated:
        share = f"more than {_TOLERATED:.0%} of the {validated:,} who validate"
        return f"the earlier one trained on items of {others:,} users that now validate or are held out, {share}", ""
    return "", f"it trained on what now validates or is held out of {others:,} of {validated:,} users" if others else ""


def _knowing_answers(
    run: Run, earlier: Run, seen: Int[np.ndarray, " users"], seen_then: Int[np.ndarray, " users_then"]
) -> tuple[int, int]:
    """How many users the earlier model trained on something of that now tests, and that now validates or is held out."""
    now, then = run.dataset, earlier.dataset
    users = earlier_numbers(now.users, then.users, -1)
    items = np.concatenate([[0], earlier_numbers(now.items, then.items, 0)])
    whose = np.repeat(users, now.lengths)
    position = np.arange(now.n_interactions) - np.repeat(now.offsets[:-1], now.lengths)
    held = position >= np.repeat(seen, now.lengths)
    last = position == np.repeat(now.lengths - 1, now.lengths)
    numbers = items[now.item_numbers]
    able = (whose >= 0) & (numbers > 0)
    place = np.arange(then.n_interactions) - np.repeat(then.offsets[:-1], then.lengths)
    trained = place < np.repeat(seen_then, then.lengths)

    def keys(of: Int64[np.ndarray, " pairs"], what: Int[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
        found: Int64[np.ndarray, " pairs"] = of * (then.n_items + 1) + what
        return found

    before = keys(np.repeat(np.arange(then.n_users), then.lengths)[trained], then.item_numbers[trained])
    free = keys(whose[~held & able], numbers[~held & able])

    def knowing(asked: Bool[np.ndarray, " pairs"]) -> int:
        kept_from = keys(whose[asked & able], numbers[asked & able])
        # Where somebody has an item twice, the first time may train and the second test.
        known = kept_from[np.isin(kept_from, before) & ~np.isin(kept_from, free)]
        return len(np.unique(known // (then.n_items + 1)))

    return knowing(held & last), knowing(held & ~last)


def earlier_run(run: Run, kind: StageKind) -> Run | None:
    """The run whose stage a stage of this run goes on from; None where it is trained anew.

    Raises:
        ArtifactError: that run is gone, or the stage has been trained again since.
    """
    key = run.start_key(kind)
    if key is None or run.start is None:
        return None
    path = Path(run.start.run)
    if not (path / "run.json").is_file():
        raise ArtifactError(
            f"{run.path} goes on from {path}, which is no run any more. Put it back, or train into a new folder."
        )
    found = Run.open(path, run.device)
    if found.stage(kind).key != key or not found.has(kind):
        raise ArtifactError(
            f"{run.path} goes on from the stage {kind.name!r} of {path}, which has been trained again since. Train with "
            f"--from {path} to go on from what is there now."
        )
    return found


def earlier_tensors(run: Run, kind: StageKind) -> dict[str, Tensor] | None:
    """The weights that a stage goes on from; None where it is trained anew.

    Raises:
        ArtifactError: they are gone, damaged, or have been trained again since.
    """
    earlier = earlier_run(run, kind)
    return None if earlier is None else earlier.tensors(kind)


def earlier_weights(run: Run, kind: StageKind) -> EarlierWeights | None:
    """The same with the earlier numbers of items and users.

    Raises:
        ArtifactError: they are gone, damaged, or have been trained again since.
    """
    earlier = earlier_run(run, kind)
    if earlier is None:
        return None
    items = np.concatenate([[0], earlier_numbers(run.dataset.items, earlier.dataset.items, 0)])
    users = earlier_numbers(run.dataset.users, earlier.dataset.users, -1)
    return EarlierWeights(earlier.tensors(kind), items, users)
