"""`score`: all candidates of a user in one pass over a prefix tree, against one at a time behind a shared cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import numpy_generator
from allmrec.data.build import read_movielens
from allmrec.data.negatives import sample_negatives
from allmrec.data.splitting import leave_one_out
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.prompting.template import DomainWords, PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder
from allmrec.ranking import Query, Ranking

__all__ = ["Workload", "check_same_scores", "movielens_workload", "one_at_a_time"]


@dataclass(frozen=True)
class Workload:
    """SmolLM2 and prompts with 10 history items and 20 candidates of MovieLens-100K, without vectors.

    Attributes:
        lm, builder: the language model, and what makes its prompts.
        tree: `score` on them.
        queries, candidates: one each a user; the first candidate is the target.
    """

    lm: TransformersLM
    builder: PromptBuilder
    tree: LLMOnly
    queries: list[Query]
    candidates: list[np.ndarray]


def movielens_workload(users: int) -> Workload:
    """The first users of a random order."""
    split = leave_one_out(read_movielens(movielens_100k()))
    rng = numpy_generator(0, "benchmark")
    chosen = rng.permutation(split.dataset.n_users)[:users]
    negatives = sample_negatives(split.dataset, chosen, 19, rng)
    lm = load_language_model("smollm2-135m-instruct")
    template = PromptTemplate(words=DomainWords(verb="watch", past="watched", noun="movie"))
    titles, budget = split.dataset.catalogue.titles, PromptBudget()
    return Workload(
        lm=lm,
        builder=PromptBuilder(template.without_vectors(), budget, lm, titles),
        tree=LLMOnly(lm, titles, template, budget),
        queries=[Query(split.test_history(int(u)), int(u)) for u in chosen],
        candidates=list(np.concatenate([split.test[chosen][:, None], negatives], axis=1)),
    )


def check_same_scores(ours: list[Ranking], theirs: list[list[float]], candidates: list[np.ndarray]) -> None:
    """Both must have computed the same."""
    for ranking, scores, items in zip(ours, theirs, candidates, strict=True):
        expected = dict(zip(items.tolist(), scores, strict=True))
        np.testing.assert_allclose(ranking.scores, [expected[int(i)] for i in ranking.items], atol=1e-3)


def one_at_a_time(
    lm: TransformersLM, builder: PromptBuilder, queries: list[Query], candidates: list[np.ndarray]
) -> list[list[float]]:
    """The comparator: the prompt once, then each title alone behind its cache, logits at the title's places only."""
    model = lm.frozen.module
    results = []
    with torch.inference_mode():
        for query, items in zip(queries, candidates, strict=True):
            prompt = torch.from_numpy(builder.build(query.history.tolist(), items.tolist(), 32).ids)[None]
            cache = DynamicCache(config=model.config)
            last = model.base_model(input_ids=prompt, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
            scores = []
            for item in items.tolist():
                title = [*builder.titles[item], lm.eos_id]
                states = last
                if len(title) > 1:
                    ids = torch.tensor([title[:-1]])
                    output = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
                    states = torch.cat([last, output.last_hidden_state], dim=1)
                    cache.crop(1 - len(title))
                steps = torch.log_softmax(lm.logits(states[0]), dim=-1)
                scores.append(float(steps[torch.arange(len(title)), torch.tensor(title)].sum()))
            results.append(scores)
    return results
