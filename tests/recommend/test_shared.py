"""Items read once for many users: the same loss, gradients, likelihoods and answers as prompts read one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.recommend.conftest import queries, ranker
from tests.support.architectures import build

from allmrec.core.errors import ConfigError
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.recommend.answering import answers, choices
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.item_blocks import ItemBlocks
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.score import mean_title_loss
from allmrec.testing.tiny_lm import tiny_language_model, tiny_tokenizer

COPY = {"template": {"form": "copy"}, "budget": {"title_tokens": 4}}
CANDIDATES = [np.asarray(c) for c in ([3, 1, 7, 9], [9, 2, 3, 12], [5, 6, 7, 8])]
TARGETS = np.asarray([2, 0, 3])


def made(kind: str, **prompt: object) -> PromptedRanker:
    config = {**COPY, **prompt}
    lm = tiny_language_model(kind) if kind in ("llama", "opt") else windowed(kind)  # type: ignore[arg-type]  # a kind of tiny models
    return ranker(lm, **config).eval()


def windowed(name: str) -> TransformersLM:
    """Gemma 2 with windows of 8 places in every other layer, or Llama 4 with chunks of 8."""
    tokenizer = tiny_tokenizer()
    return TransformersLM(build(name, len(tokenizer), max_position_embeddings=512), tokenizer, name)


def one_by_one(own: PromptedRanker) -> torch.Tensor:
    """The title loss of prompts that share nothing."""
    titles = own.builder.titles
    asked = queries(3)
    responses = [[*titles[int(c[t])], own.lm.eos_id] for c, t in zip(CANDIDATES, TARGETS, strict=True)]
    losses = []
    for query, items, response in zip(asked, CANDIDATES, responses, strict=True):
        prompts = own.prompts([query], [items])
        spliced = own.spliced(prompts, own.user_states([query]), [response[:-1]])
        hidden = own.lm.hidden(spliced.embeddings, spliced.visible, spliced.positions)
        losses.append(mean_title_loss(own.lm, hidden, [len(prompts[0])], [response]) * len(response))
    return torch.stack(losses).sum() / sum(map(len, responses))


@pytest.mark.parametrize("kind", ["llama", "opt", "gemma2", "llama4_text"])
@pytest.mark.parametrize("prompt", [{}, {"user_vector": False}, {"item_vectors": False}])
def test_a_shared_batch_has_the_loss_and_gradients_of_single_prompts(kind: str, prompt: dict[str, object]) -> None:
    own = made(kind, **prompt)
    shared = own.losses(queries(3), CANDIDATES, TARGETS, title=True, select=False).title
    assert shared is not None
    single = one_by_one(own)
    torch.testing.assert_close(shared, single)
    trained = [p for name, p in own.named_parameters() if not name.startswith("head")]
    for a, b in zip(
        torch.autograd.grad(shared, trained, allow_unused=True),
        torch.autograd.grad(single, trained, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "opt", "gemma2", "llama4_text"])
@pytest.mark.parametrize("prompt", [{}, {"user_vector": False}, {"item_vectors": False}])
def test_kept_items_give_the_same_likelihoods(kind: str, prompt: dict[str, object]) -> None:
    own = made(kind, **prompt)
    plain = own.title_likelihoods(queries(3), CANDIDATES)
    with own.keeping_items():
        for _ in range(2):  # the second time nothing is read anew
            for a, b in zip(own.title_likelihoods(queries(3), CANDIDATES), plain, strict=True):
                torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)


def test_kept_items_make_room_when_they_are_full() -> None:
    own = made("llama")
    plain = own.title_likelihoods(queries(3), CANDIDATES)
    with own.keeping_items():
        own.title_likelihoods(queries(1), CANDIDATES[:1])
        assert own._blocks is not None
        own._blocks._most = 5
        for n in range(3):
            (row,) = own.title_likelihoods(queries(3)[n : n + 1], CANDIDATES[n : n + 1])
            torch.testing.assert_close(row, plain[n].detach(), rtol=1e-4, atol=1e-4)
            assert len(own.kept_blocks.places) <= 5


def test_items_are_read_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    own = made("llama")
    plain = own.title_likelihoods(queries(3), CANDIDATES)
    read: list[int] = []
    reader = ItemBlocks._read
    monkeypatch.setattr(ItemBlocks, "_read", lambda self, items: read.extend(items) or reader(self, items))
    with own.keeping_items():
        for _ in range(2):
            for n in range(3):  # room for what is kept grows each time
                (row,) = own.title_likelihoods(queries(3)[n : n + 1], CANDIDATES[n : n + 1])
                torch.testing.assert_close(row, plain[n].detach(), rtol=1e-4, atol=1e-4)
    assert sorted(read) == sorted({int(item) for items in CANDIDATES for item in items})


@pytest.mark.parametrize("prompt", [{}, {"slots": "both"}, {"item_vectors": False}])
def test_an_item_that_comes_later_costs_its_own_reading_alone(prompt: dict[str, object]) -> None:
    own = made("llama", **prompt)
    text = own.joint.text
    table = own.joint.with_text_rows(torch.ones(1, text.shape[1]), torch.ones(1, dtype=torch.bool))
    new = len(text)
    with own.keeping_items():
        own.title_likelihoods(queries(3), CANDIDATES)
        assert own.kept_blocks.taken_counts() == (len({int(i) for items in CANDIDATES for i in items}), 0)
        other = own.with_items(table, ["A later item"])
        asked = [np.append(items[:3], new) for items in CANDIDATES]
        found = other.title_likelihoods(queries(3), asked)
        assert other.kept_blocks.taken_counts() == (1, len({int(i) for items in asked for i in items}) - 1)
        # What was there first still finds its own.
        own.title_likelihoods(queries(3), CANDIDATES)
        assert own.kept_blocks.taken_counts()[0] == 0
    other.keeps_items = False
    for a, b in zip(found, other.title_likelihoods(queries(3), asked), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)


def test_an_item_with_another_title_is_read_anew() -> None:
    own = made("llama")
    table = own.joint.with_text_rows(torch.ones(1, own.joint.text.shape[1]), torch.ones(1, dtype=torch.bool))
    new = len(own.joint.text)
    asked = [np.append(CANDIDATES[0][:3], new)]
    with own.keeping_items():
        first, second = (own.with_items(table, [title]) for title in ("Item 1", "Item 2"))
        before, after = (one.title_likelihoods(queries(1), asked)[0] for one in (first, second))
        assert own.kept_blocks.taken_counts() == (5, 3)
    second.keeps_items = False
    torch.testing.assert_close(after, second.title_likelihoods(queries(1), asked)[0].detach(), rtol=1e-4, atol=1e-4)
    assert not torch.equal(before, after)


def test_what_is_kept_is_given_up_at_the_end() -> None:
    own = made("llama")
    with own.keeping_items():
        own.title_likelihoods(queries(3), CANDIDATES)
        assert own.kept_blocks.states is not None
    assert own.kept_blocks.states is None
    assert not own.kept_blocks.places
    assert not own.keeps_items


def test_other_joint_vectors_are_read_anew() -> None:
    own = made("llama")
    text = own.joint.with_source("text")
    with own.keeping_items():
        before = own.title_likelihoods(queries(3), CANDIDATES)
        other = own.with_joint(text)
        after = other.title_likelihoods(queries(3), CANDIDATES)
    other.keeps_items = False
    plain = other.title_likelihoods(queries(3), CANDIDATES)
    for a, b, other in zip(after, plain, before, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(a, other)


def test_a_prompt_with_a_history_before_the_list_is_not_shared() -> None:
    own = made("llama", template={"form": "copy", "history": "Seen:{history}."})
    assert not own.builder.template.is_shared
    with own.keeping_items():
        assert own._kept_items() is None
    loss = own.losses(queries(3), CANDIDATES, TARGETS, title=True, select=False).title
    assert loss is not None
    torch.testing.assert_close(loss, one_by_one(own))


@pytest.mark.parametrize("kind", ["llama", "opt", "gemma2", "llama4_text"])
def test_the_order_of_a_parallel_list_says_nothing(kind: str) -> None:
    own = made(kind)
    order = np.asarray([2, 0, 3, 1])
    (given,) = own.title_likelihoods(queries(1), CANDIDATES[:1])
    (turned,) = own.title_likelihoods(queries(1), [CANDIDATES[0][order]])
    torch.testing.assert_close(turned.sum(-1), given.sum(-1)[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "opt", "gemma2", "llama4_text"])
def test_decoding_reads_a_parallel_prompt_as_scoring_does(kind: str) -> None:
    """The log-probability of a decoded answer is what scoring that answer as a title would give."""
    own = made(kind)
    found = answers(own, queries(3), CANDIDATES, GenerateConfig(max_new_tokens=5))
    for query, items, answer in zip(queries(3), CANDIDATES, found, strict=True):
        prompts = own.prompts([query], [items])
        tokens = [*answer.tokens, own.lm.eos_id] if answer.ended else list(answer.tokens)
        spliced = own.spliced(prompts, own.user_states([query]), [tokens[:-1]])
        hidden = own.lm.hidden(spliced.embeddings, spliced.visible, spliced.positions)
        loss = mean_title_loss(own.lm, hidden, [len(prompts[0])], [tokens]) * len(tokens)
        assert answer.log_probability == pytest.approx(-float(loss.detach()), rel=1e-3)


def test_constrained_choices_are_the_same_alone_and_together() -> None:
    own = made("llama")
    together = choices(own, queries(3), CANDIDATES)
    for n in range(3):
        (alone,) = choices(own, queries(3)[n : n + 1], CANDIDATES[n : n + 1])
        assert alone.candidate == together[n].candidate
        assert alone.log_probability == pytest.approx(together[n].log_probability, rel=1e-3)


@pytest.mark.parametrize("name", ["mamba", "bloom"])
def test_a_model_that_reads_in_order_is_refused_before_training(name: str) -> None:
    lm = windowed(name)
    with pytest.raises(ConfigError, match=r'form = "paper"'):
        ranker(lm, **COPY)


@pytest.mark.parametrize("name", ["mamba", "bloom", "gemma2"])
def test_the_paper_form_answers_alike_by_any_model(name: str) -> None:
    """Scores of titles, their loss, free and constrained answers on a batch are those of each query alone."""
    own = ranker(windowed(name)).eval()
    together = own.title_likelihoods(queries(3), CANDIDATES)
    written = answers(own, queries(3), CANDIDATES, GenerateConfig(max_new_tokens=4))
    chosen = choices(own, queries(3), CANDIDATES)
    for n, (query, items) in enumerate(zip(queries(3), CANDIDATES, strict=True)):
        (alone,) = own.title_likelihoods([query], [items])
        torch.testing.assert_close(together[n][:, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)
        assert answers(own, [query], [items], GenerateConfig(max_new_tokens=4))[0].text == written[n].text
        (choice,) = choices(own, [query], [items])
        assert choice.candidate == chosen[n].candidate
        assert choice.log_probability == pytest.approx(chosen[n].log_probability, rel=1e-3)
        # The loss on a title is what scoring it gives.
        loss = own.losses([query], [items], TARGETS[n : n + 1], title=True, select=True)
        assert loss.title is not None
        assert loss.select is not None
        target = int(TARGETS[n])
        count = len(own.builder.titles[int(items[target])]) + 1
        assert float(loss.title.detach()) == pytest.approx(-float(alone[target].sum().detach()) / count, rel=1e-3)
        assert torch.isfinite(loss.select)
