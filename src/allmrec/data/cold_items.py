"""Which items have the fewest interactions, and which the most."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from allmrec.core.errors import ConfigError
from allmrec.data.splitting import Split

__all__ = ["cold_and_warm_items"]


def cold_and_warm_items(
    split: Split, share: float = 0.35
) -> tuple[Bool[np.ndarray, " items_and_padding"], Bool[np.ndarray, " items_and_padding"]]:
    """The bottom and the top of the catalogue by training interactions (A-LLMRec, section 4.2: 35 % each).

    Both hold exactly `share` of the items, rounded down; among items with equally many interactions the lower number
    counts as colder, so that the two can never overlap.

    Returns:
        For each item number, whether it is cold, and whether it is warm. Padding is neither.

    Raises:
        ConfigError: `share` is not within 0 and one half.
    """
    if not 0 < share <= 0.5:
        raise ConfigError(f"The share of cold items is {share}; expected more than 0 and at most 0.5.")
    counts = split.train_counts()[1:]
    order = np.argsort(counts, kind="stable") + 1
    n = int(share * len(counts))
    cold, warm = np.zeros(len(counts) + 1, dtype=bool), np.zeros(len(counts) + 1, dtype=bool)
    cold[order[:n]] = True
    warm[order[len(order) - n :]] = True
    return cold, warm
