"""What earlier formats of a run's folder lacked, so that old runs stay readable and current; knows no stage's inside.

A format is a number in `run.json` and in each stage's manifest. When a config gains a field, the format grows by one and
the field is entered in `ADDED` with the value that says what was done before there was a choice. Then

- an old `run.json` is read with those values, whatever the fields' defaults are today (`upgraded`), and
- a stage of today is current where an old one stands, if it has those values: without the fields its config is the one
  that the old format hashed (`downgraded`).

Nothing is ever rewritten, so the version that wrote a run can still read it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ADDED", "FORMAT_VERSION", "Added", "downgraded", "upgraded"]

FORMAT_VERSION = 5


@dataclass(frozen=True)
class Added:
    """A field that a format brought.

    Attributes:
        path: its place in `run.json`'s config, such as `tune.text_share`. A whole group counts as one field; what its
            value leaves out gets today's defaults.
        value: what was done before, as JSON.
        backbone: the CF model that has it, for fields under `pretrain.model`.
    """

    path: str
    value: Any
    backbone: str | None = None


ADDED: Mapping[int, tuple[Added, ...]] = {
    2: (
        Added("retrieve", {"by": "auto"}),
        Added("evaluation.cold_below", None),
        Added("evaluation.proposals", 20),
        Added("evaluation.cold_users", 200),
        # Before these there was neither decoding nor explaining, so nothing is to be kept as it was.
        Added("evaluation.generate", {}),
        Added("explain", {}),
        Added("llm_precision", "auto"),
    ),
    3: (
        Added(
            "pretrain.model.objective",
            {"loss": "binary_cross_entropy", "negatives": None, "regularisation": 1.0},
            backbone="sasrec",
        ),
        Added("tune.items", "joint"),
        Added("tune.prompt.slots", "counts"),
        Added("tune.prompt.pointer.prior", "cf"),
        # There were no other systems, so nothing is to be kept as it was.
        Added("systems", {}),
    ),
    4: (
        Added("held_out_users", None),
        Added("systems.tallrec_validation_users", None),
    ),
    5: (Added("tune.prompt.pointer.likeness", "joint"),),
}


def upgraded(config: Mapping[str, Any], found: int) -> dict[str, Any]:
    """A run's config of an earlier format with the fields that came later.

    Args:
        config: as `run.json` holds it.
        found: the format that wrote it.
    """
    upgraded: dict[str, Any] = copy.deepcopy(dict(config))
    for added in _since(found):
        *parents, last = added.path.split(".")
        place: Any = upgraded
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        # Where the group itself is missing it is not ours to make up: parsing the config will say so.
        if isinstance(place, dict) and _concerns(added, upgraded.get("pretrain")):
            place.setdefault(last, copy.deepcopy(added.value))
    return upgraded


def downgraded(config: Mapping[str, Any], section: str, wanted: int) -> dict[str, Any] | None:
    """A stage's config as an earlier format would have written it; none where that format could not say it.

    Args:
        config: the stage's settings of today.
        section: where they stand in the run's config, such as `tune`; empty if they hold whole sections of it.
        wanted: the earlier format.
    """
    older: dict[str, Any] = copy.deepcopy(dict(config))
    start = f"{section}." if section else ""
    for added in _since(wanted):
        if not added.path.startswith(start) or not _concerns(added, older):
            continue
        *parents, last = added.path.removeprefix(start).split(".")
        place: Any = older
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            continue
        if place.pop(last) != added.value:
            return None
    return older


def _since(found: int) -> list[Added]:
    """Everything that came after a format."""
    return [added for number in sorted(ADDED) if number > found for added in ADDED[number]]


def _concerns(added: Added, pretrain: Any) -> bool:
    """Whether a field belongs to the CF model at hand."""
    return added.backbone is None or (isinstance(pretrain, Mapping) and pretrain.get("backbone") == added.backbone)
