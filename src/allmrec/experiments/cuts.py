"""What an experiment left out to save time, in words: fewer users, fewer samples. Each cut follows a rule that is said here."""

from __future__ import annotations

from collections.abc import Iterator

from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.plan import Plan
from allmrec.experiments.tables import Section
from allmrec.store.stages import Stage

__all__ = ["cuts_of", "stage_limits"]

_SAMPLES = {
    "samples_per_epoch": "{:,} samples drawn anew each epoch",
    "users": "a sample of {:,} users trains it",
    "validation_users": "validated on {:,} users at the most",
}


def cuts_of(plan: Plan, section: Section) -> list[str]:
    """Every cut of a section of a plan, a sentence each."""
    return [*_users(section), *_seeds(plan, section), *_samples(section)]


def stage_limits(stage: Stage, dataset: InteractionDataset) -> dict[str, int]:
    """Fields of a stage's settings that leave out samples or users of the data that it trains on, with their values.

    Args:
        stage: any.
        dataset: that it trains on.
    """
    every = "all" in (stage.config.get("positions"), stage.config.get("windows"))
    most = dict.fromkeys(_SAMPLES, dataset.n_users)
    most |= {"samples_per_epoch": dataset.n_interactions if every else dataset.n_users}
    values = {name: stage.config.get(name) for name in _SAMPLES}
    return {name: value for name, value in values.items() if isinstance(value, int) and value < most[name]}


def _users(section: Section) -> Iterator[str]:
    """Fewer users than there are, and rows that were asked about fewer still."""
    everybody = section.groups[0]
    counts = {row.title: int(row.users(everybody).sum()) for row in section.rows}
    most = max(counts.values())
    there = max((int(cell.about.get("users_there", 0)) for row in section.rows for cell in row.cells), default=0)
    if there > most:
        yield f"{most:,} of {there:,} users were asked: the first of a random order that is the same for every system and seed."
    for fewer in sorted(set(counts.values()) - {most}, reverse=True):
        names = ", ".join(title for title, count in counts.items() if count == fewer)
        yield f"{names}: the first {fewer:,} of these users, because they are slow to ask."


def _seeds(plan: Plan, section: Section) -> Iterator[str]:
    """Rows that are to have fewer seeds than others; and rows whose seeds are all one, as nothing of them is drawn."""
    wanted = {row.title: len(plan.seeds_for(plan.row(row.row)[1])) for row in section.rows}
    for fewer in sorted(set(wanted.values()) - {len(plan.seeds)}, reverse=True):
        names = ", ".join(title for title, count in wanted.items() if count == fewer)
        yield f"{names}: {fewer} of {len(plan.seeds)} seeds."
    same = [
        row.title for row in section.rows if len(row.cells) > 1 and len({one.about["key"] for one in row.cells}) == 1
    ]
    if same:
        yield f"{', '.join(same)}: the same with every seed, and measured once."


def _samples(section: Section) -> Iterator[str]:
    """Stages that train on fewer samples than there are, or are validated on fewer users; each with the rows made of it."""
    found: dict[str, dict[str, None]] = {}
    for row in section.rows:
        for stage, limits in row.cells[0].about.get("limits", {}).items():
            for field, value in limits.items():
                found.setdefault(f"{stage.rpartition('.')[2]}: {_SAMPLES[field].format(value)}", {})[row.title] = None
    rows = len(section.rows)
    for cut, titles in found.items():
        yield f"{cut} ({'every row' if len(titles) == rows else ', '.join(titles)})."
