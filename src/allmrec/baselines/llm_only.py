"""LLM-Only: the paper's prompt without user and item vectors, nothing trained; knows no CF model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.splicing import splice
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.allmrec import Normalisation, normalised
from allmrec.recommend.score import TitleTree, title_log_likelihoods

__all__ = ["LLMOnly"]


class LLMOnly:
    """The language model reads the same words as A-LLMRec, without `O_u` and `O_i` (paper, section 4.1).

    The paper decodes greedily and counts exact titles; here every candidate's title is scored, so that LLM-Only always
    ranks and is judged by the same metrics as the rest.

    Args:
        lm: the language model.
        titles: by item number, entry 0 unused.
        template, budget: the prompt; slots are taken out of the template.
        normalisation: how token log-probabilities become one score.
        batch_size: queries in a forward pass.
    """

    name = "LLM-Only"

    def __init__(
        self,
        lm: LanguageModel,
        titles: Sequence[str | None],
        template: PromptTemplate,
        budget: PromptBudget,
        normalisation: Normalisation = "sum",
        batch_size: int = 4,
    ) -> None:
        self._lm = lm
        self._builder = PromptBuilder(template.without_vectors(), budget, lm, titles)
        self._normalisation, self._batch_size = normalisation, batch_size

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their titles' likelihood."""
        rankings = []
        for start in range(0, len(queries), self._batch_size):
            chosen = candidates[start : start + self._batch_size]
            reserve = max(self._builder.longest_answer(c.tolist()) for c in chosen)
            prompts = [
                self._builder.build(q.history.tolist(), c.tolist(), reserve)
                for q, c in zip(queries[start : start + self._batch_size], chosen, strict=True)
            ]
            titles = self._builder.titles
            trees = [TitleTree.build([titles[int(i)] for i in c], self._lm.eos_id) for c in chosen]
            with torch.inference_mode():
                rows = title_log_likelihoods(self._lm, splice(prompts, self._lm, None, None), trees)
            for items, row in zip(chosen, rows, strict=True):
                rankings.append(ranking_from_scores(items, normalised(row, self._normalisation)))
        return rankings
