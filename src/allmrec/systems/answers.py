"""A-LLMRec of a run with a way of answering, ready to rank candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from allmrec.pipeline.run import Run
from allmrec.ranking import Ranker
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompted import PromptedRanker
from allmrec.stages.tune import prompted_ranker
from allmrec.systems.kinds import AbsentError, Answers, System

__all__ = ["answering", "by_scores", "check_text_vectors", "check_titles_learned"]


def answering(
    run: Run, ranker_of: Callable[[PromptedRanker], Ranker], *, scores_each: bool = True, text: bool = False
) -> System:
    """A-LLMRec of a run or a variant as it was trained.

    Args:
        run: trained.
        ranker_of: makes what ranks of stage 2.
        scores_each: whether that gives every candidate a score of its own.
        text: whether all items are their text vectors.

    Raises:
        ArtifactError: a stage is missing, of other inputs, or damaged.
    """
    prompted = prompted_ranker(run)
    if text:
        prompted = prompted.with_joint(prompted.joint.with_source("text"))
    return System(ranker_of(prompted), answers=Answers(prompted, ranker_of, scores_each))


def by_scores(run: Run, method: Literal["select", "score"], name: str) -> Callable[[PromptedRanker], Ranker]:
    """Ranks by a score of each candidate.

    Args:
        run: whose settings count.
        method: how it answers.
        name: as it stands in a table.
    """
    answer = run.config.answer
    # Reading every candidate's title to its end takes about twice the memory.
    batch = answer.batch_size if method == "select" else max(1, answer.batch_size // 2)
    return lambda prompted: LanguageRanker(prompted, method, name, answer.normalisation, batch)


def check_text_vectors(run: Run) -> None:
    """Whether items have text vectors.

    Raises:
        AbsentError: they have none.
    """
    if run.config.tune.items != "joint":
        raise AbsentError(f"tune.items is {run.config.tune.items!r}, so there are no text vectors")


def check_titles_learned(run: Run) -> None:
    """Whether titles were learned, so that they can be written.

    Raises:
        AbsentError: they were not.
    """
    if run.config.tune.title_weight == 0:
        raise AbsentError("tune.title_weight is 0, so titles are not learned")
