"""What item slots carry, by hand; and stage 2 learns from it, with and without layers of the language model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.recommend.conftest import WORLD, ranker

from allmrec.alignment.joint_items import JointItemTable
from allmrec.core.errors import ConfigError
from allmrec.core.training import TrainingConfig
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.prompting.slots import SlotContents
from allmrec.prompting.tokenising import PromptBudget
from allmrec.ranking import Query
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import TuneConfig, tune
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.text import TitleSimilarity

TABLE = JointItemTable.of(
    torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]),
    torch.tensor([[0.0, 0.0], [10.0, 20.0], [30.0, 40.0]]),
    torch.tensor([False, True, True]),
)
COUNTS = torch.tensor([0, 0, 5])


def test_the_vector_that_counts_is_carried_as_it_is() -> None:
    slots = SlotContents("counts")
    assert slots.dim(TABLE) == 2
    assert not list(slots.parameters())
    assert torch.equal(slots(slots.table(TABLE))[1:], TABLE.cf[1:])
    assert torch.equal(slots(slots.table(TABLE.with_source("text")))[1:], TABLE.text[1:])


def test_both_stand_side_by_side() -> None:
    slots = SlotContents("both")
    assert slots.dim(TABLE) == 4
    assert slots(slots.table(TABLE))[1].tolist() == [1, 2, 10, 20]


def test_the_gate_mixes_by_interactions() -> None:
    slots = SlotContents("gate")
    assert slots.dim(TABLE) == 2
    found = slots(slots.table(TABLE, COUNTS)).detach()
    # σ(ln(1 + n) − ln 6): 1/7 where nobody took the item, one half at five interactions.
    np.testing.assert_allclose(found[1], np.array([1, 2]) / 7 + np.array([10, 20]) * 6 / 7, rtol=1e-5)
    np.testing.assert_allclose(found[2], np.array([3 + 30, 4 + 40]) / 2, rtol=1e-5)


def test_an_item_behind_the_counts_has_none_and_a_gate_needs_them() -> None:
    slots = SlotContents("gate")
    longer = TABLE.with_text_rows(torch.tensor([[5.0, 6.0]]))
    assert slots.table(longer, COUNTS)[3].tolist() == [5, 6, 5, 6, 0]
    with pytest.raises(ValueError, match="need the items' interaction counts"):
        slots.table(TABLE)


def knowing(titled: bool = True, **config: object) -> PromptedRanker:
    """A ranker whose joint and title vectors tell an item's taste, and whose CF model knows nothing."""
    made = ranker(tiny_language_model())
    tastes = np.zeros((WORLD.n_items + 1, 12), dtype=np.float32)
    for user in range(WORLD.n_users):
        tastes[WORLD.sequence(user), user % 4] = 4
    noise = torch.randn(tastes.shape, generator=torch.Generator().manual_seed(2))
    vectors = torch.from_numpy(tastes) + 0.1 * noise
    table = JointItemTable.of(vectors, vectors.flip(1).contiguous(), torch.ones(len(vectors), dtype=torch.bool))
    counts = leave_one_out(WORLD).train_counts()
    wanted = PromptConfig.model_validate({"budget": PromptBudget(max_history=4), **config})
    texts = TitleSimilarity(vectors, np.full(len(vectors), titled), centred=True)
    return PromptedRanker(made.lm, made.backbone, table, WORLD.catalogue.titles, wanted, counts=counts, texts=texts)


@pytest.mark.parametrize(
    "config",
    [{}, {"slots": "both"}, {"slots": "gate"}, {"pointer": {"layers": 0}}, {"user_vector": False}],
    ids=["e", "both", "gate", "no layer", "no user"],
)
def test_it_learns_the_tastes_of_a_known_world(config: dict[str, object]) -> None:
    made, split = knowing(**config), leave_one_out(WORLD)
    protocol = draw_protocol(split, "test", None, 5, 0)
    system = LanguageRanker(made, "select")

    def hit() -> float:
        return evaluate_rankers([system], protocol, split).systems[0].metrics["Hit@1"].value

    before = hit()
    training = TrainingConfig(learning_rate=3e-3, batch_size=8, epochs=12)
    wanted = TuneConfig(
        title_weight=0.0, select_weight=1.0, candidates=5, positions="all", validation_users=0, training=training
    )
    tune(made, split, wanted)
    assert hit() > max(0.6, before + 0.3)


@pytest.mark.parametrize("similarity", ["plain", "joint"])
def test_the_fused_prior_begins_with_what_texts_tell_before_any_step(similarity: str) -> None:
    made = knowing(pointer={"cf_prior": True, "prior": "fused", "similarity": similarity}, titled=similarity == "plain")
    if similarity == "plain":  # and not by the other way
        made = made.with_joint(
            JointItemTable.of(made.joint.cf, torch.zeros_like(made.joint.text), torch.zeros(len(made.joint.cf)) > 0)
        )
    split = leave_one_out(WORLD)
    protocol = draw_protocol(split, "test", None, 5, 0)
    system = LanguageRanker(made, "select")
    before = evaluate_rankers([system], protocol, split).systems[0].metrics["Hit@1"].value
    # Steps too small to learn anything by.
    training = TrainingConfig(learning_rate=1e-9, batch_size=8, epochs=1)
    wanted = TuneConfig(
        title_weight=0.0, select_weight=1.0, candidates=5, positions="all", validation_users=0, training=training
    )
    tune(made, split, wanted)
    assert made.head.fused_weights is not None
    assert float(made.head.fused_weights.detach()[0]) > 1  # similarity: here texts tell the taste
    assert evaluate_rankers([system], protocol, split).systems[0].metrics["Hit@1"].value > max(0.8, before + 0.3)


def test_the_fused_prior_needs_counts_and_texts() -> None:
    made = knowing()
    config = PromptConfig.model_validate({"pointer": {"cf_prior": True, "prior": "fused"}})
    parts = (made.lm, made.backbone, made.joint, WORLD.catalogue.titles, config)
    with pytest.raises(ConfigError, match="interaction counts"):
        PromptedRanker(*parts)
    with pytest.raises(ConfigError, match="similarity of titles"):
        PromptedRanker(*parts, counts=leave_one_out(WORLD).train_counts())


def test_another_prior_has_nothing_to_fit() -> None:
    made = knowing(pointer={"cf_prior": True})
    weight = made.head.cf_weight
    assert weight is not None
    made.prior_scores.fit(made.head, [])
    assert float(weight.detach()) == 2.5


@pytest.mark.parametrize("similarity", ["plain", "joint"])
def test_the_fused_prior_does_without_texts_where_there_are_none(similarity: str) -> None:
    """Similarity says nothing then, and the rest is fitted."""
    made = knowing(pointer={"cf_prior": True, "prior": "fused", "similarity": similarity}, titled=False)
    split = leave_one_out(WORLD)
    nothing = torch.zeros_like(made.joint.text)
    made = made.with_joint(JointItemTable.of(made.joint.cf, nothing, torch.zeros(len(nothing), dtype=torch.bool)))
    training = TrainingConfig(learning_rate=1e-3, batch_size=8, epochs=1)
    wanted = TuneConfig(
        title_weight=0.0, select_weight=1.0, candidates=5, positions="all", validation_users=0, training=training
    )
    log = tune(made, split, wanted)
    assert np.isfinite([record["loss/select"] for record in log.records]).all()
    query, candidates = Query(np.array([1, 2])), np.array([3, 4, 5])
    assert np.isfinite(LanguageRanker(made, "select").rank([query], [candidates])[0].scores).all()
