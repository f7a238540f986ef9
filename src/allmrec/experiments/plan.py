"""A plan: data sets, systems, scenarios, seeds and changes of settings, read from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError
from allmrec.experiments.answers import metric_names
from allmrec.experiments.plan_data import DataConfig, leading_from, recipe_path, whole
from allmrec.experiments.scenario_config import ALL, CrossDomainConfig, ScenarioConfig, StandardConfig, groups_of
from allmrec.recipes.config import single_changes
from allmrec.systems.registry import system_kind

__all__ = [
    "BASE",
    "NAME",
    "Claim",
    "PaperRows",
    "Plan",
    "VariantConfig",
    "load_plan",
    "only",
    "plan_names",
    "plan_text",
]

BASE = "base"
"""The variant that changes nothing."""

# Names become names of files.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What names of data sets, scenarios and variants are made of."""


class VariantConfig(Config):
    """The plan's recipe with some fields changed."""

    changes: dict[str, Any] = Field({}, description="Fields and their values.")
    systems: tuple[str, ...] | None = Field(None, description="Systems asked of it; none: the plan's.")
    title: str = Field("", description="What stands behind a system's name in tables; empty: the variant's name.")
    shuffled_training: bool = Field(
        False, description="Train on histories in random order; validation and test items stay in their places."
    )
    exchanged_vectors: bool = Field(
        False,
        description="Ask with every slot carrying what belongs to another user or item, the words as they are; for plans that ask "
        "for genres.",
    )


class Claim(Config):
    """A comparison that the paper claims, or you do.

    Rows are named `SYSTEM`, or `VARIANT/SYSTEM`.
    """

    text: str = Field(description="The claim in words.")
    whose: Literal["paper", "ours"] = Field("ours", description="Who claims it: the paper, or the plan's author.")
    better: str = Field(description="The row that is said to be better.")
    than: str | None = Field(None, description="The row that it is compared with; none: the figure itself with 0.")
    group: str = Field(ALL, description="Users whom it is about.")
    scenario: str | None = Field(None, description="Scenario that it is about; none: every one.")
    metric: str = Field("Hit@1", description="Figure that it is about.")
    says: Literal["above", "equal", "not above"] = Field(
        "above",
        description="above: better than `times` the other. equal: no further away than `margin`. not above: better by no more than "
        "`margin`.",
    )
    times: float = Field(1.0, gt=0, description="How many times as good.")
    margin: float = Field(0.02, gt=0, description="What still counts as equal.")


class PaperRows(Config):
    """Where the paper's figures for a plan's rows are."""

    table: str = Field(description="Table of `paper.json`.")
    rows: dict[str, str] = Field(description="The paper's name of each row.")
    scenarios: dict[str, str] = Field({}, description="The paper's group for a scenario of this plan, e.g. K=256.")


