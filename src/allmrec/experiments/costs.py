"""What plans cost, where somebody timed them: `measured.json`, which `python -m benchmarks.experiments report` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from allmrec.experiments.plan import load_plan

__all__ = ["PlanCosts", "plan_costs"]


@dataclass(frozen=True)
class PlanCosts:
    """A plan's size and cost in words.

    Attributes:
        cells: how many for each data set.
        measured: minutes, and of what; `not measured` where nobody timed it.
    """

    cells: str
    measured: str


def plan_costs(name: str) -> PlanCosts:
    """What a plan of the package costs.

    Raises:
        ConfigError: there is none of that name.
    """
    plan = load_plan(name)
    count = len(plan.scenarios) * len(plan.seeds) * len(plan.asked)
    cells = f"{count} = {len(plan.asked)} rows"
    if len(plan.scenarios) > 1:
        cells += f" x {len(plan.scenarios)} scenarios"
    if len(plan.seeds) > 1:
        cells += f" x {len(plan.seeds)} seeds"
    runs = json.loads((resources.files("allmrec.experiments") / "measured.json").read_text("utf-8"))["runs"]
    found = [run for run in runs if run["plan"] == name]
    words = [
        f"{run['cells']} cells, {run['minutes']} minutes: {run['what']} ({run['device']}, {run['date']})"
        for run in found
    ]
    return PlanCosts(cells, "; ".join(words) or "not measured")
