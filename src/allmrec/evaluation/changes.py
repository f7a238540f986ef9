"""What became of systems between two reports on the same users and candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allmrec.core.errors import ConfigError
from allmrec.evaluation.intervals import Estimate, bootstrap_generator, paired_difference
from allmrec.evaluation.metrics import metric_values
from allmrec.evaluation.report import Report, SystemResult

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """One system before and after something that it is made of was trained again.

    Attributes:
        before, after: its results; the name may have changed with the CF model.
        difference: after less before in `metric`, over the users that both were asked about.
    """

    before: SystemResult
    after: SystemResult
    metric: str
    n_users: int
    difference: Estimate


def changes(before: Report, after: Report, metric: str = "Hit@1") -> tuple[Change, ...]:
    """What became of each system of two reports on the same protocol; those of only one are left out.

    Raises:
        ConfigError: the reports are of different users or candidates.
    """
    if before.protocol_hash != after.protocol_hash:
        raise ConfigError("The two reports are of different users or candidates, so their figures do not compare.")
    earlier = {system.key: system for system in before.systems if system.key}
    found = []
    for now in after.systems:
        then = earlier.get(now.key)
        if then is None:
            continue
        common, mine, theirs = np.intersect1d(now.user_array(), then.user_array(), True, True)
        if len(common):
            new = metric_values(now.rank_array()[mine], after.ks)[metric]
            old = metric_values(then.rank_array()[theirs], after.ks)[metric]
            estimate = paired_difference(new, old, bootstrap_generator(after.protocol_hash, metric))
            found.append(Change(then, now, metric, len(common), estimate))
    return tuple(found)