class Plan(Config):
    """What is measured. Cells are all combinations of data sets, scenarios, seeds, and systems of variants."""

    title: str = Field(description="Heading of the report.")
    about: str = Field("", description="What it answers, in a sentence or two.")
    recipe: str = Field("cpu", description="A recipe's name, or a TOML file from the plan's own folder.")
    changes: dict[str, Any] = Field({}, description="Changed fields of the recipe.")
    systems: tuple[str, ...] = Field((), description="What is trained and asked, with the recipe as it is.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, description="Seeds of training.")
    data: dict[str, DataConfig] = Field({}, description="Data sets by name.")
    scenarios: dict[str, ScenarioConfig] = Field({"standard": StandardConfig()}, min_length=1, description="By name.")
    variants: dict[str, VariantConfig] = Field({}, description="By name.")
    ask: Literal["candidates", "catalogue", "genres"] = Field(
        "candidates",
        description="What systems are asked for: the target's place among candidates, or in the whole catalogue; or, in words, the "
        "genres of each test item and of what each user likes.",
    )
    order_test: bool = Field(
        False, description="Ask again with each user's history shuffled, which takes as long again."
    )
    users: int | None = Field(1000, ge=1, description="Test users, drawn once for all cells; none: all.")
    title_users: int | None = Field(
        None, ge=1, description="Fewer for systems that score titles, which is slow; none: the same."
    )
    users_of: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="Fewer users for some systems, by name, such as `llm-only`; others as above."
    )
    seeds_of: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="The first so many seeds for some systems, by name; others all."
    )
    without: tuple[str, ...] = Field(
        (), description="Rows that are not measured, because of what they take; the report names them."
    )
    candidates: int = Field(20, ge=2, description="Of each user, the target included.")
    reference: str = Field("backbone", description="The row that others are compared with.")
    paper: PaperRows | None = None
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in (*self.data, *self.scenarios, *self.variants):
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} names something; expected letters, digits, '-' and '_'")
        if BASE in self.variants:
            raise ValueError(f"a variant is called {BASE!r}, which is the recipe as it is")
        if not self.rows:
            raise ValueError("no systems are named; expected `systems`, or variants with systems")
        if idle := [name for name in self.variants if name not in {variant for variant, _ in self.rows}]:
            raise ValueError(f"no system is asked of the variant {', '.join(idle)}; give it systems, or leave it out")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds are {', '.join(map(str, self.seeds))}; expected each once, or intervals would count it twice"
            )
        for system in (*(system for _, system in self.rows), *self.users_of, *self.seeds_of):
            try:
                system_kind(system)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        if misnamed := [repr(name) for name in self.without if self.row(name) not in self.rows]:
            raise ValueError(f"`without` names {', '.join(misnamed)}; the plan has {', '.join(self.row_names)}")
        if not self.asked:
            raise ValueError("`without` leaves no row to measure")
        rows = {name for claim in self.claims for name in (claim.better, claim.than) if name is not None}
        rows |= set(self.paper.rows if self.paper else ())
        if unknown := sorted(row for row in rows if self.row(row) not in self.rows):
            raise ValueError(f"claims or the paper's rows are of {', '.join(unknown)}, which the plan does not ask")
        known = metric_names(self.ask, self.order_test)
        if strange := sorted({claim.metric for claim in self.claims} - set(known)):
            raise ValueError(f"claims are about {', '.join(strange)}; figures of this plan are {', '.join(known)}")
        for claim in self.claims:
            scenarios = [name for name in self.scenarios if claim.scenario in (None, name)]
            if not scenarios:
                raise ValueError(
                    f"a claim is of scenario {claim.scenario!r}; this plan has {', '.join(self.scenarios)}"
                )
            groups = list(dict.fromkeys(group for name in scenarios for group in groups_of(self.scenarios[name])))
            if claim.group not in groups:
                raise ValueError(f"a claim is of the group {claim.group!r}; its scenario has {', '.join(groups)}")
        self._check_ask()
        return self

    def _check_ask(self) -> None:
        """Refuse what does not go with what is asked for."""
        words = self.ask == "genres"
        if words and self.order_test:
            raise ValueError("order_test is for ranks; a plan that asks for genres has none")
        if self.ask != "candidates" and any(isinstance(kind, CrossDomainConfig) for kind in self.scenarios.values()):
            raise ValueError(f"across domains systems rank candidates alone, and the plan asks for {self.ask!r}")
        if exchanged := [name for name, variant in self.variants.items() if variant.exchanged_vectors and not words]:
            raise ValueError(f"vectors of {', '.join(exchanged)} are exchanged, which is for plans that ask for genres")

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """Variants and systems that are measured, in order."""
        left_out = {self.row(name) for name in self.without}
        return tuple(row for row in self.rows if row not in left_out)

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Variants and systems, those that are not measured too, in order."""
        found = [(BASE, system) for system in self.systems]
        for name, variant in self.variants.items():
            found += [(name, system) for system in (self.systems if variant.systems is None else variant.systems)]
        return tuple(dict.fromkeys(found))

    @property
    def row_names(self) -> tuple[str, ...]:
        """What `rows` are called: SYSTEM, or VARIANT/SYSTEM."""
        return tuple(system if variant == BASE else f"{variant}/{system}" for variant, system in self.rows)

    def limit(self, system: str, titles: bool) -> int | None:
        """The first so many of the plan's users are asked; None: all of them.

        Args:
            system: by name.
            titles: it scores titles.
        """
        return self.users_of.get(system, self.title_users if titles else None)

    def seeds_for(self, system: str) -> tuple[int, ...]:
        """With which seeds a system is trained and asked."""
        return tuple(self.seeds)[: self.seeds_of.get(system)]

    def row(self, name: str) -> tuple[str, str]:
        """The variant and the system that a row's name means."""
        variant, slash, system = name.rpartition("/")
        return (variant, system) if slash else (BASE, system)

    def rows_of(self, claim: Claim) -> set[tuple[str, str]]:
        """The rows that a claim is about."""
        return {self.row(name) for name in (claim.better, claim.than) if name is not None}

    def with_whole_paths(self, folder: Path) -> Plan:
        """The same plan with paths that do not depend on where it is read.

        Args:
            folder: where the plan's paths lead from.
        """
        return self._with_paths(lambda path: whole(path, folder), lambda recipe: recipe_path(recipe, folder))

    def with_paths_from(self, folder: Path) -> Plan:
        """The same plan with whole paths written as they lead from a folder, so that both can be moved together.

        Args:
            folder: where the plan is kept.
        """
        return self._with_paths(lambda path: leading_from(path, folder), lambda recipe: leading_from(recipe, folder))

    def _with_paths(self, path: Callable[[str], str], recipe: Callable[[str], str]) -> Plan:
        data = {name: one.with_paths(path, recipe) for name, one in self.data.items()}
        return self.model_copy(update={"data": data, "recipe": recipe(self.recipe)})

    def check_measurable(self) -> None:
        """Refuse a plan that cannot be measured as it stands.

        Raises:
            ConfigError: there is no data, or a cross-domain scenario has no second set.
        """
        if not self.data:
            raise ConfigError(f"The plan {self.title!r} names no data. Give prepared data: --data FOLDER")
        for name, scenario in self.scenarios.items():
            if isinstance(scenario, CrossDomainConfig):
                if scenario.to is not None and scenario.to not in self.data:
                    raise ConfigError(f"Scenario {name} goes to {scenario.to!r}; data are {', '.join(self.data)}.")
                if len(self.data) < 2:
                    raise ConfigError(
                        f"Scenario {name} needs two data sets, the one trained on first: --data A --data B"
                    )


