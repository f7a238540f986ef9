"""Whether a system reads the order of a history: the same users are asked again, each history shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.intervals import Estimate, bootstrap_generator, paired_difference
from allmrec.evaluation.metrics import metric_values
from allmrec.ranking import Query

__all__ = ["OrderTest", "compare_order", "shuffled_histories", "shuffled_name"]


@dataclass(frozen=True)
class OrderTest:
    """What a system finds when histories are shuffled (the test of LLM-SRec, Kim et al., 2025, section 2.2).

    Attributes:
        ranks: the target's rank for each of the system's users, None for a miss.
        differences: shuffled less in order, per metric, paired over these users.
    """

    ranks: tuple[int | None, ...]
    differences: dict[str, Estimate]


def shuffled_name(name: str) -> str:
    """What a system is called while it is asked about shuffled histories."""
    return f"{name}, histories shuffled"


def shuffled_histories(queries: Sequence[Query], seed: int) -> list[Query]:
    """The same queries, each history in an order that its user's number and the seed decide.

    It is the same for every system, and whichever other users are asked about.
    """
    return [
        Query(numpy_generator(seed, "order test", query.user).permutation(query.history), query.user)
        for query in queries
    ]


def compare_order(
    ordered: Float64[np.ndarray, " users"],
    shuffled: Float64[np.ndarray, " users"],
    protocol_hash: str,
    ks: Sequence[int],
) -> OrderTest:
    """The order test of one system from its ranks for the same users, infinity for a miss."""
    before, after = metric_values(ordered, ks), metric_values(shuffled, ks)
    return OrderTest(
        tuple(int(rank) if np.isfinite(rank) else None for rank in shuffled),
        {
            metric: paired_difference(values, before[metric], bootstrap_generator(protocol_hash, metric))
            for metric, values in after.items()
        },
    )
