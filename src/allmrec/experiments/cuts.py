"""What an experiment left out to save time, in words: rows, and fewer users, samples, epochs. Each cut follows a rule that is said here.

What a stage trained on is read from the cell's own settings when a report is made, so cells of before tell it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from allmrec.core.config import parse_config
from allmrec.core.errors import AllmrecError
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.cells import needed_stages
from allmrec.experiments.plan import Plan
from allmrec.experiments.results import CellResult
from allmrec.experiments.scenario_config import ColdItemsConfig, FewShotConfig, ScenarioConfig, StandardConfig
from allmrec.experiments.tables import Section
from allmrec.pipeline.run import Run
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe

__all__ = ["TrainedOn", "cuts_of", "fewer_epochs", "stage_limits"]

_SAMPLES = {
    "samples_per_epoch": "{:,} samples drawn anew each epoch",
    "users": "a sample of {:,} users trains it",
    "validation_users": "validated on {:,} users at the most",
}


@dataclass(frozen=True)
class TrainedOn:
    """The size of the data that stages trained on; of cells that did not keep it, what it is at the least."""

    users: int
    interactions: int


def cuts_of(plan: Plan, section: Section) -> list[str]:
    """Every cut of a section of a plan, a sentence each."""
    return [*_rows(plan), *_users(section), *_seeds(plan, section), *_samples(plan, section)]


def stage_limits(settings: Mapping[str, Any], on: TrainedOn) -> dict[str, int]:
    """Fields of a stage's settings that leave out samples or users of the data that it trains on, with their values.

    Args:
        settings: of any stage; what it shares with other stages lies in parts of it.
        on: the data that it trains on.
    """
    found: dict[str, int] = {}
    for part in _parts(settings):
        every = "all" in (part.get("positions"), part.get("windows"))
        most = dict.fromkeys(_SAMPLES, on.users) | {"samples_per_epoch": on.interactions if every else on.users}
        for name in _SAMPLES:
            value = part.get(name)
            if isinstance(value, int) and value < most[name]:
                found[name] = value
    return found


def fewer_epochs(settings: Mapping[str, Any], *usual: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Which trainings of a stage have fewer epochs than usual: for each, its own and the usual number.

    Args:
        settings: of a stage.
        usual: of the same stage elsewhere, such as in the recipe; the most counts.
    """
    own, others = _epochs(settings), [_epochs(one) for one in usual]
    most = {name: max((other[name] for other in others if name in other), default=0) for name in own}
    return {name: (count, most[name]) for name, count in own.items() if count < most[name]}


def _parts(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Settings, and all settings within."""
    yield settings
    for value in settings.values():
        if isinstance(value, Mapping):
            yield from _parts(value)


def _epochs(settings: Mapping[str, Any], where: str = "") -> dict[str, int]:
    """Epochs by the part of the settings that they stand in."""
    found = {where: value} if isinstance(value := settings.get("epochs"), int) else {}
    for name, part in settings.items():
        if isinstance(part, Mapping):
            found |= _epochs(part, name)
    return found


def _rows(plan: Plan) -> Iterator[str]:
    """Rows that the plan leaves out."""
    if not plan.without:
        return
    left_out = {plan.row(name) for name in plan.without}
    still_open = [claim.text for claim in plan.claims if plan.rows_of(claim) & left_out]
    claims = f" So these claims stay open: {'; '.join(still_open)}." if still_open else ""
    yield f"Not measured, because of what they take: {', '.join(plan.without)}.{claims}"


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


def _samples(plan: Plan, section: Section) -> Iterator[str]:
    """Stages that train on fewer samples, or for fewer epochs, than they could, or are validated on fewer users; with their rows."""
    found: dict[str, dict[str, None]] = {}
    least = _at_least(plan.scenarios[section.scenario], [cell for row in section.rows for cell in row.cells])
    for row in section.rows:
        for stage, cuts in _of_stages(plan, row.cells[0], least).items():
            if cuts:
                found.setdefault(f"{stage.rpartition('.')[2]}: {'; '.join(cuts)}", {})[row.title] = None
    rows = len(section.rows)
    for cut, titles in found.items():
        yield f"{cut} ({'every row' if len(titles) == rows else ', '.join(titles)})."


def _of_stages(plan: Plan, cell: CellResult, least: TrainedOn) -> dict[str, list[str]]:
    """The cuts of each stage that a cell is made of; as they were kept where its settings cannot be read any more."""
    about, system = cell.about, cell.cell.system
    on = TrainedOn(**about["trained_on"]) if "trained_on" in about else least
    kept = about.get("limits", {})
    own = _settings(json.dumps(about["config"], sort_keys=True), system)
    recipe = plan.data[cell.cell.data].recipe or plan.recipe
    usual = _usual(recipe, system), _settings("{}", system)
    found: dict[str, list[str]] = {}
    for label in dict.fromkeys([*own, *kept]):
        limits = kept.get(label, {}) | stage_limits(own.get(label, {}), on)
        found[label] = [words.format(limits[name]) for name, words in _SAMPLES.items() if name in limits]
        fewer = fewer_epochs(own.get(label, {}), *(there[label] for there in usual if label in there))
        for part, (count, most) in fewer.items():
            of = "" if part in ("", "training") else f" of {part}"
            found[label].append(f"{count} epoch{'' if count == 1 else 's'}{of} in place of {most}, the default")
    return found


def _at_least(scenario: ScenarioConfig, cells: list[CellResult]) -> TrainedOn:
    """What cells trained on at the least, where they did not keep it: who was asked trains too, and kept limits were below it."""
    if isinstance(scenario, FewShotConfig):
        return TrainedOn(scenario.users, 3 * scenario.users)
    users = [0]
    if isinstance(scenario, StandardConfig | ColdItemsConfig):
        users += [int(cell.about.get("users_there", 0)) for cell in cells]
    for cell in cells:
        kept = cell.about.get("limits", {})
        users += [1 + limits["validation_users"] for limits in kept.values() if "validation_users" in limits]
        # Stage 2 has one sample a user here, so a number that was kept is below that of users.
        if (tune := kept.get("tune", {})) and cell.about["config"].get("tune", {}).get("positions") == "last":
            users.append(1 + tune.get("samples_per_epoch", 0))
    return TrainedOn(max(users), max(users))


@cache
def _usual(recipe: str, system: str) -> Mapping[str, Mapping[str, Any]]:
    """Settings of a system's stages as a recipe has them; none where the recipe is gone."""
    try:
        return _settings(load_recipe(recipe, {}).model_dump_json(), system)
    except AllmrecError:
        return {}


@cache
def _settings(config: str, system: str) -> Mapping[str, Mapping[str, Any]]:
    """Settings of all stages that a system needs, by label, which do not depend on the data; none where they cannot be read.

    Args:
        config: of the run, as JSON.
        system: by name.
    """
    some = InteractionDataset.from_sequences({"user": ["a", "b", "c"]}, titles={})
    try:
        run = Run(Path("nowhere"), some, parse_config(RunConfig, json.loads(config), "a cell"), "cpu")
        return {stage.label: stage.config for stage in needed_stages(run, system).values()}
    except AllmrecError:
        return {}
