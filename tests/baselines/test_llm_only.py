"""LLM-Only reads the same words without slots, and scores titles as A-LLMRec does."""

from __future__ import annotations

import numpy as np

from allmrec.baselines.llm_only import LLMOnly
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.ranking import Query, Recommender
from allmrec.testing.tiny_lm import tiny_language_model

TITLES = [None, "Heat", "The Matrix", "Alien", None, "Up"]


def test_it_ranks_every_candidate_and_batches_change_nothing() -> None:
    lm = tiny_language_model("opt")
    queries = [Query(np.array([1, 2])), Query(np.array([], dtype=np.int64)), Query(np.array([5]))]
    candidates = [np.array([3, 4, 5]), np.array([1, 2, 3, 5]), np.array([2, 4])]
    together = LLMOnly(lm, TITLES, PromptTemplate(), PromptBudget(), batch_size=3)
    alone = LLMOnly(lm, TITLES, PromptTemplate(), PromptBudget(), batch_size=1)
    assert isinstance(together, Recommender)
    pairs = zip(together.rank(queries, candidates), alone.rank(queries, candidates), candidates, strict=True)
    for found, expected, asked in pairs:
        assert sorted(found.items.tolist()) == sorted(asked.tolist())
        assert found.items.tolist() == expected.items.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
