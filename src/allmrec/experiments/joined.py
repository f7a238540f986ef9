"""Figures over seeds and users together.

Every seed answers the same users on the same candidates. A figure is the mean over users of the mean over seeds. Its interval
draws users anew *and* seeds anew, both with replacement and independently (the pigeonhole bootstrap: Owen 2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1), and takes the middle 95 % of 2,000 such means. With one seed it covers the choice of
users alone. With three it is a coarse picture of what seeds do: there are ten ways to draw three of three.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.intervals import Estimate

__all__ = ["HOW", "joined_mean"]

HOW = (
    "Intervals: 95 %, users and seeds drawn anew together (pigeonhole bootstrap, 2,000 draws); with one seed they cover the choice "
    "of users alone."
)


def joined_mean(
    values: Float64[np.ndarray, "seeds users"], name: str, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """The mean over seeds and users with its interval; for differences give differences, paired by seed and user.

    Args:
        values: one a seed and user.
        name: of the figure; the same name draws the same users and seeds.
        resamples: how many times both are drawn.
        level: share of the means inside the interval.

    Raises:
        DataError: there are no users.
    """
    seeds, users = values.shape
    if not users or not seeds:
        raise DataError("There are no users to average over; expected at least one.")
    rng = numpy_generator(0, "joined", name)
    # Users whose values are the same in all seeds are drawn together; ranks leave few kinds.
    kinds, counts = np.unique(values.T, axis=0, return_counts=True)
    of_users = rng.multinomial(users, counts / users, size=resamples) @ kinds / users
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = (of_users * of_seeds).sum(axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(float(values.mean()), float(low), float(high))
