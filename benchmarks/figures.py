"""Figures of ranks with their intervals, and how a figure is stored and shown.

A figure is stored as `[value, low, high]`, each rounded to eight decimals: three are shown, and ranks give the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float64

from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import metric_values

__all__ = ["SHOWN", "Figure", "Groups", "Values", "differences", "estimates", "figure", "shown", "user_values"]

SHOWN = ("Hit@1", "NDCG@10")

Figure = list[float]
Values = Mapping[str, Float64[np.ndarray, " users"]]
Groups = Mapping[str, Bool[np.ndarray, " users"]]


def user_values(ranks: Iterable[Float64[np.ndarray, " users"]], metrics: Iterable[str] = SHOWN) -> Values:
    """Each user's value of the metrics; of several seeds the mean over them."""
    found = [metric_values(one) for one in ranks]
    return {name: np.mean([values[name] for values in found], axis=0) for name in metrics}


def figure(estimate: Estimate) -> Figure:
    """As it is stored."""
    return [round(end, 8) for end in (estimate.value, estimate.low, estimate.high)]


def estimates(values: Values, seed: str) -> dict[str, Figure]:
    """Means over users, each with its interval; the same seed draws the same users again."""
    return {name: figure(bootstrap_mean(own, numpy_generator(0, seed, name))) for name, own in values.items()}


def differences(values: Values, reference: Values, seed: str) -> dict[str, Figure]:
    """Means of `values` less `reference`, paired over users, each with its interval."""
    return {
        name: figure(paired_difference(own, reference[name], numpy_generator(0, seed, name)))
        for name, own in values.items()
    }


def shown(stored: Figure | None, sign: str = "") -> str:
    """As `0.523 [0.508, 0.538]`; a `+` as sign for differences. Nothing of none."""
    if stored is None:
        return ""
    value, low, high = stored
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
