"""Cells: what a plan comes to, one system on one data set in one scenario with one seed, and what decides its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.core.hashing import content_hash
from allmrec.core.places import with_whole_places
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.plan import BASE, Plan, VariantConfig
from allmrec.experiments.scenario_config import CrossDomainConfig, ScenarioConfig
from allmrec.experiments.scenarios import training_data
from allmrec.pipeline.run import Run
from allmrec.pipeline.schedule import in_order
from allmrec.recipes.config import RunConfig, single_changes
from allmrec.recipes.files import load_recipe
from allmrec.store.stages import Stage
from allmrec.systems.kinds import stages_of
from allmrec.systems.registry import checked_settings, system_kind

__all__ = ["Cell", "Prepared", "cell_config", "cells_of", "needed_stages", "other_data", "variant_of"]

# A change that makes results of before differ raises it.
_FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One system on one data set, in one scenario, with one seed and one variant of the recipe."""

    data: str
    scenario: str
    seed: int
    variant: str
    system: str

    @property
    def id(self) -> str:
        """Its name among the files."""
        return f"{self.data}.{self.scenario}.{self.seed}.{self.variant}.{self.system}"

    @property
    def row(self) -> str:
        """The row that it belongs to, as plans name it."""
        return self.system if self.variant == BASE else f"{self.variant}/{self.system}"

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.row} on {self.data}, {self.scenario}, seed {self.seed}"


def cells_of(plan: Plan) -> list[Cell]:
    """All cells, those of one data set, scenario and seed behind one another."""
    return [
        Cell(data, scenario, seed, variant, system)
        for data in plan.data
        for scenario, config in plan.scenarios.items()
        if not isinstance(config, CrossDomainConfig) or other_data(plan, data, config) is not None
        for seed in plan.seeds
        for variant, system in plan.asked
        if seed in plan.seeds_for(system)
    ]


def other_data(plan: Plan, data: str, config: ScenarioConfig) -> str | None:
    """Of a cross-domain scenario, which data set is asked about by what is trained on `data`; none: none is."""
    if not isinstance(config, CrossDomainConfig):
        return None
    if config.to is not None:
        return None if config.to == data else config.to
    names = list(plan.data)
    behind = names.index(data) + 1
    return names[behind] if behind < len(names) else None


def cell_config(plan: Plan, cell: Cell) -> RunConfig:
    """The configuration of a cell's run: recipe, then changes of the plan, of the data set and of the variant.

    Raises:
        ConfigError: no such recipe or field, or a value that does not fit.
    """
    data = plan.data[cell.data]
    changes = {
        name: value
        for given in (plan.changes, data.changes, variant_of(plan, cell).changes)
        for name, value in single_changes(given).items()
    }
    changes |= {"seed": cell.seed, "evaluation.candidates": plan.candidates}
    try:
        return with_whole_places(checked_settings(load_recipe(data.recipe or plan.recipe, changes)))
    except ConfigError as error:
        raise ConfigError(f"{cell.words}: {error}") from None


def needed_stages(run: Run, system: str) -> dict[str, Stage]:
    """All stages that are trained for a system, by their keys, parents first."""
    of, kinds = system_kind(system).job(run)
    stages = [of.stage(kind) for kind in in_order(of.config, kinds)]
    return {stage.key: stage for stage in stages}


class Prepared:
    """A plan with its data at hand: tells each cell's key and stages.

    Args:
        plan: the plan.
        datasets: the data by name.
    """

    def __init__(self, plan: Plan, datasets: dict[str, InteractionDataset]) -> None:
        self.plan, self.datasets = plan, datasets
        self._trained: dict[tuple[str, str, int, bool], InteractionDataset] = {}

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells."""
        return cells_of(self.plan)

    def draft(self, cell: Cell) -> Run:
        """The run of a cell with nothing on disk, to ask for keys.

        Raises:
            ConfigError, DataError: the cell cannot be; the message names it.
        """
        return Run(Path("nowhere"), self._train(cell), cell_config(self.plan, cell), "cpu")

    def _train(self, cell: Cell) -> InteractionDataset:
        shuffled = variant_of(self.plan, cell).shuffled_training
        where = (cell.data, cell.scenario, cell.seed, shuffled)
        if where not in self._trained:
            try:
                found = training_data(self.plan.scenarios[cell.scenario], self.datasets[cell.data], cell.seed, shuffled)
            except AllmrecError as error:
                raise type(error)(f"{cell.words}: {error}") from None
            self._trained[where] = found
        return self._trained[where]

    def stages(self, cell: Cell) -> set[str]:
        """Keys of the stages that a cell needs."""
        try:
            return set(needed_stages(self.draft(cell), cell.system))
        except ConfigError as error:
            raise ConfigError(f"{cell.words}: {error}") from None

    def key(self, cell: Cell) -> str:
        """A hash over everything that decides a cell's result but versions and device; equal keys, equal results."""
        run, plan, kind = self.draft(cell), self.plan, system_kind(cell.system)
        scenario = plan.scenarios[cell.scenario]
        target = other_data(plan, cell.data, scenario)
        parts: dict[str, Any] = {
            "format": _FORMAT,
            "system": cell.system,
            "stages": [stage.key for stage in stages_of(run, kind)],
            "scenario": scenario.model_dump(mode="json"),
            "data": [self.datasets[name].content_hash for name in (cell.data, target) if name is not None],
            "asked": [plan.ask, plan.users, plan.limit(cell.system, kind.prompted), plan.candidates],
            "settings": {} if kind.settings is None else kind.settings.of(run.config).model_dump(mode="json"),
            "rest": _deciding(run.config, kind.prompted or plan.ask != "candidates"),
        }
        if not parts["stages"]:
            # Keys of stages tell what they are trained on, and with which seed; of a system without any this does.
            train, seed = self._train(cell).content_hash, cell.seed
            parts |= {"train": train} if train != self.datasets[cell.data].content_hash else {}
            parts |= {"seed": seed} if plan.ask == "catalogue" else {}  # ties of a whole catalogue are broken by it
        # Only where they are wanted, so that keys of before stay.
        variant = variant_of(plan, cell)
        wishes = {
            "order": plan.order_test,
            "shuffled": variant.shuffled_training,
            "exchanged": variant.exchanged_vectors,
        }
        parts |= {name: True for name, wanted in wishes.items() if wanted}
        return content_hash(json.dumps(parts, sort_keys=True))


def variant_of(plan: Plan, cell: Cell) -> VariantConfig:
    """The variant of a cell; the one that changes nothing has no entry in a plan."""
    return plan.variants.get(cell.variant, VariantConfig())


def _deciding(config: RunConfig, prompted: bool) -> dict[str, Any]:
    """What of a configuration decides how a trained system answers, beside its stages and its own settings."""
    values = config.model_dump(mode="json")
    kept = ["item_text", "encoder", "held_out_targets", "held_out_users"]
    if prompted:
        kept += ["tune", "answer", "llm"]
    return {name: values[name] for name in kept} | {"backbone": config.pretrain.backbone}
