"""Tables of an experiment: rows of figures with intervals over seeds and users, the paper's beside them, and its claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int16

from allmrec.data.provenance import Summary
from allmrec.evaluation.intervals import Estimate
from allmrec.experiments.answers import GENRE_QUESTIONS, RANKED, Ranks, Words, any_named, genre_metrics, lost
from allmrec.experiments.cells import other_data
from allmrec.experiments.joined import joined_mean
from allmrec.experiments.paper import nearest_set, paper_figure, paper_sets
from allmrec.experiments.plan import BASE, Claim, Plan
from allmrec.experiments.results import AskedUsers, CellResult
from allmrec.experiments.scenario_config import ALL

__all__ = ["ClaimResult", "Row", "Section", "TableKind", "claimed", "sections_of", "table_kinds", "verdict"]

Verdict = Literal["holds", "does not hold", "not shown"]


@dataclass(frozen=True, eq=False)
class Row:
    """One system of a section: all seeds of it.

    Attributes:
        row: its name in the plan.
        title: as it is shown.
        cells: its cells that are done, one a seed.
        asked: who was asked; the same for all of them.
    """

    row: str
    title: str
    cells: Sequence[CellResult]
    asked: AskedUsers

    @cached_property
    def answered(self) -> Bool[np.ndarray, " users"]:
        """Users whom every seed was asked about."""
        found: Bool[np.ndarray, " users"] = np.all([cell.found.answered for cell in self.cells], axis=0)
        return found

    @cached_property
    def ranks(self) -> Int16[np.ndarray, "seeds users"] | None:
        """Each seed's ranks, as `rank_files` stores them; none of a row that answers in words."""
        found = [cell.found.ranks for cell in self.cells if isinstance(cell.found, Ranks)]
        return np.stack(found) if found else None

    @property
    def words(self) -> Words | None:
        """What the first seed said; none of a row that ranks."""
        found = self.cells[0].found
        return found if isinstance(found, Words) else None

    def values(self, metric: str) -> Float64[np.ndarray, "seeds users"]:
        """Each seed's and user's value; nothing useful where the user was not asked."""
        return np.stack([cell.found.values(metric) for cell in self.cells])

    def users(self, group: str) -> Bool[np.ndarray, " users"]:
        """Users of a group whom every seed was asked about."""
        found: Bool[np.ndarray, " users"] = self.asked.groups[group] & self.answered
        return found

    def figure(self, metric: str, group: str) -> Estimate | None:
        """A figure; none where nobody of the group was asked."""
        mask = self.users(group)
        return joined_mean(self.values(metric)[:, mask], f"{metric} {group}") if mask.any() else None

    def less(self, other: Row, metric: str, group: str, times: float = 1.0) -> Estimate | None:
        """This less `times` the other, over users and seeds that both have; none where there are none."""
        mine, theirs = ({cell.cell.seed: n for n, cell in enumerate(row.cells)} for row in (self, other))
        seeds, mask = sorted(mine.keys() & theirs.keys()), self.users(group) & other.users(group)
        if not seeds or not mask.any():
            return None
        own = self.values(metric)[[mine[seed] for seed in seeds]][:, mask]
        others = other.values(metric)[[theirs[seed] for seed in seeds]][:, mask]
        return joined_mean(own - times * others, f"{metric} {group}")

    def cost(self, name: str) -> float | None:
        """A cost, mean over seeds: a key of `costs`, or `users_per_second`; none where it is not known."""
        found = [cell.about["costs"].get(name, cell.about.get(name)) for cell in self.cells]
        known = [float(value) for value in found if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, eq=False)
class ClaimResult:
    """What became of a claim in a section.

    Attributes:
        claim: the claim.
        verdict: whether its direction holds; `not shown` where the interval leaves both open.
        difference: what it was read from; the figure itself where the claim compares with 0.
        users, seeds: over how many.
        cells: keys of those that were compared, of the better row and of the other.
    """

    claim: Claim
    verdict: Verdict
    difference: Estimate
    users: int
    seeds: int
    cells: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    @property
    def compares(self) -> tuple[object, ...]:
        """What is compared with what; claims of several plans that say the same of the same cells have the same."""
        claim = self.claim
        return (
            *self.cells,
            claim.group,
            claim.metric,
            claim.says,
            claim.times,
            None if claim.says == "above" else claim.margin,
        )


@dataclass(frozen=True)
class TableKind:
    """Which figures stand in a table.

    Attributes:
        title: of the table.
        about: what a reader must know of it; empty: nothing.
        group: users whom it is about.
        head, metric: the column that rows are sorted and drawn by.
        more: further columns, heads and metrics.
        before: columns that stand before.
    """

    title: str
    about: str
    group: str
    head: str
    metric: str
    more: tuple[tuple[str, str], ...]
    before: tuple[tuple[str, str], ...] = ()


def table_kinds(plan: Plan, groups: Sequence[str]) -> list[TableKind]:
    """The tables of a section.

    Args:
        plan: says what was asked.
        groups: of users.
    """
    if plan.ask == "genres":
        found = []
        for group in groups:
            for question, about in GENRE_QUESTIONS.items():
                precision, above, named = genre_metrics(question)
                title = question if group == ALL else f"{question}: {group}"
                further = (("precision", precision), ("genres named", named))
                before = (("answers that name any", any_named(question)),)
                found.append(TableKind(title, about, group, "above chance", above, further, before))
        return found
    first, *others = RANKED
    names = [*others, *(lost(metric) for metric in ("Hit@1", "NDCG@10") if plan.order_test)]
    more = tuple((name, name) for name in names)
    return [TableKind(group, "", group, first, first, more) for group in groups]


