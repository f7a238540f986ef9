"""What plans cost, where somebody timed them: `measured.json`, which `python -m benchmarks.experiments report` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from allmrec.experiments.plan import load_plan

__all__ = ["PlanCosts", "plan_costs", "run_line"]


@dataclass(frozen=True)
class PlanCosts:
    """A plan's size and cost in words.

    Attributes:
        cells: how many for each data set.
        runs: what each run took, a short line each; none where nobody timed one.
    """

    cells: int
    runs: tuple[str, ...]


def plan_costs(name: str) -> PlanCosts:
    """What a plan of the package costs.

    Raises:
        ConfigError: there is none of that name.
    """
    plan = load_plan(name)
    count = sum(len(plan.seeds_for(system)) for _, system in plan.asked) * len(plan.scenarios)
    runs = json.loads((resources.files("allmrec.experiments") / "measured.json").read_text("utf-8"))["runs"]
    return PlanCosts(count, tuple(run_line(run) for run in runs if run["plan"] == name))


def run_line(run: Mapping[str, Any]) -> str:
    """A run that was timed, in a line."""
    cut = ", cut" if run.get("cut") else ""
    return f"{run['cells']} on {run['what']}: {run['minutes']:,} min{cut} ({_short(run['device'])})"


def _short(device: str) -> str:
    """Names of the processors in a list of devices: `H200, CPU`."""
    cards = re.findall(r"NVIDIA (?:GeForce )?([\w ]+)", device)
    return ", ".join(dict.fromkeys([*cards, *(["CPU"] if "CPU" in device else [])])) or device
