"""Explanations: pieces join to the whole text, a batch says what one alone is told, shuffled vectors really change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.recommend.conftest import queries, ranker

from allmrec.core.errors import ConfigError
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.questions import PROFILE, REASON
from allmrec.ranking import Query
from allmrec.recommend.explain import ExplainConfig, Explainer, text_pieces
from allmrec.testing.tiny_lm import tiny_language_model

LMS = {kind: tiny_language_model(kind) for kind in ("opt", "llama")}


@given(text=st.text(max_size=12), kind=st.sampled_from(["opt", "llama"]))
def test_pieces_join_to_the_text_and_hold_whole_characters(text: str, kind: str) -> None:
    lm = LMS[kind]
    pieces = list(text_pieces(lm, lm.tokenize(text)))
    assert "".join(pieces) == lm.detokenize(lm.tokenize(text))
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_of_several_tokens_is_held_back_until_it_is_whole() -> None:
    lm = LMS["llama"]
    tokens = lm.tokenize("a 七!")
    assert len(tokens) > 4
    assert list(text_pieces(lm, tokens))[-2:] == ["七", "!"]
    # Cut in the middle of the character nothing more can come, so what there is is said.
    assert "".join(text_pieces(lm, tokens[:3])) == lm.detokenize(tokens[:3])


@pytest.mark.parametrize("kind", ["opt", "llama"])
@pytest.mark.parametrize("config", [{}, {"user_vector": False, "item_vectors": False}])
def test_a_stream_says_what_the_batch_says(kind: str, config: dict[str, object]) -> None:
    explainer = Explainer(ranker(LMS[kind], **config), config=ExplainConfig(max_new_tokens=9))
    asked, items = queries(5), [3, 9, 1, 30, 12]
    together = explainer.texts(asked, items, batch_size=3)
    assert together == ["".join(explainer.stream(query, item)) for query, item in zip(asked, items, strict=True)]
    assert any(together)


@pytest.mark.parametrize(
    "config", [{}, {"template": {"form": "copy"}}, {"template": {"form": "copy"}, "user_vector": False}]
)
def test_a_stream_about_the_user_says_what_the_batch_says(config: dict[str, object]) -> None:
    explainer = Explainer(ranker(LMS["opt"], **config), PROFILE, ExplainConfig(max_new_tokens=9))
    asked = queries(6)
    together = explainer.texts(asked, batch_size=4)
    assert together == ["".join(explainer.stream(query)) for query in asked]
    assert any(together)


def test_a_question_of_an_item_needs_one_and_one_of_the_user_none() -> None:
    made = ranker(LMS["opt"])
    with pytest.raises(ValueError, match="came with item None"):
        Explainer(made).texts(queries(2))
    with pytest.raises(ValueError, match="came with item 3"):
        next(Explainer(made, PROFILE).stream(queries(1)[0], 3))


def test_a_stream_leaves_the_consumers_gradients_alone() -> None:
    stream = Explainer(ranker(LMS["llama"])).stream(queries(1)[0], 3)
    next(stream)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.ones(1, requires_grad=True).mul(2).requires_grad


class Recording(TransformersLM):
    """A tiny model that keeps what it was given to go on from, and says a given text."""

    def __init__(self, text: str = "") -> None:
        base = LMS["llama"]
        super().__init__(base.frozen.module, base._tokenizer, "recording")
        self.prompts: list[torch.Tensor] = []
        self._text = text

    def decode(self, embeddings: torch.Tensor, lengths: torch.Tensor, *layout: object) -> Saying:
        self.prompts += [row[:length].clone() for row, length in zip(embeddings, lengths.tolist(), strict=True)]
        return Saying([*self.tokenize(self._text), self.eos_id], len(lengths))


class Saying:
    def __init__(self, tokens: Sequence[int], rows: int) -> None:
        self._tokens, self._rows = list(tokens), rows

    @property
    def logits(self) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([self._tokens[0]] * self._rows), 512).float() - 1

    def append(self, tokens: torch.Tensor) -> None:
        self._tokens = self._tokens[1:]

    def keep(self, rows: torch.Tensor) -> None:
        self._rows = len(rows)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (" Drama, war\nand more", "Drama, war"),
        ("\n \n Drama \n", "Drama "),
        ("  Émile 七人", "Émile 七人"),
        ("\n\n", ""),
        ("", ""),
    ],
)
def test_the_first_line_that_says_anything_is_the_answer(said: str, expected: str) -> None:
    explainer = Explainer(ranker(Recording(said)), config=ExplainConfig(repetition_penalty=1.0))
    assert explainer.texts(queries(1), [3]) == [expected]
    assert "".join(explainer.stream(queries(1)[0], 3)) == expected


def test_the_prompt_holds_the_question_and_the_vectors() -> None:
    lm = Recording()
    made = ranker(lm)
    query = Query(np.array([4, 7]))
    Explainer(made, REASON).texts([query], [9])
    builder = made.builder
    words = lm.tokenize
    expected = [
        0, *words(" is a user representation. This user has used ["), *builder.titles[4], 0, *words(","),
        *builder.titles[7], 0, *words("] in the past. The item"), *builder.titles[9], 0,
        *words(" is recommended to this user. This item fits this user because"),
    ]  # fmt: skip
    embeddings = lm.embed(torch.tensor(expected))
    slots = [n for n, token in enumerate(expected) if token == 0]
    with torch.no_grad():
        embeddings[slots[0]] = made.users(made.user_states([query]))[0]
        embeddings[slots[1:]] = made.items(made.joint.vectors()[[4, 7, 9]])
    torch.testing.assert_close(lm.prompts[0], embeddings, atol=1e-5, rtol=0)


def test_the_prompt_about_the_user_holds_the_history_and_no_other_item() -> None:
    lm = Recording()
    made = ranker(lm, template={"form": "copy"})
    query = Query(np.array([4, 7]))
    Explainer(made, PROFILE).texts([query])
    titles, words = made.builder.titles, lm.tokenize
    expected = [
        0, *words(" is a user representation. This user has used ["), 0, *titles[4], *words(","), 0, *titles[7],
        *words("] in the past. Specify the genres this user would like to use. The genres are:"),
    ]  # fmt: skip
    embeddings = lm.embed(torch.tensor(expected))
    slots = [n for n, token in enumerate(expected) if token == 0]
    with torch.no_grad():
        embeddings[slots[0]] = made.users(made.user_states([query]))[0]
        embeddings[slots[1:]] = made.items(made.joint.vectors()[[4, 7]])
    torch.testing.assert_close(lm.prompts[0], embeddings, atol=1e-5, rtol=0)


@pytest.mark.parametrize("slots", ["counts", "both", "gate"])
def test_exchanged_items_carry_all_that_another_items_slot_carries(slots: str) -> None:
    lm = Recording()
    made = ranker(lm, slots=slots)
    asked = [Query(np.array([n, n + 1]), n) for n in range(1, 5)]
    Explainer(made, PROFILE).texts(asked, shuffle=np.random.default_rng(0))
    with torch.no_grad():
        contents = made.items(made.slots(made.slot_table(made.joint)))
    assert len({len(prompt) for prompt in lm.prompts}) == 1  # so they come in the order of the queries
    for query, prompt in zip(asked, lm.prompts, strict=True):
        distances = torch.cdist(contents[1:], prompt, compute_mode="donot_use_mm_for_euclid_dist")
        found = [int(item) + 1 for item, near in enumerate(distances.min(dim=1).values) if near < 1e-4]
        assert len(found) == 2
        assert not set(found) & set(query.history.tolist())


def test_shuffled_vectors_are_all_others_and_the_words_stay() -> None:
    lm = Recording()
    explainer = Explainer(ranker(lm))
    asked, items = [Query(np.array([n, n + 1]), n) for n in range(1, 5)], [9, 10, 11, 12]
    explainer.texts(asked, items)
    explainer.texts(asked, items, shuffle=np.random.default_rng(0))
    own, shuffled = lm.prompts[:4], lm.prompts[4:]
    for first, second in zip(own, shuffled, strict=True):
        changed = (first != second).any(dim=1)
        assert int(changed.sum()) == 4  # the user, two items of the history and the item itself
        assert changed[0]
    # Nobody's vector is lost or given twice.
    distances = torch.cdist(torch.stack([p[0] for p in shuffled]), torch.stack([p[0] for p in own]))
    assert sorted((distances < 1e-4).int().argmax(dim=1).tolist()) == [0, 1, 2, 3]


def test_one_alone_has_nobody_to_exchange_with() -> None:
    with pytest.raises(ConfigError, match="exchanged"):
        Explainer(ranker(LMS["llama"])).texts(queries(1), [3], shuffle=np.random.default_rng(0))