@dataclass(frozen=True, eq=False)
class Section:
    """One data set in one scenario.

    Attributes:
        data, scenario: names in the plan.
        asked_data: another data set that is asked about; empty where it is the same.
        groups: groups of users, the first of which is everybody.
        kinds: its tables.
        rows: in the order of the plan.
        reference: the row that others are compared with; none where it is not done.
        theirs: the paper's set that stands beside; empty where none does.
        theirs_group: for each group the paper's name of it.
        claims: what became of them.
    """

    data: str
    scenario: str
    groups: tuple[str, ...]
    kinds: tuple[TableKind, ...]
    rows: tuple[Row, ...]
    reference: Row | None
    theirs: str = ""
    theirs_group: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[ClaimResult, ...] = ()
    asked_data: str = ""

    @property
    def title(self) -> str:
        """Its heading."""
        if self.asked_data:
            return f"trained on {self.data}, asked on {self.asked_data}"
        return f"{self.data}, {self.scenario}"

    def paper(self, plan: Plan, row: Row, group: str) -> float | None:
        """The paper's Hit@1 of a row."""
        if plan.paper is None or not self.theirs or row.row not in plan.paper.rows:
            return None
        return paper_figure(plan.paper.table, plan.paper.rows[row.row], self.theirs_group[group], self.theirs)


def sections_of(
    plan: Plan, done: Iterable[tuple[CellResult, AskedUsers]], summaries: Mapping[str, Summary]
) -> list[Section]:
    """Tables of an experiment, in the plan's order; sections of which nothing is done are left out.

    Args:
        plan: the plan.
        done: cells that are done, each with whom it asked.
        summaries: of the data sets, by name; decides which of the paper's sets stands beside.
    """
    found: dict[tuple[str, str], dict[str, list[tuple[CellResult, AskedUsers]]]] = {}
    for result, asked in done:
        place = found.setdefault((result.cell.data, result.cell.scenario), {})
        place.setdefault(result.cell.row, []).append((result, asked))
    return [
        _section(plan, data, scenario, rows, summaries)
        for data in plan.data
        for scenario in plan.scenarios
        if (rows := found.get((data, scenario)))
    ]


def _section(
    plan: Plan,
    data: str,
    scenario: str,
    found: Mapping[str, Sequence[tuple[CellResult, AskedUsers]]],
    summaries: Mapping[str, Summary],
) -> Section:
    rows: dict[str, Row] = {}
    for variant, system in plan.asked:
        name = system if variant == BASE else f"{variant}/{system}"
        if name in found:
            cells = [result for result, _ in found[name]]
            title = str(cells[0].about["name"])
            more = "" if variant == BASE else plan.variants[variant].title or variant
            rows[name] = Row(name, f"{title}, {more}" if more else title, cells, found[name][0][1])
    rows = _told_apart(rows)
    groups = tuple(next(iter(rows.values())).asked.groups)
    theirs, names = "", {group: group for group in groups}
    if plan.paper is not None:
        sets = paper_sets(plan.paper.table)
        theirs = plan.data[data].nearest or (nearest_set(summaries[data], sets) if data in summaries else "")
        names = {group: plan.paper.scenarios.get(scenario, group) for group in groups}
    claims = [claimed(claim, rows, groups) for claim in plan.claims if claim.scenario in (None, scenario)]
    return Section(
        data, scenario, groups, tuple(table_kinds(plan, groups)), tuple(rows.values()), rows.get(plan.reference), theirs, names,
        tuple(claim for claim in claims if claim is not None), other_data(plan, data, plan.scenarios[scenario]) or "",
    )  # fmt: skip


def _told_apart(rows: dict[str, Row]) -> dict[str, Row]:
    """Rows of one title get their names behind it."""
    titles = [row.title for row in rows.values()]
    return {
        name: Row(row.row, f"{row.title} ({name})", row.cells, row.asked) if titles.count(row.title) > 1 else row
        for name, row in rows.items()
    }


def claimed(claim: Claim, rows: Mapping[str, Row], groups: Sequence[str]) -> ClaimResult | None:
    """What became of a claim; none where one of its rows, or its group, is not there."""
    better = rows.get(claim.better)
    if better is None or claim.group not in groups:
        return None
    if claim.than is None:
        figure = better.figure(claim.metric, claim.group)
        if figure is None:
            return None
        users = int(better.users(claim.group).sum())
        own = _keys(better, {cell.cell.seed for cell in better.cells})
        return ClaimResult(claim, verdict(claim, figure), figure, users, len(better.cells), (own, frozenset()))
    than = rows.get(claim.than)
    difference = None if than is None else better.less(than, claim.metric, claim.group, claim.times)
    if than is None or difference is None:
        return None
    users = int((better.users(claim.group) & than.users(claim.group)).sum())
    seeds = {cell.cell.seed for cell in better.cells} & {cell.cell.seed for cell in than.cells}
    cells = _keys(better, seeds), _keys(than, seeds)
    return ClaimResult(claim, verdict(claim, difference), difference, users, len(seeds), cells)


def _keys(row: Row, seeds: Collection[int]) -> frozenset[str]:
    return frozenset(str(cell.about.get("key", cell.cell.id)) for cell in row.cells if cell.cell.seed in seeds)


def verdict(claim: Claim, difference: Estimate) -> Verdict:
    """Whether an interval shows what is claimed, shows the contrary, or leaves it open."""
    if claim.says == "above":
        return "holds" if difference.low > 0 else "does not hold" if difference.high < 0 else "not shown"
    margin = claim.margin
    if claim.says == "not above":
        return "holds" if difference.high <= margin else "does not hold" if difference.low > margin else "not shown"
    if -margin <= difference.low and difference.high <= margin:
        return "holds"
    return "does not hold" if difference.low > margin or difference.high < -margin else "not shown"
