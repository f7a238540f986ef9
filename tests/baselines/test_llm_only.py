"""LLM-Only reads the same words without slots, and scores titles as A-LLMRec does."""

from __future__ import annotations

import numpy as np
import pytest

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.errors import ConfigError
from allmrec.prompting.questions import PROFILE
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.ranking import Query, Ranker
from allmrec.recommend.explain import ExplainConfig, Explainer, PromptReader
from allmrec.testing.tiny_lm import tiny_language_model

TITLES = [None, "Heat", "The Matrix", "Alien", None, "Up"]


def test_it_ranks_every_candidate_and_batches_change_nothing() -> None:
    lm = tiny_language_model("opt")
    queries = [Query(np.array([1, 2])), Query(np.array([], dtype=np.int64)), Query(np.array([5]))]
    candidates = [np.array([3, 4, 5]), np.array([1, 2, 3, 5]), np.array([2, 4])]
    together = LLMOnly(lm, TITLES, PromptTemplate(), PromptBudget(), batch_size=3)
    alone = LLMOnly(lm, TITLES, PromptTemplate(), PromptBudget(), batch_size=1)
    assert isinstance(together, Ranker)
    pairs = zip(together.rank(queries, candidates), alone.rank(queries, candidates), candidates, strict=True)
    for found, expected, asked in pairs:
        assert sorted(found.items.tolist()) == sorted(asked.tolist())
        assert found.items.tolist() == expected.items.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["paper", "copy"])
def test_asked_in_words_it_reads_the_same_question_without_slots(form: str) -> None:
    lm = tiny_language_model("opt")
    model = LLMOnly(lm, TITLES, PromptTemplate.model_validate({"form": form}), PromptBudget())
    assert isinstance(model, PromptReader)
    queries, config = [Query(np.array([1, 2])), Query(np.array([5]), 3)], ExplainConfig(max_new_tokens=6)
    explainer = Explainer(model, PROFILE, config)
    said = explainer.texts(queries)
    assert any(said)
    assert said == ["".join(explainer.stream(query)) for query in queries]
    history = [
        token for n in (1, 2) for token in [*([] if n == 1 else lm.tokenize(",")), *lm.tokenize(f" {TITLES[n]}")]
    ]
    prompt = [
        *lm.prefix_ids, *lm.tokenize("This user has used ["), *history,
        *lm.tokenize("] in the past. Specify the genres this user would like to use. The genres are:"),
    ]  # fmt: skip
    assert explainer._builder.build([1, 2], [], 6).ids.tolist() == prompt
    with pytest.raises(ConfigError, match="words alone"):
        explainer.texts(queries, shuffle=np.random.default_rng(0))
