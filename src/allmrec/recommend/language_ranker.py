"""A-LLMRec as a ranker of given candidates, by either way that gives each of them a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.alike import prompts_alike
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["LanguageRanker", "Normalisation", "normalised"]

Normalisation = Literal["sum", "mean"]


class LanguageRanker:
    """Ranks given candidates by stage 2 and the language model.

    Args:
        ranker: stage 2 with the frozen parts around it.
        method: how the language model answers. `score`: likelihood of each candidate's title, the paper's objective;
            `select`: the pointer head (ours).
        name: what a table calls it.
        normalisation: how a title's token log-probabilities become one score: their sum (exact likelihood) or mean.
        batch_size: queries in a forward pass.
    """

    def __init__(
        self,
        ranker: PromptedRanker,
        method: Literal["score", "select"] = "select",
        name: str = "A-LLMRec",
        normalisation: Normalisation = "sum",
        batch_size: int = 8,
    ) -> None:
        self._ranker = ranker
        self._method, self._name = method, name
        self._normalisation, self._batch_size = normalisation, batch_size
        ranker.eval()
        ranker.keeps_items = True

    @property
    def name(self) -> str:
        """What a table calls it."""
        return self._name

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; queries whose prompts are alike in length share a forward pass."""
        rankings: dict[int, Ranking] = {}
        for group in prompts_alike(self._ranker, queries, candidates, self._batch_size):
            scores = self._scores([queries[n] for n in group], [candidates[n] for n in group])
            for n, row in zip(group, scores, strict=True):
                rankings[n] = ranking_from_scores(candidates[n], row)
        return [rankings[n] for n in range(len(queries))]

    def _scores(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[np.ndarray, " _candidates"]]:
        with torch.inference_mode():
            if self._method == "select":
                logits = self._ranker.select_logits(queries, candidates)
                return list(logits.float().cpu().numpy())
            likelihoods = self._ranker.title_likelihoods(queries, candidates)
            return [normalised(row, self._normalisation) for row in likelihoods]


def normalised(
    steps: Float[torch.Tensor, "titles tokens"], normalisation: Normalisation
) -> Float[np.ndarray, " titles"]:
    """One score a title from its tokens' log-probabilities; places behind a title's end hold exactly 0."""
    total = steps.sum(dim=-1)
    if normalisation == "mean":
        total = total / (steps != 0).sum(dim=-1).clamp_min(1)
    return total.float().cpu().numpy()
