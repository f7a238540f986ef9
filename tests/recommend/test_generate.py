"""Decoded answers: by hand, against transformers' own greedy search, against a plain walk; always a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.llm.language_model import LanguageModel
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.recommend.generate import constrained_choices, greedy_answers, greedy_tokens
from allmrec.recommend.score import TitleTree, title_log_likelihoods
from allmrec.testing.tiny_lm import tiny_language_model

EOS = 2
LMS = {kind: tiny_language_model(kind) for kind in ("opt", "llama")}
Script = Mapping[tuple[int, ...], Mapping[int, float]]


class ScriptedLM(TransformersLM):
    """A tiny model whose decoding is written down: the next token's probabilities after each beginning, by row."""

    def __init__(self, *scripts: Script) -> None:
        base = LMS["llama"]
        super().__init__(base.frozen.module, base._tokenizer, "scripted")
        self._scripts = scripts

    def decode(self, embeddings: torch.Tensor, lengths: torch.Tensor, *layout: object) -> ScriptedDecoding:
        # A row's first embedding holds its number, so that a script follows its row wherever that stands.
        return ScriptedDecoding([self._scripts[int(row)] for row in embeddings[:, 0, 0]])


class ScriptedDecoding:
    def __init__(self, scripts: Sequence[Script]) -> None:
        self._rows = [(script, ()) for script in scripts]

    @property
    def logits(self) -> torch.Tensor:
        logits = torch.full((len(self._rows), 12), -torch.inf)
        for place, (script, said) in enumerate(self._rows):
            for token, probability in script[said].items():
                logits[place, token] = math.log(probability)
        return logits

    def append(self, tokens: torch.Tensor) -> None:
        self._rows = [(s, (*said, int(token))) for (s, said), token in zip(self._rows, tokens, strict=True)]

    def keep(self, rows: torch.Tensor) -> None:
        self._rows = [self._rows[int(row)] for row in rows]


def spliced(lengths: Sequence[int], dim: int, scale: float = 0.2, seed: int = 0) -> SplicedPrompts:
    """Random prompts; a row's first component is its number."""
    rows, tokens = len(lengths), max(lengths)
    embeddings = torch.randn(rows, tokens, dim, generator=torch.Generator().manual_seed(seed)) * scale
    embeddings[:, 0, 0] = torch.arange(float(rows))
    return SplicedPrompts(
        embeddings=embeddings,
        positions=torch.arange(tokens).expand(rows, tokens),
        lengths=torch.tensor(lengths),
        user_at=torch.full((rows,), -1),
        history_at=torch.zeros(rows, tokens, dtype=torch.bool),
        candidates_at=torch.zeros(rows, 0, dtype=torch.long),
    )


def row_of(prompts: SplicedPrompts, row: int) -> SplicedPrompts:
    length = int(prompts.lengths[row])
    one = slice(row, row + 1)
    return SplicedPrompts(
        prompts.embeddings[one, :length], prompts.positions[one, :length], prompts.lengths[one], prompts.user_at[one],
        prompts.history_at[one, :length], prompts.candidates_at[one],
    )  # fmt: skip


def test_greedy_answers_by_hand() -> None:
    ends = {(): {5: 0.6, 6: 0.4}, (5,): {7: 0.5, EOS: 0.3, 5: 0.2}, (5, 7): {EOS: 0.9, 5: 0.1}}
    empty = {(): {EOS: 1.0}}
    endless = {(8,) * n: {8: 0.5, 9: 0.5 - 0.1 * n, EOS: 0.1 * n} for n in range(1, 5)} | {(): {8: 0.7, 9: 0.3}}
    lm = ScriptedLM(ends, empty, endless)
    found = greedy_answers(lm, spliced([3, 4, 2], lm.dim), [4, 4, 3])
    assert [answer.tokens for answer in found] == [(5, 7), (), (8, 8, 8)]
    assert [answer.ended for answer in found] == [True, True, False]
    expected = [math.log(0.6 * 0.5 * 0.9), 0.0, math.log(0.7 * 0.5 * 0.5)]
    np.testing.assert_allclose([answer.log_probability for answer in found], expected, atol=1e-5)
    assert found[0].text == lm.detokenize([5, 7])