def plan_names() -> list[str]:
    """Plans that come with the package."""
    folder = resources.files("allmrec.experiments") / "plans"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def plan_text(plan: str) -> str:
    """A plan as it stands in its file.

    Args:
        plan: the name of one of the package's, or a path.

    Raises:
        ConfigError: there is none, or it is no text.
    """
    if plan in plan_names():
        return (resources.files("allmrec.experiments") / "plans" / f"{plan}.toml").read_text("utf-8")
    if Path(plan).is_dir():
        raise ConfigError(f"The plan {plan} is a folder; expected a TOML file, or one of {', '.join(plan_names())}.")
    if not Path(plan).is_file():
        raise ConfigError(f"There is no plan {plan!r}: neither a file nor one of {', '.join(plan_names())}.")
    try:
        return Path(plan).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The plan {plan} is no TOML: {error}.") from None


def load_plan(plan: str, changes: Mapping[str, Any] | None = None) -> Plan:
    """A plan of the package by its name, or from a TOML file.

    Args:
        plan: the name or the path.
        changes: fields of the plan with other values; `changes` are added to the plan's own.

    Raises:
        ConfigError: no such plan, or a field that is unknown or wrong.
    """
    try:
        values = tomllib.loads(plan_text(plan))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The plan {plan} is no TOML: {error}.") from None
    folder = Path() if plan in plan_names() else Path(plan).parent
    parse_config(Plan, values, f"The plan {plan}")
    given = dict(changes or {})
    if more := given.pop("changes", {}):
        given["changes"] = {**single_changes(values.get("changes", {})), **single_changes(more)}
    own = parse_config(Plan, {**values, **given}, f"The plan {plan}")
    _check_meant(own, plan)
    return own.with_whole_paths(folder)


def _check_meant(plan: Plan, name: str) -> None:
    """Refuse what would be without effect, and so cannot be meant."""
    if "reference" in plan.model_fields_set and plan.row(plan.reference) not in plan.rows:
        raise ConfigError(f"The plan {name} compares with {plan.reference!r} (reference), which it does not ask.")
    parts = [plan.changes, *(d.changes for d in plan.data.values()), *(v.changes for v in plan.variants.values())]
    for changes in parts:
        if said := [field for field in single_changes(changes) if field == "seed" or field.startswith("evaluation.")]:
            raise ConfigError(
                f"The plan {name} changes {', '.join(said)}, which a plan says by its own fields: seeds, users, title_users, candidates "
                "and order_test (--seeds, --users, --title-users)."
            )


def only(plan: Plan, rows: list[str]) -> Plan:
    """A plan with some of its rows, each of which is measured; claims and the paper's figures of others go.

    Raises:
        ConfigError: the plan has no such row.
    """
    wanted = [plan.row(name) for name in rows]
    if missing := [name for name, row in zip(rows, wanted, strict=True) if row not in plan.rows]:
        known = ", ".join(plan.row_names)
        raise ConfigError(f"The plan has no {', '.join(name or repr(name) for name in missing)}; its rows are {known}.")
    variants = {
        name: variant.model_copy(update={"systems": tuple(system for own, system in wanted if own == name)})
        for name, variant in plan.variants.items()
        if any(own == name for own, _ in wanted)
    }
    changed: dict[str, Any] = {
        "systems": tuple(system for own, system in plan.rows if own == BASE and (own, system) in wanted),
        "variants": variants,
        "without": (),
        "claims": tuple(c for c in plan.claims if plan.rows_of(c) <= set(wanted)),
    }
    if plan.paper is not None:
        of_rows = {name: row for name, row in plan.paper.rows.items() if plan.row(name) in wanted}
        changed["paper"] = plan.paper.model_copy(update={"rows": of_rows})
    return plan.model_copy(update=changed)
