"""What two systems hit together: how much could be gained by choosing, for each user, between their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from allmrec.evaluation.intervals import Estimate, bootstrap_generator, bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import hit

__all__ = ["Either", "hits_of_either"]


@dataclass(frozen=True)
class Either:
    """The union of two systems' hits (EnsRec's Genie bound, Collins et al., 2025).

    It is what an oracle reaches that knows for each user which of both answers to take. A sum of scores is bound by it nearly
    and not strictly: it may lift a target that is just below the first k of both.

    Attributes:
        systems: names of the two.
        n_users: how many users both were asked about.
        hits: Hit@k of either, by name.
        gains: the same less the better of the two systems, by name.
    """

    systems: tuple[str, str]
    n_users: int
    hits: dict[str, Estimate]
    gains: dict[str, Estimate]


def hits_of_either(
    systems: tuple[str, str],
    first: Float64[np.ndarray, " users"],
    second: Float64[np.ndarray, " users"],
    protocol_hash: str,
    ks: Sequence[int],
) -> Either:
    """The union of two systems' hits from their ranks for the same users, infinity for a miss.

    Raises:
        DataError: there are no users.
    """
    hits, gains = {}, {}
    for k in ks:
        own = [hit(ranks, k) for ranks in (first, second)]
        either, better = np.maximum(*own), max(own, key=np.mean)
        name = f"Hit@{k}"
        hits[name] = bootstrap_mean(either, bootstrap_generator(protocol_hash, name))
        gains[name] = paired_difference(either, better, bootstrap_generator(protocol_hash, name))
    return Either(systems, len(first), hits, gains)