def test_the_limit_counts_the_end() -> None:
    script = {(): {5: 1.0}, (5,): {EOS: 1.0}}
    lm = ScriptedLM(script, script)
    cut, whole = greedy_answers(lm, spliced([3, 3], lm.dim), [1, 2])
    assert (cut.tokens, cut.ended) == ((5,), False)
    assert (whole.tokens, whole.ended) == ((5,), True)


def test_a_row_that_has_ended_is_not_computed_any_more() -> None:
    lm = ScriptedLM({(): {EOS: 1.0}}, {(): {5: 1.0}, (5,): {6: 1.0}, (5, 6): {EOS: 1.0}})
    steps = list(greedy_tokens(lm, spliced([2, 2], lm.dim), [9, 9]))
    assert [[(row, token) for row, token, _ in step] for step in steps] == [
        [(0, EOS), (1, 5)],
        [(1, 6)],
        [(1, EOS)],
    ]


def test_a_penalty_keeps_from_saying_a_thing_twice() -> None:
    # Log-probabilities are negative, so the penalty multiplies: log 0.6 · 2 = log 0.36 falls behind 0.4.
    script = {(): {5: 1.0}, (5,): {5: 0.6, 7: 0.4}, (5, 5): {EOS: 1.0}, (5, 7): {EOS: 1.0}}
    lm = ScriptedLM(script)
    (plain,) = greedy_answers(lm, spliced([2], lm.dim), [5], 1.0)
    (penalised,) = greedy_answers(lm, spliced([2], lm.dim), [5], 2.0)
    assert (plain.tokens, penalised.tokens) == ((5, 5), (5, 7))
    assert penalised.log_probability == pytest.approx(math.log(0.4), abs=1e-5)


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`:UserWarning")
@pytest.mark.parametrize("kind", ["opt", "llama"])
@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_against_transformers_greedy_search(kind: str, penalty: float) -> None:
    lm = LMS[kind]
    prompts = spliced([9, 4, 6], lm.dim, scale=lm.embedding_scale)
    found = greedy_answers(lm, prompts, [12, 12, 12], penalty)
    for row, answer in enumerate(found):
        written = lm.frozen.module.generate(
            inputs_embeds=row_of(prompts, row).embeddings,
            attention_mask=torch.ones(1, int(prompts.lengths[row]), dtype=torch.long),
            do_sample=False,
            repetition_penalty=penalty,
            max_new_tokens=12,
        )[0].tolist()
        assert [*answer.tokens, *([EOS] if answer.ended else [])] == written


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_a_batch_answers_as_each_row_alone_and_as_a_plain_loop(kind: str) -> None:
    lm = LMS[kind]
    prompts = spliced([3, 17, 8, 12], lm.dim, scale=lm.embedding_scale, seed=4)
    limits = [2, 9, 6, 9]
    together = greedy_answers(lm, prompts, limits, 1.3)
    for row, answer in enumerate(together):
        (alone,) = greedy_answers(lm, row_of(prompts, row), limits[row : row + 1], 1.3)
        assert (alone.tokens, alone.ended) == (answer.tokens, answer.ended)
        assert alone.log_probability == pytest.approx(answer.log_probability, abs=1e-4)
        steps = [step_log_probabilities(lm, row_of(prompts, row), answer.tokens[:n]) for n in range(len(answer.tokens))]
        plain = sum(float(step[token]) for step, token in zip(steps, answer.tokens, strict=True))
        if not answer.ended:
            assert answer.log_probability == pytest.approx(plain, abs=1e-4)


def step_log_probabilities(lm: LanguageModel, row: SplicedPrompts, said: Sequence[int]) -> torch.Tensor:
    """The next token's log-probabilities, everything read anew."""
    read = torch.cat([row.embeddings[0], lm.embed(torch.tensor(said, dtype=torch.long))])[None]
    with torch.no_grad():
        hidden = lm.hidden(read, None, torch.arange(read.shape[1])[None])
        return lm.logits(hidden[0, -1:])[0].log_softmax(dim=-1)


def plain_walk(
    lm: LanguageModel, row: SplicedPrompts, titles: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], float]:
    """The obviously right version: all titles that go on from what was said, the likeliest next token, again."""
    said: tuple[int, ...] = ()
    total = 0.0
    while True:
        ended = [(*title, EOS) for title in titles]
        allowed = sorted({title[len(said)] for title in ended if title[: len(said)] == said})
        steps = step_log_probabilities(lm, row, said)[allowed].log_softmax(dim=-1)
        best = int(steps.argmax())
        total += float(steps[best])
        if allowed[best] == EOS:
            return said, total
        said = (*said, allowed[best])


def test_a_walk_by_hand() -> None:
    titles = [(9,), (5, 6, 7), (5, 6), (5, 8), (5, 6)]
    # 4 is likelier than all, but no title has it; at (5, 6) a title ends and another goes on.
    script = {
        (): {4: 0.7, 9: 0.1, 5: 0.2},
        (5,): {6: 0.3, 8: 0.1, EOS: 0.6},
        (5, 6): {EOS: 0.4, 7: 0.1, 6: 0.5},
    }
    lm = ScriptedLM(script)
    (choice,) = constrained_choices(lm, spliced([3], lm.dim), [TitleTree.build(titles, EOS)])
    assert choice.candidate == 2
    assert choice.log_probability == pytest.approx(math.log(2 / 3 * 3 / 4 * 4 / 5), abs=1e-5)


def test_a_walk_is_greedy_and_may_miss_the_likeliest_title() -> None:
    script = {(): {5: 0.6, 9: 0.4}, (5,): {6: 0.5, 7: 0.5}, (9,): {EOS: 1.0}}
    lm = ScriptedLM(script)
    (choice,) = constrained_choices(lm, spliced([3], lm.dim), [TitleTree.build([(9,), (5, 6), (5, 7)], EOS)])
    assert choice.candidate == 1


def test_what_is_certain_is_not_read() -> None:
    # The scripts say nothing after the decision, so reading on would be a KeyError.
    lm = ScriptedLM({(): {5: 0.9, 6: 0.1}}, {})
    trees = [TitleTree.build([(6, 7, 8), (5, 7, 8)], EOS), TitleTree.build([(5, 6), (5, 6)], EOS)]
    first, second = constrained_choices(lm, spliced([3, 3], lm.dim), trees)
    assert (first.candidate, second.candidate) == (1, 0)
    assert second.log_probability == 0.0


@given(
    titles=st.lists(st.lists(st.integers(3, 6), max_size=4).map(tuple), min_size=1, max_size=6),
    others=st.lists(st.lists(st.integers(3, 6), max_size=4).map(tuple), min_size=1, max_size=6),
    kind=st.sampled_from(["opt", "llama"]),
    seed=st.integers(0, 5),
)
def test_a_walk_ends_at_a_candidate_and_equals_the_plain_walk(
    titles: list[tuple[int, ...]], others: list[tuple[int, ...]], kind: str, seed: int
) -> None:
    lm = LMS[kind]
    prompts = spliced([7, 4], lm.dim, scale=lm.embedding_scale, seed=seed)
    candidates = [titles, others]
    found = constrained_choices(lm, prompts, [TitleTree.build(c, EOS) for c in candidates])
    for row, (choice, own) in enumerate(zip(found, candidates, strict=True)):
        expected, total = plain_walk(lm, row_of(prompts, row), own)
        assert own[choice.candidate] == expected
        assert own.index(expected) == choice.candidate
        assert choice.log_probability == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_a_walk_agrees_with_the_scored_steps(kind: str) -> None:
    """`score` computes every step of every title in one pass; walking over those must end at the same title."""
    lm = LMS[kind]
    titles = [tuple(lm.tokenize(" " + title)) for title in ("Heat", "Heat 2", "The Mask", "The Matrix", "Alien", "Up")]
    prompts = spliced([5, 9, 3], lm.dim, scale=lm.embedding_scale, seed=2)
    trees = [TitleTree.build(titles, EOS)] * 3
    found = constrained_choices(lm, prompts, trees)
    with torch.no_grad():
        scored = title_log_likelihoods(lm, prompts, trees)
    for choice, steps in zip(found, scored, strict=True):
        left = list(range(len(titles)))
        for place in range(steps.shape[1]):
            best = max(left, key=lambda title: float(steps[title, place]))
            token = (*titles[best], EOS)[place]
            left = [t for t in left if len(titles[t]) >= place and (*titles[t], EOS)[place] == token]
            if len(left) == 1:
                break
        assert left == [choice.candidate]
