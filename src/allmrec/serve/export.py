"""Writes what a server took up back as tables that `allmrec prepare table` reads, so that the next training knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from allmrec.core.artifacts import atomic_directory
from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.serve.state import Event, State, StoredItem
from allmrec.serve.untrained import untrained_events

__all__ = ["Exported", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        interactions, items: files for `allmrec prepare table`.
        from_data, from_events, added: how many of each; events that the data holds already are not counted.
        unknown: events whose item is neither in the data nor among those that were added; they are written too.
    """

    interactions: Path
    items: Path
    from_data: int
    from_events: int
    added: int
    unknown: int


def export(data: InteractionDataset, state: State, folder: Path) -> Exported:
    """Write interactions and items of a data set, and behind them those of a server's state.

    Args:
        data: of the run.
        state: events and items.
        folder: where to; an earlier export there is replaced.

    Raises:
        ConfigError: the folder holds something else.
        ServerError: the database cannot be read.
    """
    if folder.exists() and any(one.name not in ("interactions.parquet", "items.parquet") for one in folder.iterdir()):
        raise ConfigError(f"{folder} holds something else than an export; give another folder.")
    (stored, _, _) = state.items()
    # What an earlier export brought into the training is there already.
    events = [
        event
        for user, own in groupby(state.all_events(), key=attrgetter("user_id"))
        for event in untrained_events(data, user, list(own))
    ]
    new = [item for item in stored if item.item_id not in data.items]
    known = set(data.items) | {item.item_id for item in new}
    with atomic_directory(folder) as made:
        pq.write_table(_interactions(data, events), made / "interactions.parquet")
        pq.write_table(_items(data, new), made / "items.parquet")
    unknown = sum(event.item_id not in known for event in events)
    return Exported(
        folder / "interactions.parquet", folder / "items.parquet", data.n_interactions, len(events), len(new), unknown
    )


def _interactions(data: InteractionDataset, events: Sequence[Event]) -> pa.Table:
    users = np.asarray(data.users.ids, dtype=object)[data.user_of_interaction()].tolist()
    items = [data.items.id(int(number)) for number in data.item_numbers]
    columns: dict[str, pa.Array] = {
        "user_id": pa.array(users + [event.user_id for event in events], pa.large_string()),
        "item_id": pa.array(items + [event.item_id for event in events], pa.large_string()),
    }
    if data.times is not None:
        columns["timestamp"] = pa.array([*data.times.tolist(), *(event.time for event in events)], pa.int64())
    # The order among equal times, and all the order that there is where the data has no times.
    places = np.arange(data.n_interactions) - np.repeat(data.offsets[:-1], data.lengths)
    after = {name: int(length) for name, length in zip(data.users, data.lengths, strict=True)}
    columns["position"] = pa.array([*places.tolist(), *_places(events, after)], pa.int64())
    return pa.table(columns)


def _places(events: Sequence[Event], after: Mapping[str, int]) -> list[int]:
    counts = dict(after)
    found = []
    for event in events:
        found.append(counts.get(event.user_id, 0))
        counts[event.user_id] = found[-1] + 1
    return found


def _items(data: InteractionDataset, new: Sequence[StoredItem]) -> pa.Table:
    catalogue = data.catalogue
    return pa.table(
        {
            "item_id": pa.array([*data.items, *(item.item_id for item in new)], pa.large_string()),
            "title": pa.array([*catalogue.titles[1:], *(item.title for item in new)], pa.large_string()),
            "description": pa.array(
                [*catalogue.descriptions[1:], *(item.description for item in new)], pa.large_string()
            ),
            "categories": pa.array(
                [*map(list, catalogue.categories[1:]), *(list(item.categories) for item in new)],
                pa.large_list(pa.large_string()),
            ),
        }
    )
