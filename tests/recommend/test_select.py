"""The pointer head by hand, and stage 2 around a tiny language model: what is trained, what stays, what repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.recommend.conftest import WORLD, queries, ranker

from allmrec.core.training import TrainingConfig
from allmrec.data.splitting import leave_one_out
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.tokenising import PromptBudget
from allmrec.ranking import Query
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.select import PointerConfig, PointerHead
from allmrec.recommend.tune import TuneConfig, training_positions, tune
from allmrec.testing.tiny_lm import tiny_language_model


def test_pointer_logits_by_hand() -> None:
    head = PointerHead(2, PointerConfig(dim=2, query="answer", cf_prior=True))
    assert head.cf_weight is not None
    with torch.no_grad():
        head.cf_weight.fill_(3.0)
        for linear in (head.query, head.key):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
    # LayerNorm makes (1, -1) of any falling and (-1, 1) of any rising pair: products 2 and -2, over the root of 2.
    states = torch.tensor([[3.0, 1.0]]), [], torch.tensor([[[5.0, 1.0], [0.0, 4.0]]])
    logits = head(*states, torch.tensor([[7.0, 3.0]]))
    expected = np.array([2, -2]) / np.sqrt(2) + 3 * np.array([1, -1])
    np.testing.assert_allclose(logits[0].detach(), expected, atol=1e-4)


def test_with_the_cf_prior_it_starts_as_the_cf_models_ranking() -> None:
    head = PointerHead(4, PointerConfig(dim=3, query="answer", cf_prior=True))
    scores = torch.randn(2, 6)
    logits = head(torch.randn(2, 4), [], torch.randn(2, 6, 4), scores)
    assert torch.equal(logits.argsort(), scores.argsort())


@pytest.fixture(params=["opt", "llama"])
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return tiny_language_model(request.param)


def questions(count: int) -> tuple[list[Query], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return queries(count), [rng.permutation(np.arange(1, WORLD.n_items + 1))[:5] for _ in range(count)]


@pytest.mark.parametrize("method", ["select", "score"])
def test_a_batch_ranks_as_each_query_alone(lm: TransformersLM, method: str) -> None:
    model = LanguageRanker(ranker(lm), method, batch_size=4)
    users, candidates = questions(7)
    together = model.rank(users, candidates)
    for query, items, ranking in zip(users, candidates, together, strict=True):
        alone = model.rank([query], [items])[0]
        assert sorted(ranking.items.tolist()) == sorted(items.tolist())
        assert ranking.items.tolist() == alone.items.tolist()
        np.testing.assert_allclose(ranking.scores, alone.scores, atol=1e-4)


def test_both_losses_from_one_pass_equal_each_alone(lm: TransformersLM) -> None:
    made = ranker(lm)
    users, candidates = questions(4)
    targets = np.array([0, 1, 2, 3])
    both = made.losses(users, candidates, targets, title=True, select=True)
    title = made.losses(users, candidates, targets, title=True, select=False).title
    select = made.losses(users, candidates, targets, title=False, select=True).select
    torch.testing.assert_close(both.title, title)
    torch.testing.assert_close(both.select, select)


def test_the_title_loss_is_the_scored_likelihood(lm: TransformersLM) -> None:
    made = ranker(lm)
    users, candidates = questions(3)
    targets = np.array([4, 0, 2])
    likelihoods = made.title_likelihoods(users, candidates)
    steps = [row[t][row[t] != 0] for row, t in zip(likelihoods, targets, strict=True)]
    loss = made.losses(users, candidates, targets, title=True, select=False).title
    torch.testing.assert_close(loss, -torch.cat(steps).mean(), atol=1e-4, rtol=1e-4)


def small(**changes: object) -> TuneConfig:
    settings = {
        "title_weight": 0.5,
        "select_weight": 1.0,
        "candidates": 4,
        "validation_users": 5,
        "training": TrainingConfig(
            learning_rate=1e-3, batch_size=4, epochs=2, accumulation=2, clip_norm=1.0, warmup=0.1
        ),
    }
    return TuneConfig.model_validate(settings | changes)


def test_frozen_parts_keep_every_byte_and_the_rest_moves(lm: TransformersLM) -> None:
    made = ranker(lm)
    language = lm.frozen.snapshot()
    backbone = {n: t.clone() for n, t in made.backbone.state_dict().items()}  # type: ignore[attr-defined]  # SASRec is a torch module
    trained = {n: t.clone() for n, t in made.state_dict().items()}
    log = tune(made, leave_one_out(WORLD), small())
    assert all(torch.equal(language[n], t) for n, t in lm.frozen.module.state_dict().items())
    assert all(torch.equal(backbone[n], t) for n, t in made.backbone.state_dict().items())  # type: ignore[attr-defined]  # SASRec is a torch module
    assert not made.backbone.training  # type: ignore[attr-defined]  # SASRec is a torch module
    assert {n.split(".")[0] for n in trained} == {"users", "items", "head"}
    moved = [n for n, t in made.state_dict().items() if not torch.equal(trained[n], t)]
    assert {n.split(".")[0] for n in moved} == {"users", "items", "head"}
    assert {"validation/hit@1", "validation/margin", "loss/title", "loss/select"} <= set(log.records[-1])


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for _ in range(2):
        made = ranker(tiny_language_model())
        tune(made, leave_one_out(WORLD), small())
        states.append(made.state_dict())
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def test_training_positions() -> None:
    split = leave_one_out(WORLD, hold_out=2)
    # Sequences of six: four items train, of which the last two are held out from CF.
    for positions, places in (("last", [3]), ("held_out", [2, 3]), ("all", [1, 2, 3])):
        users, found = training_positions(split, positions)
        assert found[users == 0].tolist() == places
        assert len(found) == len(places) * WORLD.n_users


def test_recommend_leaves_out_what_was_seen() -> None:
    model = ALLMRec(WORLD, ranker(tiny_language_model()))
    user = WORLD.users.id(3)
    found = [r.item_id for r in model.recommend(user=user, k=5, candidates=8)]
    seen = {WORLD.items.id(int(i)) for i in WORLD.sequence(3)}
    assert len(set(found)) == 5
    assert not seen & set(found)


def test_without_item_slots_the_ends_of_titles_are_compared() -> None:
    made = ranker(tiny_language_model(), item_vectors=False, budget=PromptBudget())
    prompt = made.builder.build([1, 2], [3, 4, 5])
    last = [made.builder.titles[item][-1] for item in (3, 4, 5)]
    assert prompt.ids[prompt.candidates_at].tolist() == last
    assert prompt.ids[prompt.history_at].tolist() == [made.builder.titles[item][-1] for item in (1, 2)]
    found = LanguageRanker(made, "select").rank([Query(np.array([1, 2]))], [np.array([3, 4, 5])])[0]
    assert sorted(found.items.tolist()) == [3, 4, 5]
    assert len(set(found.scores.tolist())) == 3
