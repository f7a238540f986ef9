"""Recommenders that answer in words, around a tiny language model and around one whose words are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.recommend.conftest import WORLD, queries, ranker

from allmrec.llm.transformers_lm import TransformersLM
from allmrec.ranking import Query, Ranker
from allmrec.recommend.answering import ConstrainedRecommender, GeneratingRecommender, answers, choices
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.resolve import AnswerStatistics, TitleResolver
from allmrec.testing.tiny_lm import tiny_language_model


def asked(count: int) -> tuple[list[Query], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return queries(count), [rng.permutation(np.arange(1, WORLD.n_items + 1))[: 5 + u % 2] for u in range(count)]


class SayingLM(TransformersLM):
    """A tiny model that says given texts, one a row, in the order in which rows are asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        base = tiny_language_model("llama")
        super().__init__(base.frozen.module, base._tokenizer, "saying")
        self._texts = list(texts)

    def decode(self, embeddings: torch.Tensor, lengths: torch.Tensor, *layout: object) -> Saying:
        rows = [[*self.tokenize(self._texts.pop(0)), self.eos_id] for _ in lengths]
        return Saying(rows)


class Saying:
    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    @property
    def logits(self) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([row[0] for row in self._rows]), 512).float()

    def append(self, tokens: torch.Tensor) -> None:
        self._rows = [row[1:] for row in self._rows]

    def keep(self, rows: torch.Tensor) -> None:
        self._rows = [self._rows[int(row)] for row in rows]


def test_what_follows_a_title_that_was_cut_is_not_counted_against_the_answer() -> None:
    titles = list(WORLD.catalogue.titles)
    titles[3], titles[4] = "A very long title of a film", "A very"
    tiny = tiny_language_model("llama")
    limit = len(tiny.tokenize(" A very long"))
    lm = SayingLM([" A very long journey", " A very", " A very well", " A ver"])
    own = ranker(
        lm, replace(WORLD, catalogue=replace(WORLD.catalogue, titles=tuple(titles))), budget={"title_tokens": limit}
    )
    system = GeneratingRecommender(own, TitleResolver(titles), GenerateConfig(max_new_tokens=40), batch_size=1)
    found = [system.rank([Query(np.array([1, 2]))], [np.array([5, 3, 4])])[0].items.tolist()[:1] for _ in range(4)]
    # The cut title and something else behind it; a whole one; a whole one and something behind it; less than one.
    assert found == [[3], [4], [], []]


def test_the_named_candidate_stands_first_and_no_candidate_is_no_answer() -> None:
    candidates = [np.array(items) for items in ([3, 1, 2], [4, 5, 6], [7, 8, 9], [10, 11, 12])]
    titles = WORLD.catalogue.titles
    texts = [f" {titles[2]}", f" {titles[20]}", f" {titles[7]} and more", f" {titles[10]}"]
    lm = SayingLM(texts)
    system = GeneratingRecommender(ranker(lm), TitleResolver(titles), GenerateConfig(max_new_tokens=30), batch_size=1)
    history = np.array([1, 2])
    found = [system.rank([Query(history)], [items])[0].items.tolist() for items in candidates]
    assert found == [[2, 3, 1], [], [], [10, 11, 12]]
    assert system.statistics == AnswerStatistics(asked=4, in_candidates=2, valid=3, in_catalogue=3)


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_a_constrained_answer_is_a_candidate_and_the_rest_stands_as_given(kind: str) -> None:
    made = ranker(tiny_language_model(kind))
    system = ConstrainedRecommender(made, batch_size=4)
    assert isinstance(system, Ranker)
    queries, candidates = asked(9)
    for query, items, ranking in zip(queries, candidates, system.rank(queries, candidates), strict=True):
        first = items.tolist().index(int(ranking.items[0]))
        assert ranking.items.tolist() == [items[first], *np.delete(items, first)]
        assert choices(made, [query], [items])[0].candidate == first


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_a_batch_is_answered_as_each_query_alone(kind: str) -> None:
    made = ranker(tiny_language_model(kind))
    queries, candidates = asked(6)
    queries, candidates = queries[::2], candidates[::2]
    together = answers(made, queries, candidates, GenerateConfig(repetition_penalty=1.5))
    for query, items, answer in zip(queries, candidates, together, strict=True):
        (alone,) = answers(made, [query], [items], GenerateConfig(repetition_penalty=1.5))
        assert (alone.text, alone.ended) == (answer.text, answer.ended)
        assert len(answer.tokens) + answer.ended <= made.builder.longest_answer(items.tolist())


def test_an_answer_leaves_no_gradient_and_moves_no_weight() -> None:
    made = ranker(tiny_language_model("llama"))
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    queries, candidates = asked(3)
    system = GeneratingRecommender(made, TitleResolver(WORLD.catalogue.titles))
    system.rank(queries, candidates)
    assert isinstance(system, Ranker)
    assert system.statistics.asked == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
