"""Whether a run's data has what its configuration asks for, found before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int64

from allmrec.core.errors import DataError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.negatives import Room, room_for_negatives
from allmrec.data.splitting import Split
from allmrec.pipeline.run import Run, StageKind

__all__ = ["check_data", "data_notes"]

# Whose negatives avoid what.
Who = Callable[[], tuple[InteractionDataset, Int64[np.ndarray, " users"]]]

# Fields that ask for negatives or candidates, by the last part of their name, and what counts beside the negatives.
_FIELDS = {"validation_negatives": 0, "negatives": 0, "candidates": 1}


def check_data(run: Run, kinds: Sequence[StageKind]) -> None:
    """Refuse data that cannot train some of the stages; all fields that cannot be had are named at once.

    Raises:
        DataError: one line for each field, with what was found and what helps.
    """
    problems: list[str] = []
    for name, _, room in _rooms(run, kinds):
        try:
            room()
        except DataError as error:
            problems.append(f"{name}: {error}")
    split = run.split
    if any(kind.seeded for kind in kinds) and problems == [] and not np.any(split.train_end > 1):
        longest = int(split.prefix_end.max(initial=0))
        problems.append(
            f"held_out_targets: no user has two training items (the longest training history has {longest}), so there is "
            "no order to learn. It takes users with four interactions."
        )
    if problems:
        names = ", ".join(dict.fromkeys(problem.partition(":")[0] for problem in problems))
        raise DataError(
            f"{run.dataset.n_users:,} users and {run.dataset.n_items:,} items cannot give what {names} need:"
            + "".join(f"\n  {problem}" for problem in problems)
        )


def data_notes(run: Run, kinds: Sequence[StageKind]) -> list[str]:
    """What will be smaller than the configuration asks for because the data is small; nothing where nothing is."""
    split, fewer, left_out = run.split, {}, 0
    for name, own, room in _rooms(run, kinds):
        found = room()
        if found.n < found.wanted:
            fewer[name] = f"{name} {found.n + own} (asked for: {found.wanted + own})"
        left_out = max(left_out, found.left_out)
    notes = []
    if fewer:
        notes.append(
            f"The catalogue has {run.dataset.n_items:,} items, so there are fewer: {', '.join(fewer.values())}."
        )
    if left_out:
        one = left_out == 1
        who = "1 user leaves" if one else f"{left_out:,} users leave"
        notes.append(
            f"{who} too few unseen items for negatives and {'is' if one else 'are'} left out where they are drawn."
        )
    if split.held_out_fails:
        notes.append(
            "No history is long enough to withhold a target from (held_out_targets), so stage 2 learns from each user's last "
            "training item, which the CF model has seen."
        )
    return notes


def _rooms(run: Run, kinds: Sequence[StageKind]) -> Iterator[tuple[str, int, Callable[[], Room]]]:
    """Each field that asks for negatives: its name, what it counts beside them, and how many there are."""
    split = run.split
    asked: dict[str, tuple[int, int, Who]] = {}
    for kind in kinds:
        for path, wanted in _sizes(kind.settings(run.config)):
            last = path.rpartition(".")[2]
            own = _FIELDS[last]
            who = _trained(split) if last == "candidates" else _validated(split)
            asked.setdefault(_name(kind, path), (wanted, own, who))
    if asked:
        asked.setdefault("evaluation.candidates", (run.config.evaluation.candidates, 1, _tested(split)))
    for name, (wanted, own, who) in asked.items():
        yield name, own, partial(_room, who, wanted - own)


def _room(who: Who, wanted: int) -> Room:
    return room_for_negatives(*who(), wanted)


def _sizes(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            # A loss draws its negatives with replacement, so they never run out.
            if name != "objective":
                yield from _sizes(value, f"{path}{name}.")
        elif name in _FIELDS and type(value) is int:
            yield f"{path}{name}", value


def _name(kind: StageKind, path: str) -> str:
    """The field as `--set` takes it."""
    if kind.system:
        return f"systems.{kind.system}.{path}"
    own = {"reference": "pretrain"}.get(kind.name, kind.name)
    return path if path.startswith(f"{own}.") else f"{own}.{path}"


def _validated(split: Split) -> Who:
    return lambda: (split.dataset, _some(split.validated(), "validation"))


def _tested(split: Split) -> Who:
    return lambda: (split.dataset, _some(np.flatnonzero(split.test).astype(np.int64), "test"))


def _trained(split: Split) -> Who:
    return lambda: (split.training_part(), np.flatnonzero(split.prefix_end > 1).astype(np.int64))


def _some(users: Int64[np.ndarray, " users"], part: str) -> Int64[np.ndarray, " users"]:
    if not len(users):
        raise DataError(f"No user has a {part} item, which takes three interactions. Use more data, or a lower --core.")
    return users
