"""A user's history of training data and of events, of which a state that outlived an export holds some that were trained on already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from allmrec.data.interactions import InteractionDataset
from allmrec.serve.state import Event

__all__ = ["Step", "history_of", "untrained_events"]


class Step(NamedTuple):
    """One interaction of a history; its time in Unix seconds, where it has one."""

    item_id: str
    time: int | None
    source: Literal["training", "event"]


def history_of(data: InteractionDataset, user: str, events: Sequence[Event]) -> list[Step]:
    """A user's history, oldest first; an event that comes late stands where its time has it, behind all where the data has no times.

    Args:
        data: of the run.
        user: who.
        events: theirs, oldest first.
    """
    number, steps = data.users.get(user), list[Step]()
    times = None if number is None else data.sequence_times(number)
    if number is not None:
        ids = [data.items.id(int(item)) for item in data.sequence(number)]
        whens: Sequence[int | None] = [None] * len(ids) if times is None else times.tolist()
        steps = [Step(item, when, "training") for item, when in zip(ids, whens, strict=True)]
    own = [Step(event.item_id, event.time, "event") for event in untrained_events(data, user, events)]
    if times is None or not own:
        return steps + own
    return sorted(steps + own, key=lambda step: step.time or 0)  # stable: of the same second, what was trained on first


def untrained_events(data: InteractionDataset, user: str, events: Sequence[Event]) -> list[Event]:
    """A user's events without those that are part of the training data.

    Where the data has times, an event is part of it if the user's sequence holds its item at its second; as often as it stands there. Where
    it has none, an export has put events behind what there was before, in their order: then the longest beginning of the events with
    which the sequence ends is part of it.

    Args:
        data: of the run.
        user: whose events they are.
        events: oldest first.
    """
    number = data.users.get(user)
    if number is None or not events:
        return list(events)
    trained = [data.items.id(int(item)) for item in data.sequence(number)]
    times = data.sequence_times(number)
    if times is not None:
        held = Counter(zip(trained, times.tolist(), strict=True))
        left = []
        for event in events:
            if held[event.item_id, event.time] > 0:
                held[event.item_id, event.time] -= 1
            else:
                left.append(event)
        return left
    ids = [event.item_id for event in events]
    longest = next(n for n in range(min(len(ids), len(trained)), -1, -1) if ids[:n] == trained[len(trained) - n :])
    return list(events[longest:])
