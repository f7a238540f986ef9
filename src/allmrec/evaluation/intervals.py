"""How sure a mean over users is: bootstrap percentile intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator

__all__ = ["Estimate", "bootstrap_generator", "bootstrap_mean", "paired_difference"]


@dataclass(frozen=True)
class Estimate:
    """A mean over users and the interval that it would fall into if other users of the same kind had been drawn.

    The interval covers the choice of users alone: neither another seed of training nor another draw of candidates.
    """

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether 0 is in the interval; for a difference: whether neither side is shown to be better."""
        return self.low <= 0.0 <= self.high


def bootstrap_generator(protocol_hash: str, metric: str) -> np.random.Generator:
    """Where resamples of a protocol's users come from: the same for every system, so that intervals repeat exactly."""
    return numpy_generator(0, "bootstrap", protocol_hash, metric)


def bootstrap_mean(
    values: Float64[np.ndarray, " users"], rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Mean of `values` with its bootstrap percentile interval (Efron and Tibshirani 1993, chapter 13).

    A resample of users is the same as a multinomial draw of how often each *distinct* value comes up. Metrics of a rank
    have few distinct values, so thousands of resamples of any number of users cost next to nothing.

    Args:
        values: one per user.
        rng: where randomness comes from.
        resamples: how many times users are drawn anew.
        level: share of the resampled means inside the interval.

    Raises:
        DataError: there are no users.
    """
    users = len(values)
    if users == 0:
        raise DataError("There are no users to average over; expected at least one.")
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(users, counts / users, size=resamples)
    means = drawn @ distinct / users
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(float(np.mean(values)), float(low), float(high))


def paired_difference(
    values: Float64[np.ndarray, " users"],
    reference: Float64[np.ndarray, " users"],
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean of `values - reference` over the same users, in the same order, with its interval.

    What is hard for one system is mostly hard for the other, so the interval of the difference is narrower than the two
    systems' own intervals suggest; overlapping intervals of two means say nothing about this one.
    """
    return bootstrap_mean(values - reference, rng, resamples, level)
