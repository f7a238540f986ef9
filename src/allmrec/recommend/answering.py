"""Recommenders that answer in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.prompting.tokenising import TitleTokens
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.alike import prompts_alike
from allmrec.recommend.generate import (
    Answer,
    Choice,
    GenerateConfig,
    constrained_choices,
    greedy_answers,
)
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.resolve import AnswerStatistics, TitleResolver
from allmrec.recommend.score import TitleTree

__all__ = ["ConstrainedRecommender", "GeneratingRecommender", "answer_words", "answers", "choices"]


def answers(
    ranker: PromptedRanker,
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    config: GenerateConfig,
) -> list[Answer]:
    """What the language model writes for each query; every query needs the same number of candidates."""
    builder = ranker.builder
    limits = [config.max_new_tokens or builder.longest_answer(c.tolist()) for c in candidates]
    return greedy_answers(ranker.lm, _spliced(ranker, queries, candidates, limits), limits, config.repetition_penalty)


def choices(
    ranker: PromptedRanker, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
) -> list[Choice]:
    """Which candidate the language model writes when it may write nothing else; as many candidates for every query."""
    builder = ranker.builder
    trees = [TitleTree.build([builder.titles[int(i)] for i in c], ranker.lm.eos_id) for c in candidates]
    limits = [builder.longest_answer(c.tolist()) for c in candidates]
    return constrained_choices(ranker.lm, _spliced(ranker, queries, candidates, limits), trees)


def answer_words(lm: LanguageModel, answer: Answer, titles: TitleTokens, items: Sequence[int]) -> str:
    """What an answer says, without what follows a candidate's title that was cut.

    Of such a title the prompt shows the beginning alone. Nothing tells the language model whether the title's end comes
    next, so whatever it writes there is not counted against it. What follows a whole title is.

    Args:
        lm: the language model that wrote it.
        answer: the answer.
        titles: as the prompt shows them.
        items: the candidates.
    """
    for item in items:
        tokens = titles[item]
        if titles.was_cut(item) and answer.tokens[: len(tokens)] == tokens:
            return lm.detokenize(tokens)
    return answer.text


class GeneratingRecommender:
    """Answers in words, as the paper's model does, and counts what is no candidate's title as no answer.

    Its ranking is the candidate that it named and then the others in the order in which they were given, which says
    nothing: Hit@1 is its figure, Hit@k above 1 means nothing for it. Where the answer names no candidate the ranking is
    empty, a miss at every k.

    Args:
        ranker: stage 2 with the frozen parts around it.
        resolver: knows the catalogue's titles.
        config: how to decode.
        name: what a table calls it.
        batch_size: queries that are decoded together.
    """

    def __init__(
        self,
        ranker: PromptedRanker,
        resolver: TitleResolver,
        config: GenerateConfig | None = None,
        name: str = "A-LLMRec (generate)",
        batch_size: int = 8,
    ) -> None:
        self._ranker, self._resolver = ranker, resolver
        self._config, self._name, self._batch_size = config or GenerateConfig(), name, batch_size
        self._statistics = AnswerStatistics()
        ranker.eval()

    @property
    def name(self) -> str:
        return self._name

    @property
    def statistics(self) -> AnswerStatistics:
        """What the answers so far named."""
        return self._statistics

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """One answer a query as a ranking."""
        ranker = self._ranker
        rankings: dict[int, Ranking] = {}
        for numbers in prompts_alike(ranker, queries, candidates, self._batch_size):
            chosen = [candidates[n] for n in numbers]
            for n, answer in zip(
                numbers, answers(ranker, [queries[n] for n in numbers], chosen, self._config), strict=True
            ):
                items = candidates[n].tolist()
                shown = [ranker.lm.detokenize(ranker.builder.titles[item]) for item in items]
                words = answer_words(ranker.lm, answer, ranker.builder.titles, items)
                resolution = self._resolver.resolve(words, items, shown)
                self._statistics += AnswerStatistics.of([resolution])
                found = items.index(resolution.item) if resolution.kind == "candidate" else None
                rankings[n] = _ranking(candidates[n], found)
        return [rankings[n] for n in range(len(queries))]


class ConstrainedRecommender:
    """Answers in words that are always a candidate's title, by decoding along the candidates' titles.

    Its ranking is the candidate that it named and then the others in the order in which they were given: Hit@1 is its
    figure, Hit@k above 1 means nothing for it.

    Args:
        ranker: stage 2 with the frozen parts around it.
        name: what a table calls it.
        batch_size: queries that are decoded together.
    """

    def __init__(self, ranker: PromptedRanker, name: str = "A-LLMRec (constrained)", batch_size: int = 8) -> None:
        self._ranker, self._name, self._batch_size = ranker, name, batch_size
        ranker.eval()

    @property
    def name(self) -> str:
        return self._name

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """One answer a query as a ranking."""
        rankings: dict[int, Ranking] = {}
        for numbers in prompts_alike(self._ranker, queries, candidates, self._batch_size):
            chosen = choices(self._ranker, [queries[n] for n in numbers], [candidates[n] for n in numbers])
            for n, choice in zip(numbers, chosen, strict=True):
                rankings[n] = _ranking(candidates[n], choice.candidate)
        return [rankings[n] for n in range(len(queries))]


def _ranking(items: Int[np.ndarray, " candidates"], first: int | None) -> Ranking:
    """The answer, then the rest as given; nothing where there is no answer."""
    if first is None:
        return Ranking(items[:0], np.empty(0, dtype=np.float32))
    return ranking_from_scores(items, (np.arange(len(items)) == first).astype(np.float32))


def _spliced(
    ranker: PromptedRanker,
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    reserves: Sequence[int],
) -> SplicedPrompts:
    """Each prompt with room for its own answer, whatever its neighbours in the batch need."""
    prompts = [
        ranker.builder.build(query.history.tolist(), items.tolist(), reserve)
        for query, items, reserve in zip(queries, candidates, reserves, strict=True)
    ]
    with torch.inference_mode():
        return ranker.spliced(prompts, ranker.user_states(queries))
