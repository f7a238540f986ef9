"""Which events the training data does not hold yet: those of a state that outlived the training it was exported for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from allmrec.data.interactions import InteractionDataset
from allmrec.serve.state import Event

__all__ = ["untrained_events"]


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
