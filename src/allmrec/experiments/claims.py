"""Claims of several experiments together: the paper's and the plans' own apart, each comparison of the same cells once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from allmrec.experiments.found import Experiment
from allmrec.experiments.tables import ClaimResult, Section

__all__ = ["CLAIMANTS", "ClaimRow", "claim_rows", "counted"]

Whose = Literal["paper", "ours"]

CLAIMANTS: dict[Whose, str] = {"paper": "What the paper claims", "ours": "What we ask beside"}
"""Headings of the two tables."""


@dataclass(frozen=True, eq=False)
class ClaimRow:
    """A comparison that one plan claims, or several.

    Attributes:
        experiments: those that have it; the words are the first one's.
        section: where it was found.
        result: what became of it.
    """

    experiments: tuple[Experiment, ...]
    section: Section
    result: ClaimResult

    @property
    def where(self) -> str:
        """Data, scenario, group and figure."""
        return f"{self.section.title}, {self.result.claim.group}: {self.result.claim.metric}"


def claim_rows(experiments: Sequence[Experiment], whose: Whose) -> list[ClaimRow]:
    """What became of the claims of the paper, or of ours; what several plans claim of the same cells is one.

    Args:
        experiments: in the order of their rows.
        whose: of which of the two.
    """
    found: dict[tuple[object, ...], ClaimRow] = {}
    for one in experiments:
        for section in one.sections:
            for result in section.claims:
                if result.claim.whose == whose:
                    before = found.get(result.compares)
                    first = ClaimRow((), section, result) if before is None else before
                    same = first.experiments if one in first.experiments else (*first.experiments, one)
                    found[result.compares] = ClaimRow(same, first.section, first.result)
    return list(found.values())


def counted(rows: Sequence[ClaimRow], whose: Whose) -> str:
    """How many hold, in a sentence."""
    verdicts = [row.result.verdict for row in rows]
    of = "the paper's" if whose == "paper" else "our"
    return (
        f"{verdicts.count('holds')} of {of} {len(rows)} claims hold, {verdicts.count('does not hold')} do not, "
        f"{verdicts.count('not shown')} are not shown."
    )
