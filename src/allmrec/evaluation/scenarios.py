"""Which of a protocol's users belong to a scenario of the paper (cold items, warm items)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from allmrec.data.cold_items import cold_and_warm_items
from allmrec.data.splitting import Split
from allmrec.evaluation.protocol import EvaluationProtocol

__all__ = ["cold_and_warm_items", "scenario_masks"]


def scenario_masks(
    protocol: EvaluationProtocol, split: Split, share: float = 0.35
) -> dict[str, Bool[np.ndarray, " users"]]:
    """For each scenario, which of the protocol's users have a target in it. Candidates stay as they are.

    Raises:
        ArtifactError: `split` is of another data set than the protocol.
    """
    protocol.check(split.dataset.content_hash)
    cold, warm = cold_and_warm_items(split, share)
    return {"cold items": cold[protocol.targets], "warm items": warm[protocol.targets]}
