"""Tokenised prompts: slots where they belong, and the budget's order of giving way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ConfigError
from allmrec.prompting.splicing import splice
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder
from allmrec.testing.tiny_lm import tiny_language_model

LM = tiny_language_model("llama")
OPT = tiny_language_model("opt")
TITLES = [None, "Heat", "The Matrix", "A title that is a good deal longer than the other titles are", None, "Up"]


def builder(**budget: int | bool) -> PromptBuilder:
    return PromptBuilder(PromptTemplate(), PromptBudget(**budget), LM, TITLES)


def test_the_tokens_around_slots_say_the_prompt() -> None:
    prompt = builder().build([1], [2, 5])
    assert prompt.user_at == 0
    texts = np.delete(prompt.ids, [prompt.user_at, *prompt.history_at, *prompt.candidates_at])
    assert LM.detokenize(texts.tolist()) == (
        " is a user representation. This user has used [ Heat] in the past. Recommend an item for this user to use next "
        "from the following set of item titles, [ The Matrix, Up]. The recommendation is"
    )


def test_bos_comes_first_and_the_released_layout_puts_the_user_before_it() -> None:
    paper = PromptBuilder(PromptTemplate(), PromptBudget(), OPT, TITLES).build([1], [2])
    released = PromptBuilder(PromptTemplate(), PromptBudget(user_before_bos=True), OPT, TITLES).build([1], [2])
    assert paper.ids[0] == OPT.prefix_ids[0]
    assert paper.user_at == 1
    assert released.user_at == 0
    assert released.ids[1] == OPT.prefix_ids[0]


def test_long_titles_are_cut_and_counted() -> None:
    made = builder(title_tokens=3)
    made.build([3], [3])
    assert len(made.titles[3]) == 3
    assert LM.tokenize(" " + str(TITLES[3]))[:3] == list(made.titles[3])
    assert made.titles.cut == 1


def test_a_missing_title_is_said_to_be_missing() -> None:
    assert LM.detokenize(builder().titles[4]) == " untitled item"


def test_an_over_long_prompt_drops_the_oldest_history_first() -> None:
    free = builder().build([1, 3, 2], [1])
    tight = builder(prompt_tokens=len(free) - 1)
    prompt = tight.build([1, 3, 2], [1])
    assert prompt.history.tolist() == [3, 2]
    assert prompt.dropped == 1
    assert tight.dropped_history == 1
    with pytest.raises(ConfigError, match="3 candidates"):
        builder(prompt_tokens=30).build([1], [1, 2, 3])


def test_only_the_latest_history_is_shown() -> None:
    assert builder(max_history=2).build([1, 2, 5], [1]).history.tolist() == [2, 5]
    assert builder(max_history=0).build([1, 2, 5], [1]).history.tolist() == []


@given(history=st.lists(st.integers(1, 5), max_size=12), candidates=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_slots_match_items_and_vectors_land_in_them(history: list[int], candidates: list[int]) -> None:
    prompt = builder(max_history=12).build(history, candidates)
    assert prompt.history.tolist() == history
    assert len(prompt.candidates_at) == len(candidates)
    items = torch.arange(1.0, 1 + len(history) + len(candidates))[:, None].expand(-1, LM.dim)
    spliced = splice([prompt], LM, torch.full((1, LM.dim), -1.0), items)
    assert spliced.embeddings[0, prompt.user_at, 0] == -1
    places = np.concatenate([prompt.history_at, prompt.candidates_at])
    assert spliced.embeddings[0, places, 0].tolist() == items[:, 0].tolist()


def test_prompts_with_different_numbers_of_candidates_do_not_share_a_batch() -> None:
    made = builder()
    prompts = [made.build([], [1]), made.build([], [1, 2])]
    with pytest.raises(ValueError, match="same number"):
        splice(prompts, LM, torch.zeros(2, LM.dim), torch.zeros(3, LM.dim))


@given(candidates=st.lists(st.integers(1, 5), min_size=1, max_size=6), cut=st.integers(1, 6))
def test_a_parallel_lists_candidates_begin_together_and_do_not_see_one_another(candidates: list[int], cut: int) -> None:
    made = PromptBuilder(PromptTemplate(form="copy"), PromptBudget(title_tokens=cut), OPT, TITLES)
    prompt, sees = made.build([1], candidates), made.build([1], candidates).visible()
    first = int(np.argmax(prompt.blocks == 0))
    assert prompt.history.tolist() == []
    assert prompt.positions[:first].tolist() == list(range(first))
    for block in range(len(candidates)):
        own = np.flatnonzero(prompt.blocks == block)
        assert prompt.positions[own].tolist() == list(range(first, first + len(own)))
        assert sees[own[-1], own].all()
        assert not sees[np.ix_(own, np.flatnonzero((prompt.blocks >= 0) & (prompt.blocks != block)))].any()
        assert sees[np.ix_(own, np.arange(first))].all()
    assert prompt.user_at == len(prompt) - 1
    assert sees[prompt.user_at].all()
    assert prompt.positions[prompt.user_at] == first + 1 + cut
