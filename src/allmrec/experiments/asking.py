"""Asks a cell's system what its plan asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from allmrec.cf.registry import backbone_kind
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import CatalogueRecommender, evaluate_rankers, evaluate_recommenders
from allmrec.evaluation.rank_files import placed
from allmrec.experiments.answers import Ranks, Words
from allmrec.experiments.cells import Cell, variant_of
from allmrec.experiments.cross_domain import across
from allmrec.experiments.genres import ask_genres
from allmrec.experiments.plan import Plan
from allmrec.experiments.scenarios import Renumbered, RenumberedRecommender, Situation
from allmrec.pipeline.run import Run
from allmrec.systems.keeping import partial_results
from allmrec.systems.kinds import System
from allmrec.systems.recommending import open_recommender
from allmrec.systems.registry import open_systems

__all__ = ["Answered", "answered"]


@dataclass(frozen=True, eq=False)
class Answered:
    """What a system answered.

    Attributes:
        system: that was asked.
        found: of each user of the protocol.
        name: in tables.
        note: what a reader must know of it.
        users: how many were asked.
        seconds: that it took, once through; histories shuffled not counted.
    """

    system: System
    found: Ranks | Words
    name: str
    note: str
    users: int
    seconds: float


def answered(run: Run, plan: Plan, cell: Cell, place: Situation, target: InteractionDataset | None) -> Answered:
    """Ask a trained system.

    Args:
        run: the cell's, its stages trained.
        plan, cell: what is asked for.
        place: who is asked.
        target: of `cross-domain`, the data that is asked about.

    Raises:
        AllmrecError: the system cannot be asked.
    """
    if plan.ask == "genres":
        return _words(run, plan, cell, place)
    return _ranks(run, plan, cell, place, target)


def _words(run: Run, plan: Plan, cell: Cell, place: Situation) -> Answered:
    """Genres of items and of users."""
    (system,) = open_systems(run, [cell.system]).values()
    words, seconds = ask_genres(run, system, place.asking, place.known, variant_of(plan, cell).exchanged_vectors)
    return Answered(system, words, system.ranker.name, _note(system), len(words.of_users), seconds)


def _ranks(run: Run, plan: Plan, cell: Cell, place: Situation, target: InteractionDataset | None) -> Answered:
    """Ranks on the scenario's users."""
    asking, remarks = place.asking, []
    recommender: CatalogueRecommender | None = None
    if plan.ask == "catalogue":
        opened = open_recommender(run, cell.system, partial(print, flush=True))
        system, recommender = opened.system, opened.recommender
        remarks.append(f"retrieves from {run.dataset.n_items:,} items")
    elif target is None:
        (system,) = open_systems(run, [cell.system]).values()
    else:
        system = across(run, cell.system, target)
    limit, limits = plan.limit(cell.system, system.titles), {}
    name = (recommender or system.ranker).name
    if limit is not None and limit < len(asking.protocol):
        remarks.append(f"the first {limit} users")
        limits[name] = limit
    how: dict[str, Any] = {
        "reference": backbone_kind(run.config.pretrain.backbone).title,
        "order_test": plan.order_test,
        "notes": {name: lambda: _note(system, *remarks)},
        "kept": partial_results(run, asking.protocol, {name: system}, f"{plan.ask} {cell.scenario}"),
        "device": run.device,
    }
    if recommender is not None:
        asked = RenumberedRecommender(recommender, place.known)
        report = evaluate_recommenders([asked], asking.protocol, asking.split, limits, **how)
    else:
        ranker = Renumbered(system.ranker, place.known) if target is None else system.ranker
        report = evaluate_rankers([ranker], asking.protocol, asking.split, limits, **how)
    (found,) = report.systems
    ranks = placed(asking.protocol, found.users, found.ranks)
    shuffled = None if found.order is None else placed(asking.protocol, found.users, found.order.ranks)
    return Answered(system, Ranks(ranks, shuffled), found.name, found.note, found.n_users, found.seconds)


def _note(system: System, *more: str) -> str:
    own = system.note() if callable(system.note) else system.note
    return "; ".join(part for part in (own, *more) if part)
