"""LLM-Only: the paper's prompt without user and item vectors, nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.splicing import SplicedPrompts, splice
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder, TitleTokens, TokenisedPrompt
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.language_ranker import Normalisation, normalised
from allmrec.recommend.prompt_config import check_template
from allmrec.recommend.score import TitleTree, mean_title_loss, title_log_likelihoods

__all__ = ["LLMOnly"]


class LLMOnly:
    """The language model reads the same words as A-LLMRec, without `O_u` and `O_i` (paper, section 4.1).

    The paper decodes greedily and counts exact titles; here every candidate's title is scored, so that LLM-Only always
    ranks and is evaluated by the same metrics as the rest.

    Args:
        lm: the language model.
        titles: by item number, entry 0 unused.
        template, budget: the prompt; slots are taken out of the template.
        normalisation: how token log-probabilities become one score.
        batch_size: queries in a forward pass.

    Raises:
        ConfigError: the language model cannot read such prompts.
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
        check_template(lm, template.without_vectors())
        self._lm = lm
        self._builder = PromptBuilder(template.without_vectors(), budget, lm, titles)
        self._normalisation, self._batch_size = normalisation, batch_size

    @property
    def lm(self) -> LanguageModel:
        """The language model."""
        return self._lm

    @property
    def builder(self) -> PromptBuilder:
        """Builds its prompts."""
        return self._builder

    @property
    def titles(self) -> TitleTokens:
        """The catalogue's titles as the prompts show them."""
        return self._builder.titles

    def embedded(self, prompts: Sequence[TokenisedPrompt], queries: Sequence[Query]) -> SplicedPrompts:
        """Prompts as the language model reads them: words alone, the same for whomever they are."""
        return splice(prompts, self._lm, None, None)

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their titles' likelihood."""
        rankings = []
        for start in range(0, len(queries), self._batch_size):
            chosen = candidates[start : start + self._batch_size]
            with torch.inference_mode():
                rows = self.title_likelihoods(queries[start : start + self._batch_size], chosen)
            for items, row in zip(chosen, rows, strict=True):
                rankings.append(ranking_from_scores(items, normalised(row, self._normalisation)))
        return rankings

    def title_likelihoods(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[Tensor, "_titles _tokens"]]:
        """Log-probability of each token of each candidate's title, all queries in one forward pass."""
        titles = self._builder.titles
        prompts = self._prompts(queries, candidates, max(self._builder.longest_answer(c.tolist()) for c in candidates))
        trees = [TitleTree.build([titles[int(i)] for i in c], self._lm.eos_id) for c in candidates]
        return title_log_likelihoods(self._lm, splice(prompts, self._lm, None, None), trees)

    def title_loss(
        self,
        queries: Sequence[Query],
        candidates: Sequence[Int[np.ndarray, " _candidates"]],
        targets: Int[np.ndarray, " batch"],
    ) -> Float[Tensor, ""]:
        """The paper's loss, cross-entropy on the tokens of the target's title and its EOS; what adapters are trained on.

        Args:
            queries, candidates: the batch.
            targets: place of the target among each query's candidates.
        """
        items = [int(c[t]) for c, t in zip(candidates, targets, strict=True)]
        answers = [[*self._builder.titles[i], self._lm.eos_id] for i in items]
        prompts = self._prompts(queries, candidates, max(map(len, answers)))
        spliced = splice(prompts, self._lm, None, None, [a[:-1] for a in answers])
        hidden = self._lm.hidden(spliced.embeddings, None, spliced.positions)
        return mean_title_loss(self._lm, hidden, [len(p) for p in prompts], answers)

    def _prompts(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]], reserve: int
    ) -> list[TokenisedPrompt]:
        """Prompts, one a query. Nothing is read at candidates' places, so a batch may mix numbers of candidates."""
        pairs = zip(queries, candidates, strict=True)
        built = [self._builder.build(q.history.tolist(), c.tolist(), reserve) for q, c in pairs]
        return [replace(prompt, candidates_at=np.empty(0, dtype=np.int64)) for prompt in built]
