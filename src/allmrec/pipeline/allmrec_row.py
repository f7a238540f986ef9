"""A-LLMRec as the table ranks with it, the same in every row that holds it; knows no other system."""

from __future__ import annotations

from typing import Literal

from allmrec.pipeline.run import Run
from allmrec.recommend.allmrec import ALLMRec

__all__ = ["allmrec_row"]


def allmrec_row(run: Run, method: Literal["select", "score"], name: str, text: bool = False) -> ALLMRec:
    """A-LLMRec of a run or a variant as it was trained, ready to rank candidates.

    Args:
        run: trained.
        method: how it answers.
        name: as it stands in a table.
        text: whether its items are the text vectors.
    """
    ranker, evaluation = run.ranker(), run.config.evaluation
    if text:
        ranker.joint = ranker.joint.with_source("text")
    # Reading every candidate's title to its end takes about twice the memory.
    batch = evaluation.batch_size if method == "select" else max(1, evaluation.batch_size // 2)
    return ALLMRec(run.dataset, ranker, method, name, evaluation.normalisation, batch)
