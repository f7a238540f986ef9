"""The answer's attention by group: groups partition a prompt, shares are those of a plain loop, nothing is left changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.recommend.conftest import queries, ranker

from allmrec.prompting.tokenising import PlaceKind
from allmrec.recommend.attention import AnswerAttention, Group, answer_attention, largest_gains, place_groups
from allmrec.recommend.prompted import PromptedRanker
from allmrec.testing.tiny_lm import tiny_language_model

CANDIDATES = [np.asarray(c) for c in ([3, 1, 7, 9], [9, 2, 3, 12], [5, 6, 7, 8], [4, 3, 2, 1], [30, 31, 8, 2])]
TARGETS = np.asarray([7, 9, 5, 1, 8])
PAPER: dict[str, object] = {}
COPY: dict[str, object] = {"template": {"form": "copy"}, "budget": {"title_tokens": 4}}
forms = pytest.mark.parametrize("prompt", [PAPER, COPY], ids=["paper", "copy"])
kinds = pytest.mark.parametrize("kind", ["llama", "opt"])


def made(kind: str, **prompt: object) -> PromptedRanker:
    return ranker(tiny_language_model(kind), **prompt)  # type: ignore[arg-type]  # fields by name


def of(groups: np.ndarray, group: Group) -> list[int]:
    return np.flatnonzero(groups == group.number).tolist()


def test_groups_of_the_papers_prompt() -> None:
    own = made("opt")
    titles, query = own.builder.titles, queries(5)[4]
    prompt = own.builder.build(query.history.tolist(), CANDIDATES[0].tolist())
    groups = place_groups(prompt, 7)
    slots = prompt.candidates_at.tolist()
    starts = [slot - len(titles[int(item)]) for slot, item in zip(slots, CANDIDATES[0], strict=True)]
    assert of(groups, Group.TARGET_SLOT) == [slots[2]]
    assert of(groups, Group.TARGET_TITLE_START) == [starts[2]]
    assert of(groups, Group.TARGET_TITLE_REST) == list(range(starts[2] + 1, slots[2]))
    assert of(groups, Group.OTHER_SLOTS) == [slots[0], slots[1], slots[3]]
    assert of(groups, Group.OTHER_TITLE_STARTS) == [starts[0], starts[1], starts[3]]
    assert of(groups, Group.USER_SLOT) == [1]
    history = [
        place
        for slot, item in zip(prompt.history_at.tolist(), prompt.history.tolist(), strict=True)
        for place in range(slot - len(titles[item]), slot + 1)
    ]
    assert of(groups, Group.HISTORY) == history
    words = prompt.ids[groups == Group.WORDS.number]
    assert own.lm.detokenize(words.tolist()).startswith(" is a user representation. This user has used [")
    assert own.lm.detokenize(words.tolist()).endswith("The recommendation is")
    assert of(groups, Group.WORDS)[0] == 0  # the BOS token


def test_groups_of_the_form_copy() -> None:
    own = made("llama", **COPY)
    prompt = own.builder.build([], CANDIDATES[0].tolist())
    groups = place_groups(prompt, 7)
    assert of(groups, Group.USER_SLOT) == [len(prompt) - 1]
    assert of(groups, Group.HISTORY) == []
    for place in of(groups, Group.TARGET_SLOT) + of(groups, Group.OTHER_SLOTS):
        assert prompt.kinds[place + 1] == PlaceKind.TITLE_START
        assert prompt.items[place + 1] == prompt.items[place]


def test_an_item_of_the_history_that_is_the_target_too_counts_as_history() -> None:
    prompt = made("llama").builder.build([7], [3, 7])
    groups = place_groups(prompt, 7)
    assert groups[prompt.history_at[0]] == Group.HISTORY.number
    assert groups[prompt.candidates_at[1]] == Group.TARGET_SLOT.number


@pytest.mark.parametrize("item", ['"{title}"{item}', "{item} ({title})", "{title}", "{item}"])
@pytest.mark.parametrize("form", ["paper", "copy"])
def test_slots_and_titles_are_found_in_any_template(item: str, form: str) -> None:
    own = made("llama", template={"form": form, "item": item})
    prompt = own.builder.build([2, 5], CANDIDATES[0].tolist())
    for number in CANDIDATES[0].tolist():
        mine = (prompt.items == number) & (prompt.kinds != PlaceKind.HISTORY)
        title = mine & (prompt.kinds != PlaceKind.SLOT)
        assert prompt.ids[title].tolist() == (list(own.builder.titles[number]) if "{title}" in item else [])
        assert (mine & (prompt.kinds == PlaceKind.SLOT)).sum() == ("{item}" in item)
        assert (mine & (prompt.kinds == PlaceKind.TITLE_START)).sum() == ("{title}" in item)


@kinds
@forms
def test_shares_are_those_of_a_plain_loop(kind: str, prompt: dict[str, object]) -> None:
    own = made(kind, **prompt)
    own.train()
    found = answer_attention(own, queries(5), CANDIDATES, TARGETS, batch_size=2)
    assert own.training
    assert (found.users, found.candidates) == (5, 4)
    own.eval()
    expected = np.zeros_like(found.shares)
    for query, items, target in zip(queries(5), CANDIDATES, TARGETS.tolist(), strict=True):
        prompts = own.prompts([query], [items])
        with torch.no_grad():
            spliced = own.spliced(prompts, own.user_states([query]))
        (weights,) = own.lm.attention(
            spliced.embeddings, spliced.visible, spliced.positions, torch.tensor([len(prompts[0]) - 1])
        ).numpy()
        for place, group in enumerate(place_groups(prompts[0], target).tolist()):
            expected[group] += weights[:, :, place] / 5
    np.testing.assert_allclose(found.shares, expected, atol=1e-5)


@kinds
@forms
def test_the_answers_place_sees_all_candidates_and_shares_sum_to_one(kind: str, prompt: dict[str, object]) -> None:
    found = answer_attention(made(kind, **prompt), queries(5), CANDIDATES, TARGETS)
    np.testing.assert_allclose(found.shares.sum(axis=0), 1, atol=1e-5)
    for group in Group:
        absent = prompt is COPY and group is Group.HISTORY
        assert (found.of(group) == 0).all() if absent else (found.of(group) > 0).all(), group


@kinds
def test_the_order_of_a_parallel_list_says_nothing(kind: str) -> None:
    order = [2, 0, 3, 1]
    given, turned = (
        answer_attention(made(kind, **COPY), queries(5), listed, TARGETS)
        for listed in (CANDIDATES, [items[order] for items in CANDIDATES])
    )
    np.testing.assert_allclose(given.shares, turned.shares, atol=1e-5)


def test_one_of_the_others_is_their_mean() -> None:
    seen = AnswerAttention(np.full((len(Group), 2, 3), 0.3), users=1, candidates=4)
    np.testing.assert_allclose(seen.of(Group.OTHER_TITLE_STARTS), 0.1)
    np.testing.assert_allclose(seen.of(Group.TARGET_TITLE_START), 0.3)


def test_the_largest_gain_comes_first() -> None:
    before, after = (np.zeros((len(Group), 2, 3)) for _ in range(2))
    after[Group.TARGET_TITLE_START.number] = [[0.1, 0, 0.5], [0.6, 0.2, 0]]
    before[Group.TARGET_TITLE_START.number, 1, 0] = 0.3
    after[Group.OTHER_TITLE_STARTS.number, 0, 2] = 0.3
    first, second = largest_gains(*(AnswerAttention(shares, 1, 4) for shares in (before, after)), count=2)
    assert (first.layer, first.head, first.before, first.after) == (1, 3, 0, 0.5)
    assert (first.others_before, round(first.others_after, 6)) == (0, 0.1)
    assert (second.layer, second.head) == (2, 1)
