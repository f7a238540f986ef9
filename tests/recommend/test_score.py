"""Tree scoring against scoring titles one by one, on models with learned and with rotary positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.llm.language_model import LanguageModel
from allmrec.llm.transformers_lm import load_language_model
from allmrec.prompting.questions import DomainWords
from allmrec.prompting.splicing import splice
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, PromptBuilder
from allmrec.recommend import score
from allmrec.recommend.score import TitleTree, title_log_likelihoods
from allmrec.testing.tiny_lm import tiny_language_model

# Titles that begin other titles, that share beginnings, an equal pair, and a missing one.
TITLES = [None, "Heat", "Heat 2", "Heat 2: The Return", "The Matrix", "The Mask", "The Mask", "Alien", None, "Up"]


def one_by_one(lm: LanguageModel, row: dict[str, torch.Tensor], titles: list[tuple[int, ...]]) -> torch.Tensor:
    """The plain version: for each title a forward pass of its own over prompt and title."""
    results = []
    for title in titles:
        answer = [*title, lm.eos_id]
        embeddings = torch.cat([row["prompt"], lm.embed(torch.tensor(answer[:-1], dtype=torch.long))])[None]
        positions = torch.arange(embeddings.shape[1])[None]
        hidden = lm.hidden(embeddings, None, positions)[0]
        steps = torch.log_softmax(lm.logits(hidden[len(row["prompt"]) - 1 :]), dim=-1)
        results.append(steps[torch.arange(len(answer)), torch.tensor(answer)].sum())
    return torch.stack(results)


def check_tree_equals_one_by_one(lm: LanguageModel, tolerance: float) -> None:
    builder = PromptBuilder(
        PromptTemplate(words=DomainWords(verb="watch", past="watched", noun="movie")), PromptBudget(), lm, TITLES
    )
    histories = [[7], [4, 5, 9, 7], []]
    candidates = [[1, 2, 3, 4, 5], [6, 5, 8, 9, 3], [9, 7, 1, 2, 6]]
    prompts = [builder.build(h, c) for h, c in zip(histories, candidates, strict=True)]
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(3, lm.dim, generator=generator) * lm.embedding_scale
    slots = sum(len(h) + len(c) for h, c in zip(histories, candidates, strict=True))
    items = torch.randn(slots, lm.dim, generator=generator) * lm.embedding_scale
    batch = splice(prompts, lm, users, items)
    trees = [TitleTree.build([builder.titles[i] for i in c], lm.eos_id) for c in candidates]
    with torch.no_grad():
        found = title_log_likelihoods(lm, batch, trees)
        for row, chosen in enumerate(candidates):
            prompt = batch.embeddings[row, : int(batch.lengths[row])]
            expected = one_by_one(lm, {"prompt": prompt}, [builder.titles[i] for i in chosen])
            torch.testing.assert_close(found[row].sum(-1), expected, atol=tolerance, rtol=0)
            alone = splice([prompts[row]], lm, users[row : row + 1], _slots_of(items, histories, candidates, row))
            single = title_log_likelihoods(lm, alone, [trees[row]])[0]
            torch.testing.assert_close(found[row], single, atol=tolerance, rtol=0)


def _slots_of(items: torch.Tensor, histories: list[list[int]], candidates: list[list[int]], row: int) -> torch.Tensor:
    counts = np.cumsum([0] + [len(h) + len(c) for h, c in zip(histories, candidates, strict=True)])
    return items[counts[row] : counts[row + 1]]


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_tree_equals_one_by_one_tiny(kind: str) -> None:
    check_tree_equals_one_by_one(tiny_language_model(kind), 1e-4)


def test_a_row_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "_NUMBERS_AT_ONCE", 1)
    check_tree_equals_one_by_one(tiny_language_model("llama"), 1e-4)


@pytest.mark.slow
def test_tree_equals_one_by_one_smollm2() -> None:
    check_tree_equals_one_by_one(load_language_model("smollm2-135m-instruct", precision="float32"), 1e-4)


def test_tree_shares_beginnings_and_ends_titles() -> None:
    tree = TitleTree.build([(5, 6), (5, 6, 7), (5, 8)], eos=2)
    assert tree.tokens.tolist() == [5, 6, 7, 8]
    assert tree.parents.tolist() == [-1, 0, 1, 0]
    assert tree.depths.tolist() == [0, 1, 2, 1]
    assert tree.steps_title.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert tree.steps_token.tolist() == [5, 6, 2, 5, 6, 7, 2, 5, 8, 2]
    assert tree.steps_from.tolist() == [-1, 0, 1, -1, 0, 1, 2, -1, 0, 3]
