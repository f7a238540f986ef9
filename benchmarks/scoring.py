"""`score`: all candidates of a user in one pass over a prefix tree, against one at a time behind a shared cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import numpy_generator
from allmrec.data.build import read_movielens
from allmrec.data.negatives import sample_negatives
from allmrec.data.splitting import leave_one_out
from allmrec.llm.masks import additive_mask
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.prompting.questions import DomainWords
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder
from allmrec.ranking import Query, Ranking
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["Workload", "check_same_scores", "movielens_workload", "one_at_a_time", "spliced_one_at_a_time"]


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
    lm = load_language_model("smollm2-135m-instruct", precision="float32")
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
            last = model.base_model(input_ids=prompt, past_key_values=cache, use_cache=True).last_hidden_state[0, -1:]
            titles = [builder.titles[item] for item in items.tolist()]
            results.append(_titles_alone(lm, cache, last, prompt.shape[1], titles))
    return results


def spliced_one_at_a_time(
    ranker: PromptedRanker, queries: Sequence[Query], candidates: Sequence[np.ndarray]
) -> list[list[float]]:
    """The same comparator for prompts with vectors in their slots, whose candidates may be read in parallel."""
    lm = ranker.lm
    model = lm.frozen.module
    results = []
    with torch.inference_mode():
        states = ranker.user_states(queries)
        reserve = max(ranker.builder.longest_answer(items.tolist()) for items in candidates)
        prompts = ranker.prompts(queries, candidates, reserve)
        for row, (prompt, items) in enumerate(zip(prompts, candidates, strict=True)):
            spliced = ranker.spliced([prompt], states[row : row + 1])
            embeddings, visible = spliced.embeddings, spliced.visible
            cache = DynamicCache(config=model.config)
            output = model.base_model(
                inputs_embeds=embeddings,
                attention_mask=None if visible is None else additive_mask(visible, embeddings),
                position_ids=spliced.positions,
                past_key_values=cache,
                use_cache=True,
            )
            titles = [ranker.builder.titles[item] for item in items.tolist()]
            results.append(_titles_alone(lm, cache, output.last_hidden_state[0, -1:], int(spliced.ends[0]) + 1, titles))
    return results


def _titles_alone(
    lm: TransformersLM,
    cache: DynamicCache,
    last: Float[Tensor, "1 hidden"],
    begin: int,
    titles: Sequence[Sequence[int]],
) -> list[float]:
    """Log-likelihood of each title and its end, one after the other behind a prompt's cache, which is left as it was.

    Args:
        lm: the language model.
        cache: of the prompt.
        last: the hidden state at the prompt's end.
        begin: the position number of a title's first token.
        titles: tokens without the end.
    """
    scores = []
    for title in titles:
        states = last
        if title:
            positions = torch.arange(begin, begin + len(title), device=lm.device)
            output = lm.frozen.module.base_model(
                input_ids=torch.tensor([title], device=lm.device),
                position_ids=positions[None],
                past_key_values=cache,
                use_cache=True,
            )
            states = torch.cat([last, output.last_hidden_state[0]])
            cache.crop(-len(title))
        steps = torch.log_softmax(lm.logits(states).float(), dim=-1)
        said = torch.tensor([*title, lm.eos_id], device=lm.device)
        scores.append(float(steps.gather(1, said[:, None]).sum()))
    return scores
